"""The simulation: orders in, the next state of the battle out. Everything here is for one battle.

Units are numbered allies first. Positions are ``[2, units]``, x then y, so that the long axis is contiguous in memory.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from qmix_jax.envs.smax.units import (
    BEAM_DEPTH,
    BEAM_WIDTH,
    BLAST_RADIUS,
    ENERGY_PER_SECOND,
    HEALTH_PER_ENERGY,
    LEAST_ENERGY,
    MAX_ENERGY,
    Stats,
)

TICK = 1.0 / 16
"""Seconds that one tick of the simulation takes."""
MAP_SIZE = 32.0
MOVES = 5
"""Actions that are not for a target: north, east, south, west and stop."""
STOP = 4
NOBODY = -1
FEW = 12
"""Units of a battle that is too small to gain from vector code."""
DIRECTIONS = np.asarray([[0, 1, 0, -1, 0], [1, 0, -1, 0, 0]], np.float32)
"""x and y of each move."""


class Rules(NamedTuple):
    """What is fixed when the environment is built. A battle without healers does not pay for them, and so on."""

    num_allies: int
    ticks: int = 8
    walls_cause_death: bool = True
    heals: bool = False
    flies: bool = False
    beams: bool = False
    blasts: bool = False


class Battle(NamedTuple):
    """Everything that the simulation changes. A unit is alive while its health is above 0."""

    position: Float[Array, "2 units"]
    health: Float[Array, " units"]
    cooldown: Float[Array, " units"]
    """Seconds until a unit can attack again."""
    energy: Float[Array, " units"]
    """Of healers."""
    patient: Int[Array, " units"]
    """Whom a healer healed last, or ``NOBODY``."""


class Orders(NamedTuple):
    """What every unit does during one transition."""

    move: Float[Array, "2 units"]
    target: Int[Array, " units"]
    """The unit to attack or heal; ``NOBODY`` for those who do neither."""


def rivals(rules: Rules, units: int) -> np.ndarray:
    """Which pairs [units, units] are on different sides."""
    enemy = np.arange(units) >= rules.num_allies
    return enemy[:, None] != enemy[None, :]


def may_target(rules: Rules, stats: Stats) -> Bool[Array, "units units"]:
    """Whether unit i may ever name unit j: attackers a rival they can reach, healers a patient on their own side."""
    rival = rivals(rules, len(stats.health))
    if not (rules.heals or rules.flies):
        return jnp.asarray(rival)
    reachable = stats.hits_air[:, None] | ~stats.flies[None, :]
    curable = stats.biological & ~stats.flies & ~stats.heals
    return jnp.where(stats.heals[:, None], ~rival & curable[None, :], rival & reachable)


def separations(position: Float[Array, "2 units"]) -> tuple[Array, Array, Float[Array, "units units"]]:
    """x and y of unit j as seen from unit i, both [units, units], and the distance."""
    x, y = position[:, None, :] - position[:, :, None]
    return x, y, jnp.sqrt(x * x + y * y)


def simulate(
    rules: Rules, stats: Stats, battle: Battle, orders: Orders, deviation: Float[Array, "ticks units"]
) -> Battle:
    """Play the ticks of one transition. ``deviation`` is added to the cooldown of units that attack."""
    units = len(stats.health)
    target = jnp.maximum(orders.target, 0)
    allowed = orders.target != NOBODY
    if rules.heals or rules.flies:
        allowed &= jnp.take_along_axis(may_target(rules, stats), target[:, None], axis=1)[:, 0]
    # Column j: who names unit j.
    named = jnp.where((target[:, None] == np.arange(units)[None, :]) & allowed[:, None], 1.0, 0.0)
    stride = orders.move * (stats.speed * TICK)[None, :]
    touching = touching_distances(rules, stats)

    def tick(battle: Battle, deviation: Float[Array, " units"]) -> tuple[Battle, None]:
        alive = battle.health > 0
        aim = battle.position[:, target] - battle.position
        in_reach = (aim[0] ** 2 + aim[1] ** 2 < stats.reach**2) & alive & alive[target] & allowed
        hits = in_reach & (battle.cooldown <= 0)
        attacks = hits & ~stats.heals if rules.heals else hits
        harm = jnp.where(attacks, stats.damage, 0.0)
        area = _area(rules, stats, battle, named, aim, target)
        health = jnp.maximum(battle.health - harm @ area, 0.0)
        energy, patient = battle.energy, battle.patient
        if rules.heals:
            health, energy, patient = _heal(stats, battle, health, in_reach & stats.heals, target, named)
        if rules.blasts:
            health = jnp.where(attacks & stats.blast, 0.0, health)
        position = jnp.where(alive[None, :], jnp.clip(battle.position + stride, 0.0, MAP_SIZE), battle.position)
        if rules.walls_cause_death:
            health = jnp.where(jnp.any((position <= 0) | (position >= MAP_SIZE), axis=0), 0.0, health)
        return Battle(
            position=push_apart(position, health > 0, touching),
            health=health,
            cooldown=jnp.where(attacks, stats.cooldown + deviation, jnp.maximum(battle.cooldown - TICK, 0.0)),
            energy=energy,
            patient=patient,
        ), None

    return jax.lax.scan(tick, battle, deviation)[0]


def push_apart(
    position: Float[Array, "2 units"], alive: Bool[Array, " units"], touching: Float[Array, "units units"]
) -> Float[Array, "2 units"]:
    """Move living units that overlap away from each other, each by half of what all its overlaps ask for.

    ``touching`` are the distances at which pairs touch.
    """
    x, y, distance = separations(position)
    # A unit does not push itself: there is no direction to go in.
    overlap = jnp.maximum(touching / (distance + 1e-6) - 1.0, 0.0)
    overlap = jnp.where(alive[:, None] & alive[None, :], overlap, 0.0)
    return position - jnp.stack([_row_sums(x * overlap), _row_sums(y * overlap)]) / 2


def _row_sums(values: Float[Array, "units units"]) -> Float[Array, " units"]:
    # XLA's CPU backend makes vector code of a product with ones and none of a fused sum, which is one kernel less.
    return jnp.sum(values, axis=1) if len(values) < FEW else values @ jnp.ones(len(values))


def touching_distances(rules: Rules, stats: Stats) -> Float[Array, "units units"]:
    """The distance between two units that touch; 0 for those that pass over each other."""
    touching = jnp.asarray(stats.radius[:, None] + stats.radius[None, :])
    return jnp.where(stats.flies[:, None] == stats.flies[None, :], touching, 0.0) if rules.flies else touching


def _area(
    rules: Rules,
    stats: Stats,
    battle: Battle,
    named: Float[Array, "units units"],
    aim: Float[Array, "2 units"],
    target: Int[Array, " units"],
) -> Float[Array, "units units"]:
    """1 where an attack by unit i hits unit j: its target, or all rivals on the ground in the area of its weapon."""
    if not (rules.beams or rules.blasts):
        return named
    on_ground = (rivals(rules, len(stats.health)) & ~stats.flies[None, :]).astype(np.float32)
    area = named
    if rules.beams:
        area = jnp.where(stats.beam[:, None], on_ground * _in_beam(stats, battle, aim, target), area)
    if rules.blasts:
        _, _, distance = separations(battle.position)
        within = distance < BLAST_RADIUS + stats.radius[None, :]
        area = jnp.where(stats.blast[:, None], on_ground * within, area)
    return area


def _in_beam(
    stats: Stats, battle: Battle, aim: Float[Array, "2 units"], target: Int[Array, " units"]
) -> Bool[Array, "units units"]:
    """Whether the body of unit j touches the rectangle that unit i's beam draws through its target."""
    away = battle.position[:, None, :] - battle.position[:, target][:, :, None]
    along, across = _unit_vector(aim), _unit_vector(jnp.stack([-aim[1], aim[0]]))
    deep = jnp.abs(away[0] * along[0][:, None] + away[1] * along[1][:, None]) - BEAM_DEPTH / 2
    wide = jnp.abs(away[0] * across[0][:, None] + away[1] * across[1][:, None]) - BEAM_WIDTH / 2
    outside = jnp.maximum(deep, 0.0) ** 2 + jnp.maximum(wide, 0.0) ** 2
    return outside < (stats.radius**2)[None, :]


def _unit_vector(vector: Float[Array, "2 units"]) -> Float[Array, "2 units"]:
    return vector / (jnp.sqrt(vector[0] ** 2 + vector[1] ** 2) + 1e-6)[None, :]


def _heal(
    stats: Stats,
    battle: Battle,
    health: Float[Array, " units"],
    ready: Bool[Array, " units"],
    target: Int[Array, " units"],
    named: Float[Array, "units units"],
) -> tuple[Float[Array, " units"], Float[Array, " units"], Int[Array, " units"]]:
    """Health after damage and healing, the healers' energy, and their patients.

    Who dies in this tick is not healed. A healer gives what its energy pays for and no more than is missing; of two
    healers at the same patient each pays for what it gave alone.
    """
    missing = stats.health - health
    wanted = jnp.minimum(stats.damage * TICK, missing[target])
    goes_on = (battle.patient == target) & (battle.energy > 0)
    heals = ready & (goes_on | (battle.energy >= LEAST_ENERGY)) & (missing[target] > 0) & (health[target] > 0)
    given = jnp.where(heals, jnp.minimum(wanted, battle.energy * HEALTH_PER_ENERGY), 0.0)
    healed = given @ named
    energy = jnp.minimum(battle.energy - given / HEALTH_PER_ENERGY + ENERGY_PER_SECOND * TICK, MAX_ENERGY)
    return (
        jnp.minimum(health + healed, stats.health),
        jnp.where(stats.heals & (battle.health > 0), energy, battle.energy),
        jnp.where(heals, target, NOBODY),
    )
