"""Sweeps: which values of which hyper-parameters are trained side by side, each with every seed.

A cell is one setting of all hyper-parameters that a sweep varies. They are traced numbers (``HyperParams``), so all
cells and seeds are lanes of one compiled program.
"""

import difflib
import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from qmix_jax.errors import ConfigError
from qmix_jax.settings.config import Config, SweepConfig
from qmix_jax.settings.groups import choices_with
from qmix_jax.settings.reading import parse
from qmix_jax.settings.spelling import ELSEWHERE
from qmix_jax.settings.values import as_float, text_of

KEYS = {
    "lr": "optimizer.learning_rate",
    "gamma": "gamma",
    "td_lambda": "target.td_lambda",
    "target_update_interval": "target.update_interval",
    "tau": "target.tau",
    "epsilon_start": "exploration.epsilon_start",
    "epsilon_end": "exploration.epsilon_end",
    "epsilon_steps": "exploration.epsilon_steps",
    "temperature_start": "exploration.temperature_start",
    "temperature_end": "exploration.temperature_end",
    "temperature_steps": "exploration.temperature_steps",
    "max_grad_norm": "learner.max_grad_norm",
    "reward_scale": "reward.scale",
    "priority_alpha": "replay.priority.alpha",
    "priority_beta": "replay.priority.beta",
}
"""Keys of ``sweep.*`` and the settings that they vary."""

WHOLE = {"target_update_interval", "epsilon_steps", "temperature_steps"}
"""Those that are whole numbers."""

NO_NUMBERS = ("design", "samples", "seed", "halving")
"""Keys of ``sweep.*`` that say how, not what."""


class Cell(NamedTuple):
    """One setting of what a sweep varies."""

    values: dict[str, float]
    """Key of ``sweep.*`` to value."""
    container: dict[str, Any]
    """The settings of a run with these values and no sweep."""
    config: Config
    """The same, typed."""

    @property
    def name(self) -> str:
        """``lr=0.0005 td_lambda=0.6``."""
        return " ".join(f"{key}={text_of(value)}" for key, value in self.values.items())


class Lane(NamedTuple):
    """One agent team in training: a cell of a sweep (None where there is no sweep) and a seed."""

    cell: int | None
    seed: int

    @property
    def name(self) -> str:
        """``cell_3/seed_0``, or ``seed_0``."""
        return f"seed_{self.seed}" if self.cell is None else f"cell_{self.cell}/seed_{self.seed}"

    @property
    def words(self) -> str:
        """``cell 3, seed 0``, or ``seed 0``."""
        return self.name.replace("_", " ").replace("/", ", ")


def lanes(num_cells: int, seeds: list[int]) -> list[Lane]:
    """Every seed of the first cell, then of the next; without cells just the seeds."""
    return [Lane(cell, seed) for cell in (range(num_cells) if num_cells else [None]) for seed in seeds]


def cells(container: Mapping[str, Any], config: Config) -> list[Cell]:
    """The cells of ``sweep.*``, none where it names nothing to vary.

    Args:
        container: the settings of a run.
        config: the same, typed.

    Raises :class:`ConfigError` for values that the settings they stand for refuse, or that would have no effect.
    """
    dimensions = {key: value for key, value in container["sweep"].items() if key in KEYS and value is not None}
    if not dimensions:
        if config.sweep.halving is not None:
            raise ConfigError(f"sweep.halving={config.sweep.halving}: there is nothing to vary; give sweep.lr=[...]")
        if config.sweep.design != "grid":
            raise ConfigError(f"sweep.design={config.sweep.design}: there is nothing to vary; give sweep.lr=[...]")
        return []
    for key in dimensions:
        _check_effect(key, container)
    if config.sweep.design == "random":
        _check_ends(dimensions, container)
    found = [_cell(values, container) for values in _design(config.sweep, dimensions)]
    known: dict[tuple[float, ...], Cell] = {}
    for cell in found:
        on_device = tuple(float(np.float32(value)) for value in cell.values.values())
        if known.setdefault(on_device, cell) is not cell:
            raise ConfigError(f"sweep: two cells with {cell.name}; leave one of them out")
    return found


def check_key(key: str, value: str) -> None:
    """Raise :class:`ConfigError` for a key of ``sweep.*`` that is not there, saying how else it can be varied."""
    name = key.removeprefix("sweep.")
    if not key.startswith("sweep.") or name in KEYS or name in NO_NUMBERS:
        return
    known = {other: own for own, path in KEYS.items() for other in _other_names(path)}
    known |= {own: own for own in (*KEYS, *NO_NUMBERS)}
    near = [name] if name in known else difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    if near:
        raise ConfigError(f"{key}={value}: unknown key; did you mean sweep.{known[near[0]]}?")
    raise ConfigError(
        f"{key}={value}: not a number that may differ inside one program ({', '.join(KEYS)} are); "
        "for a run with each value use --multirun and the setting itself, like agent.hidden_size=64,128"
    )


def _other_names(path: str) -> tuple[str, ...]:
    """What a user may call the setting at ``path`` behind ``sweep.``."""
    return (path, path.rpartition(".")[2], *ELSEWHERE.get(path, ()))


def several_values(key: str) -> str:
    """How to train with several values of a setting in one program, nothing where that cannot be done."""
    if key in ("seed", "num_seeds"):
        return "several seeds are num_seeds=4, from seed=0 on"
    return next((f"in one program: sweep.{own}=[a,b]" for own, path in KEYS.items() if path == key), "")


def _design(sweep: SweepConfig, dimensions: Mapping[str, Any]) -> list[dict[str, float]]:
    if sweep.design == "random":
        return _random(sweep, {key: _choices(key, value) for key, value in dimensions.items()})
    lists = {key: _values(key, value) for key, value in dimensions.items()}
    if sweep.design == "grid":
        return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]
    lengths = {key: len(values) for key, values in lists.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"sweep.{key} has {length}" for key, length in lengths.items())
        raise ConfigError(f"sweep.design=zip: every list must be as long: {told}")
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def _random(sweep: SweepConfig, dimensions: Mapping[str, "list[float] | Interval"]) -> list[dict[str, float]]:
    generator = np.random.default_rng(sweep.seed)

    def draw(key: str, choices: "list[float] | Interval") -> float:
        if isinstance(choices, list):
            return choices[generator.integers(len(choices))]
        low, high, log = choices
        value = math.exp(generator.uniform(math.log(low), math.log(high))) if log else generator.uniform(low, high)
        # Four digits say as much, and can be typed again; rounded they may be outside.
        return round(value) if key in WHOLE else min(max(float(f"{value:.4g}"), low), high)

    found: dict[tuple[float, ...], dict[str, float]] = {}  # A cell that was drawn before is drawn again.
    for _ in range(DRAWS * sweep.samples):
        drawn = {key: draw(key, choices) for key, choices in dimensions.items()}
        found.setdefault(tuple(drawn.values()), drawn)
        if len(found) == sweep.samples:
            return list(found.values())
    raise ConfigError(
        f"sweep.samples={sweep.samples}: the values make only {len(found)} different cells; use at most {len(found)}"
    )


DRAWS = 100
"""How often a random design draws for each of its cells, before it takes them for all that there are."""


class Interval(NamedTuple):
    """Where ``sweep.design=random`` draws from, uniformly or (``log``) uniformly in the logarithm."""

    low: float
    high: float
    log: bool


def _choices(key: str, value: Any) -> "list[float] | Interval":
    if not isinstance(value, Mapping):
        return _values(key, value)
    known = {"low", "high", "log"}
    if not {"low", "high"} <= value.keys() <= known:
        raise ConfigError(f"sweep.{key}={dict(value)}: must be a list, or {{low: ..., high: ..., log: true or false}}")
    log = value.get("log", key == "lr")
    if not isinstance(log, bool):
        raise ConfigError(f"sweep.{key}.log={log}: must be true or false")
    low, high = (_number(f"{key}.{end}", value[end]) for end in ("low", "high"))
    for end, number in (("low", low), ("high", high)):
        if key in WHOLE and number != round(number):
            raise ConfigError(f"sweep.{key}.{end}={number}: must be a whole number")
    if low >= high:
        raise ConfigError(f"sweep.{key}.low={low}: must be less than sweep.{key}.high={high}")
    if log and low <= 0:
        raise ConfigError(f"sweep.{key}.low={low}: must be more than 0 with sweep.{key}.log=true")
    return Interval(low, high, log)


def _check_ends(dimensions: Mapping[str, Any], container: Mapping[str, Any]) -> None:
    """Both ends of every range must be valid, whatever is drawn between them."""
    found = {key: _choices(key, value) for key, value in dimensions.items()}
    for end in (min, max):
        _cell(
            {key: end(it.low, it.high) if isinstance(it, Interval) else end(it) for key, it in found.items()}, container
        )


def _values(key: str, value: Any) -> list[float]:
    if isinstance(value, Mapping):
        raise ConfigError(f"sweep.{key}={dict(value)}: a range needs sweep.design=random; else give a list like [a,b]")
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ConfigError(f"sweep.{key}=[]: must hold at least one number")
    return [_number(key, item) for item in values]


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(as_float(value)):
        torn = str(value).startswith(("low:", "high:", "log:"))
        hint = "; quote the range, for the shell takes braces apart: 'sweep.lr={low:1e-5,high:1e-3}'" if torn else ""
        raise ConfigError(f"sweep.{key}={value}: must be a number or a list of numbers{hint}")
    return value


def _check_effect(key: str, container: Mapping[str, Any]) -> None:
    """What a sweep varies must be read by the parts that are chosen."""
    path = KEYS[key]
    section: Any = container
    for name in path.split("."):
        if not isinstance(section, Mapping) or name not in section:
            choose = f"{path.partition('.')[0]}={choices_with(path)[0]}"
            raise ConfigError(f"sweep.{key}: {path} is no setting here; choose {choose} for it")
        section = section[name]
    update = {"tau": "soft", "target_update_interval": "hard"}.get(key)
    if update is not None and container["target"]["network"] == "online":
        raise ConfigError(f"sweep.{key}: has no effect with target.network=online; use target")
    if update is not None and container["target"]["update"] != update:
        raise ConfigError(
            f"sweep.{key}: has no effect with target.update={container['target']['update']}; use {update}"
        )


def _cell(values: dict[str, float], container: Mapping[str, Any]) -> Cell:
    changed = {**container, "sweep": dict.fromkeys(KEYS) | {k: container["sweep"][k] for k in NO_NUMBERS}}
    changed["sweep"]["halving"] = None
    for key, value in values.items():
        changed = _with(changed, KEYS[key].split("."), value)
    try:
        return Cell(values, changed, parse(changed))
    except ConfigError as error:
        keys = ", ".join(f"sweep.{key}" for key in values)
        raise ConfigError(f"{error} (from {keys})") from error


def _with(tree: Mapping[str, Any], path: list[str], value: float) -> dict[str, Any]:
    head, *rest = path
    return {**tree, head: _with(tree[head], rest, value) if rest else value}
