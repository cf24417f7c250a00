"""Agent networks: individual action values from an agent's own observation and history (DRQN).

All agents share parameters unless they are :class:`SeparateAgents`. The network reads the observation, the last action
and the agent's id. The first layer is one product with ``[obs, one_hot(last_action)]``, plus the id's row of a kernel.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from qmix_jax.errors import require
from qmix_jax.networks.gru import GRUWeights, gru_step, gru_unroll
from qmix_jax.networks.linear import add_bias, product, uniform_fan_in, with_leading_axes
from qmix_jax.types import Perceived, Targets

Initializer = Callable[..., jax.Array]
Rows = Float[Array, "T R H"]
Carry = Float[Array, "R C"]
"""The hidden state of R rows."""

NO_ACTION = -1
"""The last action at the start of an episode: its one-hot vector is all zeros."""


class Agent(nn.Module):
    """The base of all agent networks: the input layer, the output layer and the settings.

    Initialised as in PyTorch: uniform in ±1/sqrt(fan_in), for recurrent cells in ±1/sqrt(hidden_size). A subclass
    defines ``setup_cell``, ``step_cell``, ``unroll_cell`` and ``carry_size``.

    Attributes:
        hidden_size: units of both hidden layers.
        last_action: read the agent's last action (one-hot).
        agent_id: read the agent's id (one-hot).
        layer_norm: normalise the first layer before its ReLU (Ba et al. 2016).
    """

    obs_size: int
    num_agents: int
    num_actions: int
    hidden_size: int = 64
    last_action: bool = True
    agent_id: bool = True
    layer_norm: bool = False

    def __post_init__(self) -> None:
        require(self.hidden_size >= 1, "agent.hidden_size", self.hidden_size, "at least 1")
        super().__post_init__()

    @property
    def carry_size(self) -> int:
        """Size of an agent's hidden state."""
        return self.hidden_size

    @property
    def input_size(self) -> int:
        """Features that the first dense layer reads."""
        return self.obs_size

    def perceive(self, obs: Float[Array, "*batch O"]) -> Perceived:
        """What the first and the last layer read of an observation."""
        return Perceived(obs)

    def setup_cell(self, initialize: Initializer) -> None:
        """Declare the parameters between the first layer and the output."""
        raise NotImplementedError

    def step_cell(
        self, x: Float[Array, "*batch H"], carry: Float[Array, "*batch C"]
    ) -> tuple[Float[Array, "*batch C"], Float[Array, "*batch H"]]:
        """One step: the new hidden state and the input of the output layer."""
        raise NotImplementedError

    def unroll_cell(self, x: Rows, keep: Float[Array, "T R 1"], start: Carry) -> Rows:
        """All steps of R rows from the hidden state ``start``; ``keep`` is 0 where an episode starts."""
        raise NotImplementedError

    def setup(self) -> None:
        """Declare the parameters."""
        hidden = self.hidden_size
        fan_in = self.input_size + self.last_action * self.num_actions + self.agent_id * self.num_agents
        first, later = uniform_fan_in(fan_in), uniform_fan_in(hidden)
        self.obs_kernel = self.param("obs_kernel", first, (self.input_size, hidden))
        if self.last_action:
            self.last_action_kernel = self.param("last_action_kernel", first, (self.num_actions, hidden))
        if self.agent_id:
            self.agent_id_kernel = self.param("agent_id_kernel", first, (self.num_agents, hidden))
        self.first_bias = self.param("first_bias", first, (hidden,))
        if self.layer_norm:
            self.norm = nn.LayerNorm()
        self.setup_cell(later)
        self.q_kernel = self.param("q_kernel", later, (hidden, self.num_actions))
        self.q_bias = self.param("q_bias", later, (self.num_actions,))

    def __call__(
        self, hidden: Float[Array, "*batch N C"], obs: Float[Array, "*batch N O"], last_action: Int[Array, "*batch N"]
    ) -> tuple[Float[Array, "*batch N C"], Float[Array, "*batch N A"]]:
        """One step for acting: the new hidden state and the value of every action."""
        perceived = self.perceive(obs)
        hidden, output = self.step_cell(self._first_layer(perceived.features, last_action), hidden)
        return hidden, self.values(output, perceived.targets)

    def outputs_and_values(
        self,
        obs: Float[Array, "T *batch N O"],
        last_action: Int[Array, "T *batch N"],
        first: Bool[Array, "T *batch"],
        start: Float[Array, "*batch N C"] | None = None,
    ) -> tuple[Float[Array, "T *batch N H"], Float[Array, "T *batch N A"]]:
        """What the output layer reads in each slot (of recurrent agents the hidden state after it), and action values.

        ``first`` marks an episode's first slot; ``start`` is the hidden state before the sequence (None: zeros).
        """
        length, rows = obs.shape[0], math.prod(obs.shape[1:-1])
        perceived = self.perceive(obs)
        x = self._first_layer(perceived.features, last_action).reshape(length, rows, self.hidden_size)
        keep = jnp.broadcast_to(~first[..., None], obs.shape[:-1]).reshape(length, rows, 1).astype(obs.dtype)
        carry = jnp.zeros((rows, self.carry_size), x.dtype) if start is None else start.reshape(rows, self.carry_size)
        output = self.unroll_cell(x, keep, carry).reshape(*obs.shape[:-1], self.hidden_size)
        return output, self.values(output, perceived.targets)

    def initial_hidden(self, *batch: int) -> Float[Array, "*batch N C"]:
        """The hidden state at the start of an episode."""
        return jnp.zeros((*batch, self.num_agents, self.carry_size))

    def _first_layer(
        self, features: Float[Array, "*batch N I"], last_action: Int[Array, "*batch N"]
    ) -> Float[Array, "*batch N H"]:
        # Flat matrices: with several leading axes XLA's CPU backend takes twice as long for the weight gradients.
        x, kernel = features.reshape(-1, self.input_size), self.obs_kernel
        if self.last_action:
            one_hot = jax.nn.one_hot(last_action.reshape(-1), self.num_actions, dtype=x.dtype)
            x, kernel = jnp.concatenate([x, one_hot], axis=-1), jnp.concatenate([kernel, self.last_action_kernel])
        x = x @ kernel
        if self.agent_id:
            of_team = self.agent_id_kernel + self.first_bias[None]
            x = add_bias(x.reshape(-1, of_team.size), of_team.reshape(-1))
        else:
            x = add_bias(x, self.first_bias)
        x = self.norm(x.reshape(-1, self.hidden_size)) if self.layer_norm else x
        return nn.relu(x).reshape(*features.shape[:-1], self.hidden_size)

    def values(self, output: Float[Array, "*batch H"], targets: Targets) -> Float[Array, "*batch A"]:
        """Action values from what the output layer reads; ``targets`` as in :class:`Perceived`."""
        flat = product(output.reshape(-1, self.hidden_size), self.q_kernel)
        return add_bias(flat, self.q_bias).reshape(*output.shape[:-1], self.num_actions)


class RecurrentAgent(Agent):
    """Dense, ReLU, GRU, Dense (Hausknecht & Stone 2015; Rashid et al. 2018, figure 2c)."""

    def setup_cell(self, initialize: Initializer) -> None:
        """A GRU with PyTorch's two biases."""
        hidden = self.hidden_size
        self.gru_input_kernel = self.param("gru_input_kernel", initialize, (hidden, 3 * hidden))
        self.gru_input_bias = self.param("gru_input_bias", initialize, (3 * hidden,))
        self.gru_hidden_kernel = self.param("gru_hidden_kernel", initialize, (hidden, 3 * hidden))
        self.gru_hidden_bias = self.param("gru_hidden_bias", initialize, (3 * hidden,))

    def step_cell(
        self, x: Float[Array, "*batch H"], carry: Float[Array, "*batch H"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        """See :func:`qmix_jax.networks.gru.gru_step`."""
        hidden = gru_step(self._weights(), x, carry)
        return hidden, hidden

    def unroll_cell(self, x: Rows, keep: Float[Array, "T R 1"], start: Carry) -> Rows:
        """See :func:`qmix_jax.networks.gru.gru_unroll`."""
        return gru_unroll(self._weights(), x, keep, start)

    def _weights(self) -> GRUWeights:
        return GRUWeights(self.gru_input_kernel, self.gru_input_bias, self.gru_hidden_kernel, self.gru_hidden_bias)


class LSTMAgent(Agent):
    """Dense, ReLU, LSTM, Dense (DRQN, Hausknecht & Stone 2015). Gates in PyTorch's order: input, forget, cell, output.

    The hidden state of an agent is ``[h, c]``.
    """

    @property
    def carry_size(self) -> int:
        """Output and cell state."""
        return 2 * self.hidden_size

    def setup_cell(self, initialize: Initializer) -> None:
        """One bias, drawn as the sum of PyTorch's two, which only appear as a sum."""
        hidden = self.hidden_size
        self.lstm_input_kernel = self.param("lstm_input_kernel", initialize, (hidden, 4 * hidden))
        self.lstm_hidden_kernel = self.param("lstm_hidden_kernel", initialize, (hidden, 4 * hidden))

        def two_draws(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
            return initialize(key, (2, *shape)).sum(axis=0)

        self.lstm_bias = self.param("lstm_bias", two_draws, (4 * hidden,))

    def step_cell(
        self, x: Float[Array, "*batch H"], carry: Float[Array, "*batch 2H"]
    ) -> tuple[Float[Array, "*batch 2H"], Float[Array, "*batch H"]]:
        """One step of the LSTM."""
        carry = self._step(x @ self.lstm_input_kernel + with_leading_axes(self.lstm_bias, x.ndim), carry)
        return carry, carry[..., : self.hidden_size]

    def unroll_cell(self, x: Rows, keep: Float[Array, "T R 1"], start: Carry) -> Rows:
        """A scan over time; the input projections of all steps are computed before it."""
        inputs = (x.reshape(-1, self.hidden_size) @ self.lstm_input_kernel + self.lstm_bias[None]).reshape(
            *x.shape[:-1], 4 * self.hidden_size
        )

        def step(carry, slot):
            carry = self._step(slot[0], carry * slot[1])
            return carry, carry[..., : self.hidden_size]

        return jax.lax.scan(step, start, (inputs, keep))[1]

    def _step(self, inputs: Float[Array, "*batch 4H"], carry: Float[Array, "*batch 2H"]) -> Float[Array, "*batch 2H"]:
        hidden, cell = jnp.split(carry, 2, axis=-1)
        i, f, g, o = jnp.split(inputs + hidden @ self.lstm_hidden_kernel, 4, axis=-1)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jnp.concatenate([jax.nn.sigmoid(o) * jnp.tanh(cell), cell], axis=-1)


class FeedForwardAgent(Agent):
    """Dense, ReLU, Dense, ReLU, Dense: no recurrence (EPyMARL's ``use_rnn=False``)."""

    @property
    def carry_size(self) -> int:
        """There is no hidden state."""
        return 0

    def setup_cell(self, initialize: Initializer) -> None:
        """A second dense layer."""
        self.second_kernel = self.param("second_kernel", initialize, (self.hidden_size, self.hidden_size))
        self.second_bias = self.param("second_bias", initialize, (self.hidden_size,))

    def step_cell(
        self, x: Float[Array, "*batch H"], carry: Float[Array, "*batch 0"]
    ) -> tuple[Float[Array, "*batch 0"], Float[Array, "*batch H"]]:
        """The second layer."""
        return carry, nn.relu(x @ self.second_kernel + with_leading_axes(self.second_bias, x.ndim))

    def unroll_cell(self, x: Rows, keep: Float[Array, "T R 1"], start: Carry) -> Rows:
        """Every step on its own."""
        return nn.relu(x.reshape(-1, self.hidden_size) @ self.second_kernel + self.second_bias[None]).reshape(x.shape)


class AnyAgent(Protocol):
    """The networks of a team: one for all (:class:`Agent`), or one each (``networks/separate.py``)."""

    def init(self, *args: Any, **options: Any) -> Any:
        """Random parameters."""

    def apply(self, *args: Any, **options: Any) -> Any:
        """A method of :class:`Agent` with given parameters."""

    def initial_hidden(self, *batch: int) -> Float[Array, "*batch N C"]:
        """The hidden state at the start of an episode."""
        ...


def init_agent(agent: AnyAgent, obs_size: int, key: Key[Array, ""]) -> Any:
    """Random parameters of ``agent``."""
    num_agents = (hidden := agent.initial_hidden(1)).shape[1]
    return agent.init(key, hidden, jnp.zeros((1, num_agents, obs_size)), jnp.zeros((1, num_agents), jnp.int32))


def act(
    agent: AnyAgent,
    params: Any,
    hidden: Float[Array, "*batch N H"],
    obs: Float[Array, "*batch N O"],
    last_action: Int[Array, "*batch N"],
) -> tuple[Float[Array, "*batch N H"], Float[Array, "*batch N A"]]:
    """One step: see :meth:`Agent.__call__`."""
    return cast(tuple[Array, Array], agent.apply(params, hidden, obs, last_action))


def unroll(
    agent: AnyAgent,
    params: Any,
    obs: Float[Array, "T *batch N O"],
    last_action: Int[Array, "T *batch N"],
    first: Bool[Array, "T *batch"],
    *start: Float[Array, "*batch N C"],
) -> Float[Array, "T *batch N A"]:
    """Action values of ``agent`` with ``params`` along a sequence: see :meth:`Agent.outputs_and_values`."""
    return cast(Array, agent.apply(params, obs, last_action, first, *start, method="outputs_and_values")[1])


def last_actions(
    action: Int[Array, "T *batch N"], first: Bool[Array, "T *batch"], start: Int[Array, "*batch N"] | None = None
) -> Int[Array, "T *batch N"]:
    """The action before each slot: :data:`NO_ACTION` at the start of an episode, ``start`` at that of the sequence."""
    start = jnp.full_like(action[0], NO_ACTION) if start is None else start
    return jnp.where(first[..., None], NO_ACTION, jnp.concatenate([start[None], action[:-1]]))
