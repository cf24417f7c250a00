"""What a battle is: its rules, its state, the orders that units get, and which of two units can do what to the other.

Units are numbered allies first. Positions are ``[2, units]``, x then y, so that the long axis is contiguous in memory.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from qmix_jax.envs.smax.units import Stats

TICK = 1.0 / 16
"""Seconds that one tick of the simulation takes."""
MAP_SIZE = 32.0
MOVES = 5
"""Actions that are not for a target: north, east, south, west and stop."""
STOP = 4
NOBODY = -1
DIRECTIONS = np.asarray([[0, 1, 0, -1, 0], [1, 0, -1, 0, 0]], np.float32)
"""x and y of each move."""
SHOOTING_RANGE = 6.0
"""SMAC's: how far away a target may be that an agent names, from centre to centre, whatever its weapon."""


class Terrain(NamedTuple):
    """The walls of a map, and the places that ways around them lead through."""

    walls: tuple[tuple[float, float, float, float], ...] = ()
    """Left, bottom, right and top of each."""
    waypoints: tuple[tuple[float, float], ...] = ()


class Rules(NamedTuple):
    """What is fixed when the environment is built. A battle without healers does not pay for them, and so on."""

    num_allies: int
    ticks: int = 8
    walls_cause_death: bool = True
    heals: bool = False
    flies: bool = False
    beams: bool = False
    blasts: bool = False
    stands: bool = False
    """Somebody cannot move: nobody pushes those units away either."""
    smac: bool = False
    """SMAC's physics instead of SMAX's: armor, attribute bonuses, ranges between edges, attackers that close in."""
    shields: bool = False
    regenerates: bool = False
    strikes: int = 1
    """The most that a unit strikes in one attack."""
    terrain: Terrain = Terrain()


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
    shield: Float[Array, " units"] | None = None
    """None where nobody has one."""
    shield_wait: Float[Array, " units"] | None = None
    """Seconds until a shield comes back."""


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


def naming_distances(rules: Rules, stats: Stats) -> Float[Array, "units #units"]:
    """How near unit j must be for unit i to name it.

    With SMAX's physics that is the reach of the weapon. With SMAC's, agents name whom they have in SMAC's shooting
    range and then close in; the enemy names whom its weapon reaches as well.
    """
    if not rules.smac:
        return jnp.asarray(stats.reach)[:, None]
    ally = np.arange(len(stats.health)) < rules.num_allies
    weapon = stats.reach[:, None] + stats.radius[:, None] + stats.radius[None, :]
    return jnp.where(ally[:, None], SHOOTING_RANGE, jnp.maximum(weapon, SHOOTING_RANGE))


def separations(position: Float[Array, "2 units"]) -> tuple[Array, Array, Float[Array, "units units"]]:
    """x and y of unit j as seen from unit i, both [units, units], and the distance."""
    x, y = position[:, None, :] - position[:, :, None]
    return x, y, jnp.sqrt(x * x + y * y)
