"""The table of unit types. Distances are in map units, times in seconds."""

from collections.abc import Sequence
from typing import NamedTuple

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


UNIT_TYPES = (
    # JaxMARL's six, in its order: a type's place is its number.
    UnitType("marine", "m", 45, 9, 0.61, 5, 3.15, 0.375, 9, hits_air=True),
    UnitType("marauder", "M", 125, 10, 1.07, 6, 2.25, 0.5625, 10),
    UnitType("stalker", "s", 160, 13, 1.87, 6, 4.13, 0.625, 10, hits_air=True, biological=False),
    UnitType("zealot", "Z", 150, 8, 0.86, 2, 3.15, 0.5, 9),
    UnitType("zergling", "z", 35, 5, 0.5, 2, 4.13, 0.375, 8),
    UnitType("hydralisk", "h", 80, 12, 0.59, 5, 3.15, 0.625, 9, hits_air=True),
    UnitType("medivac", "d", 150, 9, 1, 4, 3.5, 0.75, 11, biological=False, flies=True, heals=True),
    UnitType("colossus", "c", 350, 20, 1.07, 7, 3.15, 1, 10, biological=False, beam=True),
    UnitType("baneling", "b", 30, 80, 1, 2, 3.15, 0.375, 8, blast=True),
    UnitType("spine_crawler", "S", 300, 25, 1.32, 7, 0, 0.5, 11),
)
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


def _column(field: str) -> np.ndarray:
    values = np.asarray([getattr(unit, field) for unit in UNIT_TYPES])
    return values if values.dtype == bool else values.astype(np.float32)


TABLE = Stats(*(_column(field) for field in Stats._fields))
"""The same by type number instead of unit."""


def stats_of(types: Int[Array, " units"]) -> Stats:
    """The stats of units of these types; NumPy arrays where ``types`` is one."""
    if isinstance(types, np.ndarray):
        return Stats(*(column[types] for column in TABLE))
    import jax.numpy as jnp

    return Stats(*(jnp.asarray(column)[types] for column in TABLE))


def numbers_of(names: Sequence[str]) -> np.ndarray:
    """The type numbers of units given by name."""
    return np.asarray([NUMBERS[name] for name in names], np.int32)
