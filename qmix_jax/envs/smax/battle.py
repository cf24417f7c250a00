"""The simulation: orders in, the next state of the battle out. Everything here is for one battle."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from qmix_jax.envs.smax import terrain, weapons
from qmix_jax.envs.smax.rules import MAP_SIZE, NOBODY, TICK, Battle, Orders, Rules, may_target
from qmix_jax.envs.smax.units import Stats

FAR = 1e4
FEW = 12
"""Units of a battle that is too small to gain from vector code."""
LANES = 32
"""Rows of larger ones are filled up to a multiple of this, so that no rest is left that vector code cannot do."""


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
    reach = stats.reach + stats.radius + jnp.asarray(stats.radius)[target] if rules.smac else stats.reach
    touching = touching_distances(rules, stats)
    stands = jnp.asarray(stats.speed == 0) if rules.stands else None

    def tick(battle: Battle, deviation: Float[Array, " units"]) -> tuple[Battle, None]:
        alive = battle.health > 0
        aim = battle.position[:, target] - battle.position
        in_reach = (aim[0] ** 2 + aim[1] ** 2 < reach**2) & alive & alive[target] & allowed
        hits = in_reach & (battle.cooldown <= 0)
        attacks = hits & ~stats.heals if rules.heals else hits
        area = weapons.area(rules, stats, battle, named, aim, target)
        after = weapons.hurt(rules, stats, battle, attacks, area)
        health, energy, patient = after.health, battle.energy, battle.patient
        if rules.heals:
            health, energy, patient = weapons.heal(stats, battle, health, in_reach & stats.heals, target, named)
        if rules.blasts:
            health = jnp.where(attacks & stats.blast, 0.0, health)
        step = stride
        if rules.smac:
            closes_in = allowed & alive[target] & ~in_reach
            step = jnp.where(closes_in[None, :], weapons.unit_vector(aim) * (stats.speed * TICK)[None, :], stride)
        position = jnp.where(alive[None, :], jnp.clip(battle.position + step, 0.0, MAP_SIZE), battle.position)
        if rules.walls_cause_death:
            health = jnp.where(jnp.any((position <= 0) | (position >= MAP_SIZE), axis=0), 0.0, health)
        position = push_apart(position, health > 0, touching, stands)
        if rules.terrain.walls:
            position = terrain.keep_out(rules.terrain, stats, position, health > 0)
        return Battle(
            position=position,
            health=health,
            cooldown=jnp.where(attacks, stats.cooldown + deviation, jnp.maximum(battle.cooldown - TICK, 0.0)),
            energy=energy,
            patient=patient,
            shield=None if after.shield is None else jnp.where(health > 0, after.shield, 0.0),
            shield_wait=after.shield_wait,
        ), None

    return jax.lax.scan(tick, battle, deviation)[0]


def push_apart(
    position: Float[Array, "2 units"],
    alive: Bool[Array, " units"],
    touching: Float[Array, "units units"],
    stands: Bool[Array, " units"] | None = None,
) -> Float[Array, "2 units"]:
    """Move living units that overlap away from each other, each by half of what all its overlaps ask for.

    ``touching`` are the distances at which pairs touch. Units that ``stands`` names stay: others give way all alone.
    """
    # The dead are put out of everybody's way, which is cheaper than to mask pairs. A unit does not push itself: there
    # is no direction to go in.
    units = position.shape[1]
    width = units if units < FEW else -(-units // LANES) * LANES
    aside = FAR * (1 + np.arange(width, dtype=np.float32))
    own = jnp.where(alive[None, :], position, aside[None, :units])
    nobody = np.broadcast_to(aside[None, units:], (2, width - units))
    other = jnp.concatenate([own, nobody], axis=1) if width > units else own
    touching = jnp.pad(touching, ((0, 0), (0, width - units)))
    away = other[:, None, :] - own[:, :, None]
    distance = jnp.sqrt(away[0] * away[0] + away[1] * away[1])
    overlap = jnp.maximum(touching / (distance + 1e-6) - 1.0, 0.0)
    if stands is not None:
        firm = jnp.pad(stands, (0, width - units))
        overlap = jnp.where(stands[:, None], 0.0, jnp.where(firm[None, :], 2 * overlap, overlap))
    # Differences before sums: near a unit in nearly the same place, sums of products with positions would lose digits.
    return position - _row_sums(away * overlap[None, :, :]) / 2


def _row_sums(values: Float[Array, "2 units others"]) -> Float[Array, "2 units"]:
    # XLA's CPU backend makes vector code of a product with ones and none of a fused sum, which is one kernel less.
    others = values.shape[2]
    return jnp.sum(values, axis=2) if others < FEW else jnp.matmul(values, jnp.ones(others), precision="highest")


def touching_distances(rules: Rules, stats: Stats) -> Float[Array, "units units"]:
    """The distance between two units that touch; 0 for those that pass over each other."""
    touching = jnp.asarray(stats.radius[:, None] + stats.radius[None, :])
    return jnp.where(stats.flies[:, None] == stats.flies[None, :], touching, 0.0) if rules.flies else touching
