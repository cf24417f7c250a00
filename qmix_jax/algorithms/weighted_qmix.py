"""Weighted QMIX (Rashid et al. 2020): CW-QMIX and OW-QMIX."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from qmix_jax.acting.explore import masked_argmax
from qmix_jax.algorithms import pieces
from qmix_jax.algorithms.base import Algorithm, LossInfo
from qmix_jax.algorithms.value_decomposition import ValueDecomposition, init_mixer, mixed
from qmix_jax.errors import require, unknown_choice
from qmix_jax.learning.values import action_values, joint_values, mixer_inputs
from qmix_jax.mixers.base import MixerInput, example_input
from qmix_jax.networks.agents import AnyAgent, init_agent
from qmix_jax.networks.dense import Dense
from qmix_jax.networks.separate import SeparateAgents
from qmix_jax.replay.sequences import Minibatch
from qmix_jax.types import HyperParams, Learner, Slot, Start

WEIGHTINGS = ("central", "optimistic")


class WeightedNetworks(NamedTuple):
    """Parameters of all networks; only ``agent`` acts."""

    agent: Any
    mixer: Any
    central_agent: Any
    central_mixer: Any


class CentralMixer(nn.Module):
    """``Q*(s, u) = f([s, q_1(u_1) .. q_N(u_N)]) + V(s)``, neither monotone nor from hypernetworks.

    Attributes:
        embed_size: units of each hidden layer: three of ``f``, one of ``V``.
    """

    embed_size: int

    @nn.compact
    def __call__(self, inputs: MixerInput) -> Float[Array, ""]:
        """The joint value of the chosen values and the state."""
        size = self.embed_size
        value = Dense((size, 1), name="value")(inputs.state)
        return (Dense((size, size, size, 1), name="net")(jnp.concatenate([inputs.state, inputs.chosen])) + value)[0]


class Values(NamedTuple):
    """What the losses of a minibatch are made of."""

    q_tot: Float[Array, "T M"]
    """Monotone, of the actions taken; online."""
    central: Float[Array, "T M"]
    """Unrestricted, of the actions taken; online."""
    target: Float[Array, "T M"]
    """Unrestricted, of the greedy actions; by the target networks."""
    taken_target: Float[Array, "T M"]
    """Unrestricted, of the actions taken; by the target networks."""
    is_greedy: Bool[Array, "T M"]
    """Whether every agent took its greedy action."""


@dataclasses.dataclass(frozen=True)
class WeightedQMIX(ValueDecomposition):
    """QMIX projected with weights onto an unrestricted joint value ``Q*`` that is learned beside it.

    ``loss = qmix_weight mean(w (Q_tot - y)^2) + central_weight mean((Q* - y)^2)`` (equations 6 and 9), where ``y``
    bootstraps from the target copy of ``Q*`` at the agents' greedy actions. The weight ``w`` is 1 or ``alpha``:

    - ``optimistic`` (OW, equation 8): 1 where ``Q_tot < y``.
    - ``central`` (CW, equation 7): 1 where the joint action is greedy or ``y`` exceeds the value of the greedy one.

    Attributes:
        weighting: ``central`` or ``optimistic``.
        alpha: the weight of the other transitions.
        central_embed_size: hidden units of the central mixer.
        central_hidden_size: hidden units of the central agents; None is as many as the agents have.
        central_weight: factor on the loss of ``Q*``.
        qmix_weight: factor on the loss of ``Q_tot``.
    """

    weighting: str = "optimistic"
    alpha: float = 0.1
    central_embed_size: int = 256
    central_hidden_size: int | None = None
    central_weight: float = 1.0
    qmix_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.weighting not in WEIGHTINGS:
            raise unknown_choice("algorithm.weighting", self.weighting, WEIGHTINGS)
        require(0 <= self.alpha <= 1, "algorithm.alpha", self.alpha, "between 0 and 1")
        require(self.central_embed_size >= 1, "algorithm.central_embed_size", self.central_embed_size, "at least 1")
        size = self.central_hidden_size
        fits = size is None or (isinstance(size, int) and not isinstance(size, bool) and size >= 1)
        require(fits, "algorithm.central_hidden_size", size, "null or a whole number of at least 1")
        for name in ("central_weight", "qmix_weight"):
            require(getattr(self, name) > 0, f"algorithm.{name}", getattr(self, name), "more than 0")

    def check(self, algorithm: Algorithm) -> None:
        """The mixer must give one value for the team."""
        pieces.require_team_value(algorithm, "weighted QMIX")

    def init(self, algorithm: Algorithm, agent: Any, key: Key[Array, ""]) -> WeightedNetworks:
        """Agents, mixer, and their central counterparts."""
        env = algorithm.env
        mixer_key, agent_key, central_key = jax.random.split(key, 3)
        example = example_input(env.num_agents, env.num_actions, env.state_size)
        return WeightedNetworks(
            agent=agent,
            mixer=init_mixer(algorithm, mixer_key),
            central_agent=init_agent(self.central_agent(algorithm), env.obs_size, agent_key),
            central_mixer=CentralMixer(self.central_embed_size).init(central_key, example),
        )

    def loss(
        self,
        algorithm: Algorithm,
        hyper: HyperParams,
        online: WeightedNetworks,
        learner: Learner,
        minibatch: Minibatch,
        transitions: Float[Array, ""] | None = None,
    ) -> tuple[Float[Array, ""], LossInfo]:
        """Both losses together; see the class."""
        batch = minibatch.slots
        values = self.values(algorithm, online, learner.target, batch, minibatch.start)
        y, returns = pieces.targets(algorithm, hyper, learner, batch, values.target, values.taken_target)
        td_error = (values.q_tot - y) * batch.mask
        central_error = (values.central - y) * batch.mask
        weights = self.weights(values, y)
        count = pieces.transition_count(batch, transitions)
        qmix_loss = pieces.masked_mean(weights * td_error**2, minibatch, count)
        central_loss = pieces.masked_mean(central_error**2, minibatch, count)
        others = {
            "central_td_error": jnp.abs(central_error).sum() / count,
            "weight_mean": (weights * batch.mask).sum() / count,
        }
        info = pieces.loss_info(algorithm, hyper, learner, batch, values.q_tot, y, returns, count, **others)
        return self.qmix_weight * qmix_loss + self.central_weight * central_loss, info

    def values(
        self,
        algorithm: Algorithm,
        online: WeightedNetworks,
        target: WeightedNetworks,
        batch: Slot,
        start: Start | None = None,
    ) -> Values:
        """The values that the losses compare."""
        online_q, target_q = (
            action_values(algorithm.agent, networks.agent, batch, start) for networks in (online, target)
        )
        greedy_action = pieces.deciding_action(algorithm, online_q, target_q, batch)
        central_agent = self.central_agent(algorithm)
        if start is not None:  # central agents do not act, so nobody knows what they remember
            start = start._replace(hidden=central_agent.initial_hidden(batch.mask.shape[1]))
        online_central, target_central = (
            action_values(central_agent, networks.central_agent, batch, start) for networks in (online, target)
        )

        def central(networks: WeightedNetworks, q: Array, action: Array) -> Float[Array, "T M"]:
            inputs = mixer_inputs(q, action, batch.step)
            return joint_values(CentralMixer(self.central_embed_size), networks.central_mixer, inputs)

        own = masked_argmax(jax.lax.stop_gradient(online_q), batch.step.avail_actions)
        return Values(
            q_tot=mixed(algorithm, online, online_q, batch.action, batch),
            central=central(online, online_central, batch.action),
            target=central(target, target_central, greedy_action),
            taken_target=central(target, target_central, batch.action),
            is_greedy=(own == batch.action).all(axis=-1),
        )

    def weights(self, values: Values, y: Float[Array, "T M"]) -> Float[Array, "T M"]:
        """What the squared errors of ``q_tot`` count; without a gradient."""
        emphasised = {"optimistic": values.q_tot < y, "central": values.is_greedy | (y > values.target)}
        return jnp.where(emphasised[self.weighting], 1.0, self.alpha)

    def central_agent(self, algorithm: Algorithm) -> AnyAgent:
        """The network of the central agents."""
        agent: Any = algorithm.agent
        if self.central_hidden_size is None:
            return agent
        if isinstance(agent, SeparateAgents):
            return agent._replace(one=agent.one.clone(hidden_size=self.central_hidden_size))
        return agent.clone(hidden_size=self.central_hidden_size)
