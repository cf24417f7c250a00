"""Target actions: which unit each slot of an action names.

An ally's slots are the enemies in their order; an enemy's are the allies in reverse order, the order in which it sees
them. A healer's slots are the units of its own side, in that same order.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from qmix_jax.envs.smax.rules import MOVES, NOBODY, Rules
from qmix_jax.envs.smax.units import Stats


def num_slots(rules: Rules, stats: Stats, side: int) -> int:
    """How many units a unit of this side (0: allies, 1: enemies) can name: rivals, or with healers its own side."""
    sizes = rules.num_allies, len(stats.health) - rules.num_allies
    healers = rules.heals and bool(np.any(np.asarray(stats.heals)[_rows(rules, side)]))
    return max(sizes) if healers else sizes[1 - side]


def by_slot(rules: Rules, stats: Stats, side: int, *pairs: Array) -> tuple[Array, ...]:
    """``pairs`` [units, units] as rows of this side's units and columns of their slots; empty slots are 0."""
    rows, own, other = _rows(rules, side), _columns(rules, side, side), _columns(rules, side, 1 - side)
    slots = num_slots(rules, stats, side)

    def view(pair: Array) -> Array:
        named = _pad(pair[rows, other], slots)
        if not rules.heals:
            return named
        return jnp.where(stats.heals[rows][:, None], _pad(pair[rows, own], slots), named)

    return tuple(view(pair) for pair in pairs)


def targets(rules: Rules, stats: Stats, side: int, action: Int[Array, " side"]) -> Int[Array, " side"]:
    """The units that actions name; ``NOBODY`` for moves."""
    units, allies = len(stats.health), rules.num_allies
    slot = action - MOVES
    other = slot + allies if side == 0 else allies - 1 - slot
    own = slot if side == 0 else units - 1 - slot
    named = jnp.where(stats.heals[_rows(rules, side)], own, other) if rules.heals else other
    return jnp.where((slot >= 0) & (named >= 0) & (named < units), named, NOBODY).astype(jnp.int32)


def _rows(rules: Rules, side: int) -> slice:
    return slice(None, rules.num_allies) if side == 0 else slice(rules.num_allies, None)


def _columns(rules: Rules, side: int, of: int) -> slice:
    """The units of one side in the order in which the other or the same side sees them."""
    last_ally = rules.num_allies - 1
    if side == 0:
        return _rows(rules, of)
    return slice(last_ally, None, -1) if of == 0 else slice(None, last_ally, -1)


def _pad(pair: Array, slots: int) -> Array:
    return jnp.pad(pair[:, :slots], ((0, 0), (0, max(slots - pair.shape[1], 0))))
