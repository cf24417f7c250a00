"""The axis legend and every state type.

Axes, in this order wherever several meet:

====  ==========================================================
K     lanes (seeds of all cells); only outside ``algorithms/``
C     capacity of the replay, in sequences
T     slots per sequence
M     sequences per minibatch
B     parallel environments
N     agents
A     actions
O     observation features per agent
G     features of the global state
H     hidden units of the recurrent agent
====  ==========================================================

Types describe one seed and one sample; leading axes come from ``vmap`` and ``scan``.
They are NamedTuples: plain pytrees, built by keyword and changed with ``_replace``.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

EnvState = Any
"""The internal state of an environment: any pytree of arrays."""


class TimeStep(NamedTuple):
    """The observation of one time step, before the agents act."""

    obs: Float[Array, "*batch N O"]
    avail_actions: Bool[Array, "*batch N A"]
    state: Float[Array, "*batch G"]


class Outcome(NamedTuple):
    """The outcome of a joint action, apart from the next :class:`TimeStep`.

    ``discount`` is 0 where the episode terminated and 1 otherwise; a time limit that is not part of the task leaves it
    at 1. ``last`` is true where the episode is over, for either reason. ``won`` only has a meaning on the last
    transition of an episode, in environments with ``has_win_rate``. ``reward`` is the team's, or with
    ``individual_reward`` one for each agent, ``[*batch, N]``.
    """

    reward: Float[Array, "*batch"]
    discount: Float[Array, "*batch"]
    last: Bool[Array, "*batch"]
    won: Bool[Array, "*batch"]


class Slot(NamedTuple):
    """One entry of a stored sequence.

    An episode of L transitions fills L + 1 slots. Slot t holds the observation, the action taken there and that
    action's reward and discount. The last slot of an episode holds the true final observation, has ``mask`` 0 and
    is only there to bootstrap from; the slot after it starts a new episode with ``first`` set.
    The last slot of a sequence has no successor, so its ``mask`` is 0 as well.
    """

    step: TimeStep
    action: Int[Array, "*batch N"]
    reward: Float[Array, "*batch"]
    discount: Float[Array, "*batch"]
    mask: Float[Array, "*batch"]
    first: Bool[Array, "*batch"]


class EntityRows(NamedTuple):
    """Where an observation has the entities of one kind: ``rows`` rows of ``features`` numbers from ``start`` on."""

    start: int
    rows: int
    features: int

    @property
    def end(self) -> int:
        """The number after the last row."""
        return self.start + self.rows * self.features


class Entities(NamedTuple):
    """Which entities an observation shows; what is in no row is the agent's own. Rows of unseen ones are zero."""

    kinds: tuple[EntityRows, ...]
    targets: int | None = None
    """The kind that actions name, in the order of its rows; None if actions name nobody."""
    first_target: int = 0
    """The action that names the first of them."""
    mixed: bool = False
    """Whether these actions of some agents name others instead (SMAX's healers name allies)."""


Targets = Float[Array, "*batch E H"] | None
"""Embeddings of the entities that actions name, for agents that see entities (``networks/entities.py``)."""


class Perceived(NamedTuple):
    """What an agent's layers read of an observation."""

    features: Float[Array, "*batch I"]
    """Read by the first layer."""
    targets: Targets = None
    """Read by the output layer."""


def empty_slots(env: Any, *shape: int, xp: Any = jnp) -> Slot:
    """Slots of zeros with the axes ``shape``, for the sizes of an ``Env``; ``xp=numpy`` makes them to be filled."""

    def zeros(*size: int, dtype: Any = jnp.float32) -> Any:
        return xp.zeros((*shape, *size), dtype)

    return Slot(
        step=TimeStep(
            obs=zeros(env.num_agents, env.obs_size),
            avail_actions=zeros(env.num_agents, env.num_actions, dtype=bool),
            state=zeros(env.state_size),
        ),
        action=zeros(env.num_agents, dtype=jnp.int32),
        reward=zeros(*env.reward_shape),
        discount=zeros(),
        mask=zeros(),
        first=zeros(dtype=bool),
    )


class Start(NamedTuple):
    """What a team remembers at the first slot of a sequence that goes on from an earlier one."""

    hidden: Float[Array, "*batch N H"]
    last_action: Int[Array, "*batch N"]
    burn_in: Any = None
    """Slots ``[T, *batch]`` to be unrolled from ``hidden`` before the sequence, without a loss; None in the replay."""


class Replay(NamedTuple):
    """A ring of the newest C sequences."""

    slots: Any
    """Packed sequences ``[C, T]``: see ``replay/packing.py``."""
    priority: Float[Array, " C"]
    max_priority: Float[Array, ""]
    """The largest priority seen so far; new sequences get it."""
    cursor: Int[Array, ""]
    size: Int[Array, ""]
    starts: Any = None
    """What each sequence started from, a :class:`Start` ``[C]``; None where all start with an episode."""


Networks = Any
"""Parameters of all networks that an algorithm trains: a NamedTuple whose field ``agent`` holds those that act."""


class Params(NamedTuple):
    """Parameters of the agent network and of the mixer (flax variable collections)."""

    agent: Any
    mixer: Any


class Statistics(NamedTuple):
    """Mean and variance of all numbers seen so far."""

    mean: Float[Array, ""]
    variance: Float[Array, ""]
    seen: Float[Array, ""]


class Learner(NamedTuple):
    """The state that updates change."""

    online: Networks
    target: Networks
    opt_state: Any
    """Optimiser state for all parameters of ``online`` as one vector."""
    updates: Int[Array, ""]
    target_episodes: Int[Array, ""]
    """Episodes finished when the target network was last copied; only used if its interval counts episodes."""
    nonfinite_update: Int[Array, ""]
    """The first update with non-finite numbers, or -1; neither it nor any later update was applied."""
    max_reward: Float[Array, ""]
    """Largest ``|reward|`` in the targets so far."""
    rewards: Statistics
    returns: Statistics
    """``rewards`` and ``returns`` in the targets so far; only used where they are standardised."""


class Evaluation(NamedTuple):
    """Means over the greedy episodes of one evaluation; ``win_rate`` is NaN if the environment has none."""

    episode_return: Float[Array, ""]
    win_rate: Float[Array, ""]
    episode_length: Float[Array, ""]


class Best(NamedTuple):
    """The agent with the highest greedy evaluation so far (win rate first, then return)."""

    agent: Any
    evaluation: Evaluation
    env_steps: Int[Array, ""]


class TrainState(NamedTuple):
    """The complete state of one seed between iterations."""

    key: Key[Array, ""]
    replay: Replay
    learner: Learner
    best: Best
    env_steps: Int[Array, ""]
    episodes: Int[Array, ""]
    actors: Any = None
    """Where sequences continue, the environments between iterations (``acting/continuing.py``)."""


class HyperParams(NamedTuple):
    """Numbers that may differ between lanes of one compiled program (traced scalars)."""

    learning_rate: Float[Array, ""]
    learning_rate_end: Float[Array, ""]
    learning_rate_steps: Float[Array, ""]
    """Environment steps over which the learning rate goes from start to end, linearly."""
    gamma: Float[Array, ""]
    td_lambda: Float[Array, ""]
    exploration_start: Float[Array, ""]
    exploration_end: Float[Array, ""]
    exploration_steps: Float[Array, ""]
    """Environment steps over which epsilon, or the temperature, goes from start to end."""
    target_update_interval: Int[Array, ""]
    target_tau: Float[Array, ""]
    max_grad_norm: Float[Array, ""]
    reward_scale: Float[Array, ""]
    priority_alpha: Float[Array, ""]
    priority_beta: Float[Array, ""]
    priority_beta_steps: Float[Array, ""]
    """Environment steps over which beta goes from ``priority_beta`` to 1, linearly."""
    preferences_end: Float[Array, ""] | float = 1.0
    """Environment steps over which the chance of a team's preference falls to 0, linearly."""
