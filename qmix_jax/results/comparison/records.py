"""The evaluations of one seed, with the settings it was trained with."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

State = Literal["finished", "interrupted", "unfinished"]

LINE_METRICS = ("eval_win_rate", "eval_return")
"""Metrics with learning curves in every report; others are requested by name."""

NOT_COMPARED = (
    "seed",
    "num_seeds",
    "total_env_steps",
    "run_dir",
    "resume",
    "on_nonfinite",
    "logger",
    "devices",
    "distributed",
    "checkpoint",
    "evaluation",
    "sweep",
)
"""Settings, or sections of them, that say how long, where and how often a run was made, not what was trained."""


class Seed(NamedTuple):
    """One trained team: E evaluations of one seed of a run (of one cell, if the run is a sweep)."""

    source: str
    """The folder or file it was read from."""
    name: str
    """``seed_0``, ``cell_3/seed_0``, or another project's name for it."""
    env: str
    settings: Mapping[str, Any]
    """Dotted keys to values."""
    env_steps: np.ndarray
    """[E], ascending."""
    seconds: np.ndarray
    """[E]: training time, NaN if unknown."""
    metrics: Mapping[str, np.ndarray]
    """Metric name to [E]; NaN where an evaluation has no value."""

    def points(self, metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Steps, seconds and values of the evaluations that have a value."""
        values = self.metrics.get(metric, np.full(self.env_steps.shape, np.nan))
        there = np.isfinite(values)
        return self.env_steps[there], self.seconds[there], values[there]


class Source(NamedTuple):
    """One run folder, or one file of another project."""

    path: str
    kind: str
    """``qmix_jax``, ``marl-eval``, ``sacred`` or ``csv``."""
    seeds: Sequence[Seed]
    state: State
    notes: Sequence[str]
    """Notes for the reader of the comparison."""
    commit: str | None = None


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted keys."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def differing(seeds: Iterable[Seed]) -> dict[str, list[Any]]:
    """Settings that have several values among ``seeds``, with these values in order of occurrence.

    A seed without a setting (from an older version or another project) does not differ in it.
    """
    values: dict[str, dict[str, Any]] = {}
    for settings in {id(seed.settings): seed.settings for seed in seeds}.values():
        for key, value in settings.items():
            if key.split(".")[0] not in NOT_COMPARED:
                values.setdefault(key, {})[repr(value)] = value
    return {key: list(found.values()) for key, found in values.items() if len(found) > 1}


def words(value: Any) -> str:
    """A setting as it is typed on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
