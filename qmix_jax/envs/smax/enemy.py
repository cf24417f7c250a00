"""The heuristic enemy: shoots whom it shot last, else somebody in range, else walks towards somebody it sees."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from qmix_jax.envs.smax import terrain
from qmix_jax.envs.smax.rules import MAP_SIZE, MOVES, NOBODY, Battle, Rules, may_target, naming_distances, separations
from qmix_jax.envs.smax.slots import by_slot
from qmix_jax.envs.smax.units import Stats

FAR = 1e6


class Mind(NamedTuple):
    """What the enemy's units remember."""

    goal: Float[Array, "2 enemies"]
    """Where a unit goes that sees nobody: to begin with the point opposite to its own, across the centre."""
    last: Int[Array, " enemies"]
    """The slot of the target it chose last while that was in range, or ``NOBODY``."""


def first_mind(enemies: int) -> Mind:
    """A mind that remembers nothing; its goal is set when it first acts."""
    return Mind(goal=jnp.zeros((2, enemies)), last=jnp.full(enemies, NOBODY, jnp.int32))


def decide(
    rules: Rules,
    stats: Stats,
    battle: Battle,
    mind: Mind,
    draws: Float[Array, "2 enemies"],
    shoot: bool,
    random_target: bool,
) -> tuple[Int[Array, " enemies"], Mind]:
    """Everybody's action, and what they remember.

    ``draws``, uniform in [0, 1), decide whom to walk to and, with ``random_target``, whom to shoot at first; otherwise
    that is the closest. A unit acts on what it sees.
    """
    alive = battle.health > 0
    x, y, distance = separations(battle.position)
    seen = (distance < stats.sight[:, None]) & alive[:, None] & alive[None, :] & may_target(rules, stats)
    open_to = seen & _worth_it(rules, stats, battle)[None, :] if rules.heals else seen
    in_range = open_to & (distance < naming_distances(rules, stats))
    if rules.smac and rules.terrain.walls:
        in_range = in_range & _can_get_at(rules, stats, battle, distance)
    x, y, distance, seen, in_range = by_slot(rules, stats, 1, x, y, distance, seen, in_range)
    pick = pick_slot(in_range, draws[1]) if random_target else _nearest(in_range, distance)
    keeps = (mind.last != NOBODY) & _at(in_range, mind.last)
    pick = jnp.where(keeps, mind.last, pick).astype(jnp.int32)
    last = jnp.where(_at(in_range, pick), pick, NOBODY)
    own = battle.position[:, rules.num_allies :]
    first = jnp.all(mind.goal == 0, axis=0) & (mind.last == NOBODY)
    goal = jnp.where(first[None, :], MAP_SIZE - own, mind.goal)
    towards = pick_slot(seen, draws[0])
    way = jnp.where(jnp.any(seen, axis=1)[None, :], jnp.stack([_at(x, towards), _at(y, towards)]), goal - own)
    move = terrain.heading(rules, stats, slice(rules.num_allies, None), own, way)
    shoots = jnp.any(in_range, axis=1) & shoot
    return jnp.where(shoots, pick + MOVES, move), Mind(goal=goal, last=last)


def pick_slot(mask: Bool[Array, "enemies slots"], draw: Float[Array, " enemies"]) -> Int[Array, " enemies"]:
    """One of the slots in ``mask`` for each row, all alike likely; any slot where there is none."""
    # Running counts as a product, exact for whole numbers: XLA's CPU backend is slow at cumsum.
    counts = mask.astype(jnp.float32) @ np.triu(np.ones((mask.shape[1],) * 2, np.float32))
    wanted = (1.0 - draw) * counts[:, -1]
    return jnp.minimum(jnp.sum(counts < wanted[:, None], axis=1), mask.shape[1] - 1).astype(jnp.int32)


def _nearest(mask: Bool[Array, "enemies slots"], distance: Float[Array, "enemies slots"]) -> Int[Array, " enemies"]:
    """The slot in ``mask`` that is least far away in each row, the first of those that are; any where there is none."""
    # Bits of floats from 0 on are in the order of the floats, and XLA's CPU backend makes vector code of the least of
    # whole numbers, and none of argmin.
    bits = jax.lax.bitcast_convert_type(jnp.where(mask, distance, FAR).astype(jnp.float32), jnp.int32)
    slots = np.arange(mask.shape[1], dtype=np.int32)[None, :]
    return jnp.min(jnp.where(bits == jnp.min(bits, axis=1, keepdims=True), slots, slots.size - 1), axis=1)


def _worth_it(rules: Rules, stats: Stats, battle: Battle) -> Bool[Array, " units"]:
    """Rivals always are; units of one's own side, whom only healers name, where health is missing."""
    own = jnp.arange(len(stats.health)) >= rules.num_allies
    return ~own | (battle.health < stats.health)


def _can_get_at(
    rules: Rules, stats: Stats, battle: Battle, distance: Float[Array, "units units"]
) -> Bool[Array, "units units"]:
    """Whether unit i can hit unit j from where it is, or has no wall before it as it closes in."""
    margin = jnp.where(stats.flies | stats.climbs, terrain.OVER, stats.radius)
    place = battle.position
    walled = terrain.crosses(rules.terrain, place[:, :, None], place[:, None, :], margin[:, None])
    return ~walled | (distance < stats.reach[:, None] + stats.radius[:, None] + stats.radius[None, :])


def _at(values: Array, slot: Int[Array, " enemies"]) -> Array:
    return jnp.take_along_axis(values, jnp.maximum(slot, 0)[:, None], axis=1)[:, 0]
