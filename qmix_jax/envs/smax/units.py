"""The table of unit types. Distances are in map units, times in seconds."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


class UnitType(NamedTuple):
    """One type of unit, in the numbers of SMAX: shields are part of health, and ranges are from centre to centre."""

    name: str
    letter: str
    health: float
    damage: float
    cooldown: float
    reach: float
    """How far away a target may be."""
    speed: float
    radius: float
    sight: float
    hits_air: bool = False
    flies: bool = False
    biological: bool = True
    heals: bool = False
    """Restores ``damage`` health a second, of its own side, for energy."""
    beam: bool = False
    """Hits everything on a line through the target, at right angles to the line of fire."""
    blast: bool = False
    """Dies as it attacks and hits everything around itself."""
    climbs: bool = False
    """Steps over walls."""
    shield: float = 0
    """Takes damage before health does. This and what follows is of SMAC's physics only."""
    armor: float = 0
    strikes: int = 1
    """How often one attack does ``damage``; armor is taken off each strike."""
    light: bool = False
    armored: bool = False
    against_light: float = 0
    """What a strike does in addition to light units, and to armored ones."""
    against_armored: float = 0
    regeneration: float = 0
    """Health that comes back in a second."""


UNIT_TYPES = (
    # JaxMARL's six, in its order: a type's place is its number.
    UnitType("marine", "m", 45, 9, 0.61, 5, 3.15, 0.375, 9, hits_air=True),
    UnitType("marauder", "M", 125, 10, 1.07, 6, 2.25, 0.5625, 10),
    UnitType("stalker", "s", 160, 13, 1.87, 6, 4.13, 0.625, 10, hits_air=True, biological=False),
    UnitType("zealot", "Z", 150, 8, 0.86, 2, 3.15, 0.5, 9),
    UnitType("zergling", "z", 35, 5, 0.5, 2, 4.13, 0.375, 8),
    UnitType("hydralisk", "h", 80, 12, 0.59, 5, 3.15, 0.625, 9, hits_air=True),
    UnitType("medivac", "d", 150, 9, 1, 4, 3.5, 0.75, 11, biological=False, flies=True, heals=True),
    UnitType("colossus", "c", 350, 20, 1.07, 7, 3.15, 1, 10, biological=False, beam=True, climbs=True),
    UnitType("baneling", "b", 30, 35, 1, 2, 3.15, 0.375, 8, blast=True),
    UnitType("spine_crawler", "S", 300, 25, 1.32, 7, 0, 0.5, 11),
)
SMAC_SIGHT = 9
_ZERG = 0.38
_SMAC = {
    "marine": {"damage": 6, "light": True},
    "marauder": {"speed": 3.15, "armor": 1, "against_armored": 10, "armored": True},
    "stalker": {"health": 80, "shield": 80, "cooldown": 1.34, "armor": 1, "against_armored": 5, "armored": True},
    "zealot": {"health": 100, "shield": 50, "reach": 0.1, "armor": 1, "strikes": 2, "light": True},
    "zergling": {"cooldown": 0.497, "reach": 0.1, "light": True, "regeneration": _ZERG},
    "hydralisk": {"light": True, "regeneration": _ZERG},
    "medivac": {"armor": 1, "armored": True},
    "colossus": {
        "health": 200,
        "shield": 150,
        "damage": 10,
        "strikes": 2,
        "armor": 1,
        "against_light": 5,
        "armored": True,
    },
    "baneling": {"damage": 20, "against_light": 15, "reach": 0.25, "regeneration": _ZERG},
    "spine_crawler": {"armor": 2, "against_armored": 5, "armored": True, "regeneration": _ZERG},
}
SMAC_UNIT_TYPES = tuple(unit._replace(sight=SMAC_SIGHT, **_SMAC[unit.name]) for unit in UNIT_TYPES)
"""The same in SMAC's numbers: shields of their own, and ranges from edge to edge."""
NUMBERS = {unit.name: number for number, unit in enumerate(UNIT_TYPES)}
"""The number of each type."""
JAXMARL_TYPES = 6

BEAM_WIDTH = 2.8
BEAM_DEPTH = 0.3
BLAST_RADIUS = 2.2
MAX_ENERGY = 200.0
START_ENERGY = 50.0
LEAST_ENERGY = 5.0
"""What a medivac must have to turn to another patient."""
ENERGY_PER_SECOND = 0.5625
HEALTH_PER_ENERGY = 3.0
SHIELD_PER_SECOND = 2.0
SHIELD_WAIT = 10.0
"""Seconds without a hit after which a shield comes back."""


class Stats(NamedTuple):
    """What each unit's type says, for all units of a battle."""

    health: Float[Array, " units"]
    damage: Float[Array, " units"]
    cooldown: Float[Array, " units"]
    reach: Float[Array, " units"]
    speed: Float[Array, " units"]
    radius: Float[Array, " units"]
    sight: Float[Array, " units"]
    hits_air: Bool[Array, " units"]
    flies: Bool[Array, " units"]
    biological: Bool[Array, " units"]
    heals: Bool[Array, " units"]
    beam: Bool[Array, " units"]
    blast: Bool[Array, " units"]
    climbs: Bool[Array, " units"]
    shield: Float[Array, " units"]
    armor: Float[Array, " units"]
    strikes: Float[Array, " units"]
    light: Bool[Array, " units"]
    armored: Bool[Array, " units"]
    against_light: Float[Array, " units"]
    against_armored: Float[Array, " units"]
    regeneration: Float[Array, " units"]


def _column(units: Sequence[UnitType], field: str) -> Any:
    values = np.asarray([getattr(unit, field) for unit in units])
    return values if values.dtype == bool else values.astype(np.float32)


TABLE = Stats(*(_column(UNIT_TYPES, field) for field in Stats._fields))
"""The same by type number instead of unit."""
SMAC_TABLE = Stats(*(_column(SMAC_UNIT_TYPES, field) for field in Stats._fields))


def stats_of(types: Int[Array, " units"] | np.ndarray, table: Stats = TABLE) -> Stats:
    """The stats of units of these types; NumPy arrays where ``types`` is one."""
    if isinstance(types, np.ndarray):
        return Stats(*(column[types] for column in table))
    return Stats(*(jnp.asarray(column)[types] for column in table))


def numbers_of(names: Sequence[str]) -> np.ndarray:
    """The type numbers of units given by name."""
    return np.asarray([NUMBERS[name] for name in names], np.int32)
