"""One transition of the hunt: first the predators move, then every prey is caught, or moves.

A position is the number of a cell, row by row, and ``GONE`` for whoever has left the grid.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

GONE = -1
RIGHT, DOWN, LEFT, UP, STAY, CATCH = range(6)
STEPS = np.array([(0, 1), (1, 0), (0, -1), (-1, 0), (0, 0), (0, 0)], np.int32)
"""Rows and columns that an action moves by."""
DIRECTIONS = 4
OUTSIDE = -2
"""A cell beyond the edge: neither a position nor ``GONE``."""


class Rules(NamedTuple):
    """The settings of a hunt."""

    size: int
    """Rows and columns of the grid."""
    capture_agents: int
    """Agents that must catch a prey together."""
    capture_reward: float
    penalty: float
    capture_leaves: bool
    """Agents that caught a prey leave the grid."""
    prey_rest: float
    """Probability that a prey stays where it is."""


class Draws(NamedTuple):
    """All randomness of one transition, uniform in [0, 1)."""

    agents: Float[Array, " N"]
    """Agents move in ascending order."""
    prey: Float[Array, " P"]
    """So do prey."""
    move: Float[Array, " P"]
    """Which of its free neighbouring cells a prey goes to."""
    rest: Float[Array, " P"]
    """A prey rests if this is below ``Rules.prey_rest``."""


class Hunt(NamedTuple):
    """Where everybody is."""

    agents: Int[Array, " N"]
    prey: Int[Array, " P"]


def neighbours(size: int, cell: Int[Array, "*rows"]) -> Int[Array, "*rows 4"]:
    """The cells to the right, below, to the left and above; ``OUTSIDE`` beyond the edge and for whoever is gone."""
    column = cell % size
    cells = jnp.stack([cell + 1, cell + size, cell - 1, cell - size], axis=-1)
    inside = [column < size - 1, cell < size * (size - 1), column > 0, cell >= size]
    return jnp.where(jnp.stack(inside, axis=-1) & (cell >= 0)[..., None], cells, OUTSIDE)


def among(cells: Int[Array, "*rows"], others: Int[Array, " others"]) -> Bool[Array, "*rows"]:
    """Whether one of ``others`` is in each of ``cells``."""
    return jnp.any(cells[..., None] == others.reshape((1,) * cells.ndim + (-1,)), axis=-1)


def ranks(draws: Float[Array, " N"]) -> Int[Array, " N"]:
    """The place of each in ascending order; of equal draws the first one comes first."""
    places = np.arange(draws.shape[0])
    earlier = (draws[None, :] == draws[:, None]) & (places[None, :] < places[:, None])
    return jnp.sum((draws[None, :] < draws[:, None]) | earlier, axis=1, dtype=jnp.int32)


def move_agents(rules: Rules, hunt: Hunt, action: Int[Array, " N"], order: Float[Array, " N"]) -> Int[Array, " N"]:
    """The agents' cells after they moved one after another. Nobody enters a cell that is taken, or leaves the grid."""
    near = neighbours(rules.size, hunt.agents)
    wanted = jnp.sum(jnp.where(action[:, None] == np.arange(DIRECTIONS)[None], near, 0), axis=1)
    wanted = jnp.where((action < DIRECTIONS) & (wanted != OUTSIDE), wanted, hunt.agents)
    places = ranks(order)

    def move(agents: Int[Array, " N"], turn: Int[Array, ""]) -> tuple[Int[Array, " N"], None]:
        mine = places == turn
        target = jnp.sum(jnp.where(mine, wanted, 0))
        free = ~(among(target, agents) | among(target, hunt.prey))
        return jnp.where(mine & free, target, agents), None

    return jax.lax.scan(move, hunt.agents, jnp.arange(action.shape[0]))[0]


def hunt_prey(rules: Rules, hunt: Hunt, catching: Bool[Array, " N"], draws: Draws) -> tuple[Hunt, Float[Array, ""]]:
    """Every prey in turn is caught by the agents beside it that catch, or moves; also the reward.

    Enough agents catch the prey. Too few cost the penalty, once for each prey. What happened to the prey before counts:
    agents that have left catch nothing more, and their cells are free.
    """
    places = ranks(draws.prey)

    def turn_of(carry: tuple[Hunt, Array], turn: Int[Array, ""]) -> tuple[tuple[Hunt, Array], None]:
        (agents, prey), reward = carry
        mine = places == turn
        here = jnp.sum(jnp.where(mine, prey, 0))
        near = neighbours(rules.size, here)
        catchers = catching & among(agents, near)  # whoever is gone is beside nothing
        number = jnp.sum(catchers)
        captured = number >= rules.capture_agents
        reward = reward + jnp.where(captured, rules.capture_reward, jnp.where(number > 0, rules.penalty, 0.0))
        move, rest = (jnp.sum(jnp.where(mine, x, 0.0)) for x in (draws.move, draws.rest))
        there = jnp.where(rest < rules.prey_rest, here, random_free(near, Hunt(agents, prey), here, move))
        prey = jnp.where(mine, jnp.where(captured, GONE, there), prey)
        if rules.capture_leaves:
            agents = jnp.where(catchers & captured, GONE, agents)
        return (Hunt(agents, prey), reward), None

    return jax.lax.scan(turn_of, (hunt, jnp.zeros(())), jnp.arange(hunt.prey.shape[0]))[0]


def random_free(near: Int[Array, " 4"], hunt: Hunt, here: Int[Array, ""], draw: Float[Array, ""]) -> Int[Array, ""]:
    """One of the free cells in ``near``, each as likely; ``here`` if there is none."""
    free = (near != OUTSIDE) & ~among(near, hunt.agents) & ~among(near, hunt.prey)
    number = jnp.sum(free)
    pick = jnp.minimum((draw * number).astype(jnp.int32), number - 1)
    chosen = free & (jnp.cumsum(free) - 1 == pick)
    return jnp.where(number > 0, jnp.sum(jnp.where(chosen, near, 0)), here)
