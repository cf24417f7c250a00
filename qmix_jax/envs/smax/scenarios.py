"""The table of scenarios: SMAC's maps, SMACv2's random teams, and what a user writes down."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from qmix_jax.envs.settings import check_at_least
from qmix_jax.envs.smax.rules import Rules, Terrain
from qmix_jax.envs.smax.terrain import CHOKE, CLIFF
from qmix_jax.envs.smax.units import JAXMARL_TYPES, NUMBERS, SMAC_TABLE, TABLE, numbers_of, stats_of
from qmix_jax.errors import ConfigError, unknown_choice


class Scenario(NamedTuple):
    """Who fights whom, where, and for how long."""

    allies: tuple[str, ...]
    """The name of each unit's type."""
    enemies: tuple[str, ...]
    max_steps: int = 100
    allies_at: tuple[float, float] = (8.0, 16.0)
    enemies_at: tuple[float, float] = (24.0, 16.0)
    spread: tuple[float, float] = (2.0, 2.0)
    """How far from there units may start, in x and in y: of the allies and of the enemies."""
    random: bool = False
    """SMACv2: types and positions are drawn anew for every episode, and both sides have the same types."""
    terrain: Terrain = Terrain()
    smac_steps: int | None = None
    """SMAC's limit, where ``max_steps`` is JaxMARL's."""

    @property
    def num_types(self) -> int:
        """How many types the one-hot vectors of the observations tell apart: JaxMARL's six where that is enough."""
        few = max(NUMBERS[name] for name in self.allies + self.enemies) < JAXMARL_TYPES
        return JAXMARL_TYPES if few else len(NUMBERS)


def _team(**counts: int) -> tuple[str, ...]:
    return tuple(name for name, count in counts.items() for _ in range(count))


def _marines(allies: int, enemies: int, smac_steps: int) -> Scenario:
    return Scenario(_team(marine=allies), _team(marine=enemies), smac_steps=smac_steps)


def _any(units: int) -> Scenario:
    return Scenario(_team(marine=units), _team(marine=units), random=True)


_3S5Z = _team(stalker=3, zealot=5)
_MMM = _team(medivac=1, marauder=2, marine=7)
_1C3S5Z = _team(colossus=1, stalker=3, zealot=5)
_BANES = _team(zergling=20, baneling=4)

JAXMARL_SCENARIOS = {
    "3m": _marines(3, 3, 60),
    "2s3z": Scenario(_team(stalker=2, zealot=3), _team(stalker=2, zealot=3), smac_steps=120),
    "25m": _marines(25, 25, 150),
    "3s5z": Scenario(_3S5Z, _3S5Z, smac_steps=150),
    "8m": _marines(8, 8, 120),
    "5m_vs_6m": _marines(5, 6, 70),
    "10m_vs_11m": _marines(10, 11, 150),
    "27m_vs_30m": _marines(27, 30, 180),
    "3s5z_vs_3s6z": Scenario(_3S5Z, _team(stalker=3, zealot=6), smac_steps=170),
    "3s_vs_5z": Scenario(_team(stalker=3), _team(zealot=5), smac_steps=250),
    "6h_vs_8z": Scenario(_team(hydralisk=6), _team(zealot=8), smac_steps=150),
    "smacv2_5_units": _any(5),
    "smacv2_10_units": _any(10),
    "smacv2_20_units": _any(20),
}
SMAC_SCENARIOS = {
    "8m_vs_9m": Scenario(_team(marine=8), _team(marine=9), max_steps=120),
    "MMM": Scenario(_MMM, _MMM, max_steps=150),
    "MMM2": Scenario(_MMM, _team(medivac=1, marauder=3, marine=8), max_steps=180),
    "1c3s5z": Scenario(_1C3S5Z, _1C3S5Z, max_steps=180),
    "2c_vs_64zg": Scenario(
        _team(colossus=2), _team(zergling=64), 400, (16.0, 22.0), (16.0, 9.0), spread=(2.0, 5.0), terrain=CLIFF
    ),
    "corridor": Scenario(
        _team(zealot=6), _team(zergling=24), 400, (9.0, 9.0), (24.0, 24.0), spread=(2.0, 3.0), terrain=CHOKE
    ),
    "bane_vs_bane": Scenario(_BANES, _BANES, max_steps=200, spread=(4.0, 4.0)),
    "so_many_baneling": Scenario(_team(zealot=7), _team(baneling=32), 100, spread=(3.0, 4.0)),
    "3s_vs_3z": Scenario(_team(stalker=3), _team(zealot=3), max_steps=150),
    "3s_vs_4z": Scenario(_team(stalker=3), _team(zealot=4), max_steps=200),
    "2m_vs_1z": Scenario(_team(marine=2), _team(zealot=1), max_steps=150),
    "2s_vs_1sc": Scenario(_team(stalker=2), _team(spine_crawler=1), max_steps=300),
}
"""The maps that JaxMARL lacks, with SMAC's numbers of actions."""
SCENARIOS = JAXMARL_SCENARIOS | SMAC_SCENARIOS


def find_scenario(name: str, allies: object = None, enemies: object = None) -> Scenario:
    """The scenario with this name, or the one of two teams, ``{type: number}``, that a user wrote down.

    Raises :class:`ConfigError` for a name, a type or a number that cannot be used, and for one team without the other.
    """
    if allies is None and enemies is None:
        if name not in SCENARIOS:
            raise unknown_choice("env.scenario", name, SCENARIOS)
        return SCENARIOS[name]
    for key, team, other in (("enemies", enemies, "allies"), ("allies", allies, "enemies")):
        if team is None:
            raise ConfigError(f"env.{key}=null: missing; env.{other} is given, so give both, like {{marine: 5}}")
    return Scenario(_own_team("env.allies", allies), _own_team("env.enemies", enemies))


def rules_of(scenario: Scenario, smac: bool) -> Rules:
    """The rules of a scenario: what its units can do, in SMAX's physics or in SMAC's."""
    types = np.arange(JAXMARL_TYPES) if scenario.random else numbers_of(scenario.allies + scenario.enemies)
    stats = stats_of(types, SMAC_TABLE if smac else TABLE)
    return Rules(
        num_allies=len(scenario.allies),
        heals=bool(stats.heals.any()),
        flies=bool(stats.flies.any()),
        beams=bool(stats.beam.any()),
        blasts=bool(stats.blast.any()),
        stands=bool((stats.speed == 0).any()),
        smac=smac,
        shields=bool(stats.shield.any()),
        regenerates=bool(stats.regeneration.any()),
        strikes=int(stats.strikes.max()),
    )


def _own_team(key: str, team: object) -> tuple[str, ...]:
    if not isinstance(team, Mapping):
        raise ConfigError(f"{key}={team}: must be numbers of units by type, like {{marine: 5, medivac: 1}}")
    for name, count in team.items():
        if name not in NUMBERS:
            raise unknown_choice(key, name, NUMBERS)
        if isinstance(count, bool) or not isinstance(count, int):
            raise ConfigError(f"{key}.{name}={count}: must be a whole number")
        check_at_least(f"{key}.{name}", count, 0)
    if not any(team.values()):
        raise ConfigError(f"{key}={team}: must have at least one unit")
    return _team(**{str(name): count for name, count in team.items()})
