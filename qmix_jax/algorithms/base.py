"""What the loop asks of an algorithm, and the static parts that a program is compiled for."""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from qmix_jax.acting.explore import Exploration, epsilon_greedy
from qmix_jax.acting.preferences import NONE, Preferences
from qmix_jax.envs.base import Env
from qmix_jax.learning.targets import Sequence
from qmix_jax.networks.agents import AnyAgent
from qmix_jax.replay import packing as storage
from qmix_jax.replay.sequences import Minibatch
from qmix_jax.types import HyperParams, Learner, Networks, Slot, Start, Statistics

Metrics = dict[str, Float[Array, ""]]


class LossInfo(NamedTuple):
    """What comes out of a minibatch, or of a part of it, besides its loss."""

    metrics: Metrics
    """Means over the minibatch; of a part what it adds to them."""
    q_tot_max: Float[Array, ""]
    """The largest absolute joint value."""
    max_reward: Float[Array, ""]
    """The largest absolute reward, as it enters the targets."""
    priority: Float[Array, " M"]
    """New priorities of the sequences."""
    returns: Statistics
    """Statistics of the returns, where these are standardised."""


class Method:
    """An algorithm: which networks it trains, and by which loss.

    Derive from this class, one file for each algorithm, and name the class in ``conf/algorithm/<name>.yaml`` as
    ``algorithm._target_``. Arguments of its constructor are settings ``algorithm.<argument>``. The loop and the
    gradient step know nothing else about it: they collect episodes, sample minibatches, differentiate :meth:`loss` by
    all networks, step, and update the copies of all networks that are the targets.
    """

    def check(self, algorithm: "Algorithm") -> None:
        """Raise :class:`qmix_jax.errors.ConfigError` where a part does not fit this method. Nothing is refused here."""

    def init(self, algorithm: "Algorithm", agent: Any, key: Key[Array, ""]) -> Networks:
        """All trained networks: a NamedTuple of parameters whose field ``agent`` is the given one.

        Only ``agent`` acts: execution stays decentralised whatever else is trained.
        """
        raise NotImplementedError

    def loss(
        self,
        algorithm: "Algorithm",
        hyper: HyperParams,
        online: Networks,
        learner: Learner,
        minibatch: Minibatch,
        transitions: Float[Array, ""] | None = None,
    ) -> tuple[Float[Array, ""], LossInfo]:
        """The loss of a minibatch, or what a part of a minibatch adds to it: a sum over its transitions.

        Args:
            algorithm: the parts.
            hyper: the numbers.
            online: the networks to differentiate by.
            learner: its target networks and statistics are read.
            minibatch: sequences, time first.
            transitions: transitions of the whole minibatch where ``minibatch`` is a part of it; None counts them here.
                Means divide by it, so that the losses of all parts add up to the whole's.
        """
        raise NotImplementedError

    def warning_signs(
        self,
        algorithm: "Algorithm",
        hyper: HyperParams,
        learner: Learner,
        batch: Slot,
        start: Start | None = None,
    ) -> Metrics:
        """Early signs of trouble, from one minibatch: metrics of its own. None here.

        ``start`` is what the sequences of ``batch`` started from, where they continue.
        """
        del algorithm, hyper, learner, batch, start
        return {}


class TargetUpdate(enum.Enum):
    """When the target network follows: a copy after so many updates or episodes, or a step at every update."""

    UPDATES = "updates"
    EPISODES = "episodes"
    SOFT = "soft"
    ONLINE = "online"
    """There is none: targets are computed by the network that is trained."""


class Sizes(NamedTuple):
    """The static numbers of the loop."""

    num_envs: int
    length: int
    auto_reset: bool
    capacity: int
    batch_size: int
    updates_per_iteration: int
    warmup_iterations: int
    iterations_per_epoch: int
    evaluation_episodes: int
    evaluation_seed: int
    minibatch_parts: int = 1
    """Parts that a minibatch is processed in."""
    devices_per_seed: int = 1
    """Devices that share these parts."""
    shared_replay: bool = False
    """Whether each of these devices keeps only a part of the replay."""
    continues: bool = False
    """A sequence goes on where the one before has ended."""
    burn_in: int = 0
    """Slots before each sequence that are only unrolled, for the hidden state."""
    memory_window: int = 0
    """Slots before each sequence that are learned from once more."""

    @property
    def replay_devices(self) -> int:
        """Devices that a replay is spread over."""
        return self.devices_per_seed if self.shared_replay else 1

    @property
    def window(self) -> int:
        """Slots of the sequence before that are stored with each sequence."""
        return self.burn_in + self.memory_window


class Algorithm(NamedTuple):
    """The parts that a program is compiled for."""

    method: Method
    env: Env
    agent: AnyAgent
    """Acts, and is trained."""
    mixer: nn.Module
    target: Callable[[Sequence, Array, Array], Float[Array, "T *batch"]]
    optimizer: optax.GradientTransformation
    sizes: Sizes
    double_q: bool = True
    target_update: TargetUpdate = TargetUpdate.UPDATES
    prioritised: bool = False
    replacement: bool = True
    on_policy: bool = False
    """Learn from the newest sequences in whole passes, instead of sampling from a replay."""
    explore: Exploration = epsilon_greedy
    exploration_level: str = "epsilon"
    """What the level of ``explore`` is called among the metrics."""
    exponential_exploration: bool = False
    preferences: Preferences = NONE
    half_loss: bool = False
    standardise_rewards: bool = False
    standardise_returns: bool = False
    obs_dtype: Any = jnp.float32
    """Of the observations and states in the replay."""

    @property
    def storage(self) -> storage.Storage:
        """How slots are kept in the replay."""
        return storage.storage_for(self.env, self.obs_dtype)
