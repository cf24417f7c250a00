"""Whom an attack hits and what it does to them."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from qmix_jax.envs.smax.rules import NOBODY, TICK, Battle, Rules, rivals, separations
from qmix_jax.envs.smax.units import (
    BEAM_DEPTH,
    BEAM_WIDTH,
    BLAST_RADIUS,
    ENERGY_PER_SECOND,
    HEALTH_PER_ENERGY,
    LEAST_ENERGY,
    MAX_ENERGY,
    SHIELD_PER_SECOND,
    SHIELD_WAIT,
    Stats,
)


def area(
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
    struck = named
    if rules.beams:
        struck = jnp.where(stats.beam[:, None], on_ground * _in_beam(stats, battle, aim, target), struck)
    if rules.blasts:
        _, _, distance = separations(battle.position)
        within = distance < BLAST_RADIUS + stats.radius[None, :]
        struck = jnp.where(stats.blast[:, None], on_ground * within, struck)
    return struck


def _in_beam(
    stats: Stats, battle: Battle, aim: Float[Array, "2 units"], target: Int[Array, " units"]
) -> Bool[Array, "units units"]:
    """Whether the body of unit j touches the rectangle that unit i's beam draws through its target."""
    away = battle.position[:, None, :] - battle.position[:, target][:, :, None]
    along, across = unit_vector(aim), unit_vector(jnp.stack([-aim[1], aim[0]]))
    deep = jnp.abs(away[0] * along[0][:, None] + away[1] * along[1][:, None]) - BEAM_DEPTH / 2
    wide = jnp.abs(away[0] * across[0][:, None] + away[1] * across[1][:, None]) - BEAM_WIDTH / 2
    outside = jnp.maximum(deep, 0.0) ** 2 + jnp.maximum(wide, 0.0) ** 2
    return outside < (stats.radius**2)[None, :]


def unit_vector(vector: Float[Array, "2 units"]) -> Float[Array, "2 units"]:
    """Each column scaled to length 1."""
    return vector / (jnp.sqrt(vector[0] ** 2 + vector[1] ** 2) + 1e-6)[None, :]


def hurt(
    rules: Rules, stats: Stats, battle: Battle, attacks: Bool[Array, " units"], area: Float[Array, "units units"]
) -> Battle:
    """``battle`` with the health and the shields that one tick's attacks leave. All of them land at once."""
    if not rules.smac:
        harm = jnp.where(attacks, stats.damage, 0.0)
        return battle._replace(health=jnp.maximum(battle.health - jnp.matmul(harm, area, precision="highest"), 0.0))
    hits = area * attacks.astype(jnp.float32)[:, None]
    blow = stats.damage[:, None] + jnp.where(stats.light[None, :], stats.against_light[:, None], 0.0)
    blow = blow + jnp.where(stats.armored[None, :], stats.against_armored[:, None], 0.0)
    through, total = _through(rules, stats, battle.shield, hits, blow)
    health = jnp.maximum(battle.health - through, 0.0)
    if rules.regenerates:
        health = jnp.where(health > 0, jnp.minimum(health + stats.regeneration * TICK, stats.health), 0.0)
    if battle.shield is None or battle.shield_wait is None:
        return battle._replace(health=health)
    wait = jnp.where(total > 0, SHIELD_WAIT, jnp.maximum(battle.shield_wait - TICK, 0.0))
    shield = jnp.maximum(battle.shield - total, 0.0)
    more = jnp.minimum(shield + SHIELD_PER_SECOND * TICK, stats.shield)
    return battle._replace(health=health, shield=jnp.where(wait > 0, shield, more), shield_wait=wait)


def _through(
    rules: Rules,
    stats: Stats,
    shield: Float[Array, " units"] | None,
    hits: Float[Array, "units units"],
    blow: Float[Array, "units units"],
) -> tuple[Float[Array, " units"], Float[Array, " units"]]:
    """The damage that reaches each unit's health, and all damage done to it.

    Strikes land in the order of the attackers' numbers. Each drains the shield first; armor takes its share of what is
    left of the strike.
    """
    strikes, armor = stats.strikes[:, None], stats.armor[None, :]
    damage = hits * strikes * blow
    units = len(stats.health)
    earlier = jnp.matmul(np.tril(np.ones((units, units), np.float32), -1), damage, precision="highest")
    through = jnp.zeros_like(damage)
    for number in range(rules.strikes):
        absorbed = 0.0 if shield is None else jnp.clip(shield[None, :] - earlier - number * blow, 0.0, blow)
        passed = hits * jnp.maximum(blow - absorbed - armor, 0.0)
        through = through + (passed if rules.strikes == 1 else jnp.where(number < strikes, passed, 0.0))
    return jnp.sum(through, axis=0), jnp.sum(damage, axis=0)


def heal(
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
    healed = jnp.matmul(given, named, precision="highest")
    energy = jnp.minimum(battle.energy - given / HEALTH_PER_ENERGY + ENERGY_PER_SECOND * TICK, MAX_ENERGY)
    return (
        jnp.minimum(health + healed, stats.health),
        jnp.where(stats.heals & (battle.health > 0), energy, battle.energy),
        jnp.where(heals, target, NOBODY),
    )
