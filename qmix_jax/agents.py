"""The agent network: individual action values from an agent's own observation and history (DRQN).

Every agent has the same parameters. The network reads the observation, the last action and the agent's number. The
first layer is split by input (``obs @ W_obs + one_hot(last_action) @ W_action + W_id``), which equals one dense layer
on the concatenation without ever building it.
"""

import math
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from qmix_jax.errors import require
from qmix_jax.initializers import uniform_fan_in
from qmix_jax.recurrent import GateInputs, RecurrentWeights, gate_inputs, gru_step, gru_unroll

NO_ACTION = -1
"""The last action at the start of an episode: its one-hot code is all zeros."""


class RecurrentAgent(nn.Module):
    """Dense, ReLU, GRU, Dense (Hausknecht & Stone 2015; Rashid et al. 2018, figure 2c), shared by all agents.

    Initialised as PyTorch does: uniform in ±1/sqrt(fan_in), for the GRU in ±1/sqrt(hidden_size).
    """

    obs_size: int
    num_agents: int
    num_actions: int
    hidden_size: int = 64
    last_action: bool = True
    agent_id: bool = True

    def __post_init__(self) -> None:
        require(self.hidden_size >= 1, "agent.hidden_size", self.hidden_size, "at least 1")
        super().__post_init__()

    def setup(self) -> None:
        """Declare the parameters."""
        hidden = self.hidden_size
        fan_in = self.obs_size + self.last_action * self.num_actions + self.agent_id * self.num_agents
        first, recurrent = uniform_fan_in(fan_in), uniform_fan_in(hidden)
        self.obs_kernel = self.param("obs_kernel", first, (self.obs_size, hidden))
        if self.last_action:
            self.last_action_kernel = self.param("last_action_kernel", first, (self.num_actions, hidden))
        if self.agent_id:
            self.agent_id_kernel = self.param("agent_id_kernel", first, (self.num_agents, hidden))
        self.first_bias = self.param("first_bias", first, (hidden,))
        self.gru_input_kernel = self.param("gru_input_kernel", recurrent, (hidden, 3 * hidden))
        self.gru_input_bias = self.param("gru_input_bias", recurrent, (3 * hidden,))
        self.gru_hidden_kernel = self.param("gru_hidden_kernel", recurrent, (hidden, 3 * hidden))
        self.gru_hidden_bias = self.param("gru_hidden_bias", recurrent, (3 * hidden,))
        self.q_kernel = self.param("q_kernel", recurrent, (hidden, self.num_actions))
        self.q_bias = self.param("q_bias", recurrent, (self.num_actions,))

    def __call__(
        self, hidden: Float[Array, "*batch N H"], obs: Float[Array, "*batch N O"], last_action: Int[Array, "*batch N"]
    ) -> tuple[Float[Array, "*batch N H"], Float[Array, "*batch N A"]]:
        """One step for acting: the new hidden state and the value of every action."""
        hidden = gru_step(self._recurrent_weights(), self._gate_inputs(obs, last_action), hidden)
        return hidden, self._values(hidden)

    def unroll(
        self,
        obs: Float[Array, "T *batch N O"],
        last_action: Int[Array, "T *batch N"],
        first: Bool[Array, "T *batch"],
    ) -> Float[Array, "T *batch N A"]:
        """Action values along a sequence that starts from zero hidden state; ``first`` starts a new episode."""
        length, rows, hidden_size = obs.shape[0], math.prod(obs.shape[1:-1]), self.hidden_size
        inputs = GateInputs(*(x.reshape(length, rows, hidden_size) for x in self._gate_inputs(obs, last_action)))
        keep = jnp.broadcast_to(~first[..., None], obs.shape[:-1]).reshape(length, rows, 1).astype(obs.dtype)
        hidden = gru_unroll(self._recurrent_weights(), inputs, keep)
        return self._values(hidden.reshape(-1, hidden_size)).reshape(*obs.shape[:-1], self.num_actions)

    def initial_hidden(self, *batch: int) -> Float[Array, "*batch N H"]:
        """The hidden state at the start of an episode."""
        return jnp.zeros((*batch, self.num_agents, self.hidden_size))

    def _gate_inputs(self, obs: Float[Array, "*batch N O"], last_action: Int[Array, "*batch N"]) -> GateInputs:
        # Flat matrices: with several leading axes XLA's CPU backend takes twice as long for the weight gradients.
        batch = obs.shape[:-1]
        x = obs.reshape(-1, self.obs_size) @ self.obs_kernel + self.first_bias[None]
        if self.last_action:
            one_hot = jax.nn.one_hot(last_action.reshape(-1), self.num_actions, dtype=obs.dtype)
            x = x + one_hot @ self.last_action_kernel
        x = x.reshape(*batch, self.hidden_size)
        if self.agent_id:
            x = x + _expand(self.agent_id_kernel, x.ndim)
        x = nn.relu(x).reshape(-1, self.hidden_size)
        inputs = gate_inputs(x, self.gru_input_kernel, self.gru_input_bias, self.gru_hidden_bias)
        return GateInputs(*(gate.reshape(*batch, self.hidden_size) for gate in inputs))

    def _recurrent_weights(self) -> RecurrentWeights:
        return RecurrentWeights(self.gru_hidden_kernel, self.gru_hidden_bias[2 * self.hidden_size :])

    def _values(self, hidden: Float[Array, "*rows H"]) -> Float[Array, "*rows A"]:
        return hidden @ self.q_kernel + _expand(self.q_bias, hidden.ndim)


def act(
    agent: RecurrentAgent,
    params: Any,
    hidden: Float[Array, "*batch N H"],
    obs: Float[Array, "*batch N O"],
    last_action: Int[Array, "*batch N"],
) -> tuple[Float[Array, "*batch N H"], Float[Array, "*batch N A"]]:
    """One step of ``agent`` with ``params``: see :meth:`RecurrentAgent.__call__`."""
    return cast(tuple[Array, Array], agent.apply(params, hidden, obs, last_action))


def unroll(
    agent: RecurrentAgent,
    params: Any,
    obs: Float[Array, "T *batch N O"],
    last_action: Int[Array, "T *batch N"],
    first: Bool[Array, "T *batch"],
) -> Float[Array, "T *batch N A"]:
    """A sequence through ``agent`` with ``params``: see :meth:`RecurrentAgent.unroll`."""
    return cast(Array, agent.apply(params, obs, last_action, first, method="unroll"))


def last_actions(action: Int[Array, "T *batch N"], first: Bool[Array, "T *batch"]) -> Int[Array, "T *batch N"]:
    """The action before each slot, :data:`NO_ACTION` at the start of an episode and of the sequence."""
    before = jnp.concatenate([jnp.full_like(action[:1], NO_ACTION), action[:-1]])
    return jnp.where(first[..., None], NO_ACTION, before)


def _expand(x: Array, ndim: int) -> Array:
    """Leading axes of size one, so that broadcasting is explicit."""
    return x.reshape((1,) * (ndim - x.ndim) + x.shape)
