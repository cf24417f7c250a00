"""Compare fast pieces with their plain versions, alternating in one process."""

from collections.abc import Callable
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from qmix_jax.algorithms.base import Algorithm
from qmix_jax.bench.pieces import Piece, filled_state, learn_piece, new_minibatch
from qmix_jax.bench.spread import alternate, ratio, spread
from qmix_jax.errors import ConfigError
from qmix_jax.learning import values
from qmix_jax.networks.agents import Agent, Carry, Initializer, RecurrentAgent, Rows, last_actions, unroll
from qmix_jax.types import HyperParams, TrainState

BASELINES = ("flax_gru", "gather")


class FlaxGRUAgent(Agent):
    """:class:`qmix_jax.networks.agents.RecurrentAgent` with flax's own cell and scan, differentiated automatically."""

    def setup_cell(self, initialize: Initializer) -> None:
        """flax's GRUCell: the same equations, with two of the biases merged."""
        self.cell = nn.GRUCell(self.hidden_size, kernel_init=initialize, recurrent_kernel_init=initialize)

    def step_cell(
        self, x: Float[Array, "*batch H"], carry: Float[Array, "*batch H"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        """One step."""
        return self.cell(carry, x)

    def unroll_cell(self, x: Rows, keep: Float[Array, "T R 1"], start: Carry) -> Rows:
        """``nn.scan`` of the cell."""

        def step(cell: nn.GRUCell, carry: Array, slot: tuple[Array, Array]) -> tuple[Array, Array]:
            return cell(carry * slot[1], slot[0])

        scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
        return scan(self.cell, start, (x, keep))[1]


def gathered_values(q: Float[Array, "*batch A"], action: Int[Array, "*batch"], num_actions: int) -> Array:
    """Values of the given actions by indexing; see :func:`qmix_jax.learning.values.chosen_values`."""
    del num_actions
    return jnp.take_along_axis(q, action[..., None], axis=-1)[..., 0]


def compare(name: str, algorithm: Algorithm, hyper: HyperParams, iterations: int, repetitions: int) -> dict:
    """Seconds of the fast and the plain version, and plain over fast (above 1: the fast one is faster).

    Raises :class:`ConfigError` if the algorithm does not have the piece.
    """
    pairs = {"flax_gru": _flax_gru, "gather": _gather}[name](algorithm, hyper, iterations)
    found = {}
    for what, (fast, plain) in pairs.items():
        alternate({"fast": fast, "plain": plain}, 1)
        seconds = alternate({"fast": fast, "plain": plain}, repetitions)
        found[what] = {version: spread(values)._asdict() for version, values in seconds.items()}
        found[what]["speedup"] = ratio(seconds["plain"], seconds["fast"])._asdict()
    return found


Pairs = dict[str, tuple[Callable[[], float], Callable[[], float]]]
"""Functions that return seconds, fast and plain, by name of the comparison."""


def _flax_gru(algorithm: Algorithm, hyper: HyperParams, iterations: int) -> Pairs:
    agent = algorithm.agent
    if type(agent) is not RecurrentAgent:
        raise ConfigError("bench.baseline=flax_gru: needs agent=gru and agent.shared=true")
    plain = algorithm._replace(agent=FlaxGRUAgent(**fields_of(agent)))
    both = [(version, filled_state(version, hyper)) for version in (algorithm, plain)]
    unrolls = [unroll_piece(version, hyper, state, iterations).seconds for version, state in both]
    learns = [learn_piece(version, hyper, state, iterations).seconds for version, state in both]
    return {"unroll and its gradient": (unrolls[0], unrolls[1]), "learn": (learns[0], learns[1])}


def _gather(algorithm: Algorithm, hyper: HyperParams, iterations: int) -> Pairs:
    state = filled_state(algorithm, hyper)
    fast = learn_piece(algorithm, hyper, state, iterations)
    with mock.patch.object(values, "chosen_values", gathered_values):
        plain = learn_piece(algorithm, hyper, state, iterations)
    return {"learn": (fast.seconds, plain.seconds)}


def fields_of(agent: Agent) -> dict:
    """The settings of an agent, to build another class with."""
    return {name: getattr(agent, name) for name in Agent.__dataclass_fields__ if name not in ("parent", "name")}


def unroll_piece(algorithm: Algorithm, hyper: HyperParams, state: TrainState, iterations: int) -> Piece:
    """One unroll of the agent over a minibatch with its gradient, for every update of an iteration."""
    batch = new_minibatch(algorithm, hyper, state).slots
    last_action = last_actions(batch.action, batch.first)

    def iteration(params, _, obs, last_action, first):
        def loss(params):
            return (unroll(algorithm.agent, params, obs, last_action, first) ** 2).mean()

        def update(params, _):
            value, gradients = jax.value_and_grad(loss)(params)
            # A small step makes every unroll different from the one before.
            return jax.tree.map(lambda p, g: p - 1e-6 * g, params, gradients), value

        return jax.lax.scan(update, params, None, length=algorithm.sizes.updates_per_iteration)

    constants = (batch.step.obs, last_action, batch.first)
    return Piece(iteration, state.learner.online.agent, *constants, iterations=iterations)
