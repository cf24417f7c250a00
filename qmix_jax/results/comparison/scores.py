"""One score per seed, at a number of steps that all were trained for; and the time to reach a threshold."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from qmix_jax.results.comparison.alignment import A_LITTLE
from qmix_jax.results.comparison.groups import Groups
from qmix_jax.results.comparison.records import Seed
from qmix_jax.results.curves import RATES

KINDS = ("final", "best", "mean")
LONGER = 1.05
"""Runs trained this many times as long as the budget are mentioned."""


class Scores(NamedTuple):
    """Scores of seeds by method and environment."""

    raw: Mapping[tuple[str, str], np.ndarray]
    """[K] in the metric's own unit; pairs without a seed that reached the budget are left out."""
    scaled: Mapping[tuple[str, str], np.ndarray]
    """[K], between 0 and 1."""
    budgets: Mapping[str, float]
    """Environment to the steps at which its methods are compared."""
    scales: Mapping[str, tuple[float, float]]
    """Environment to the values that are scaled to 0 and 1."""
    notes: Sequence[str]


def score_seeds(groups: Groups, metric: str, kind: str, at: float | None, finished: set[str]) -> Scores:
    """Score every seed.

    Args:
        groups: the seeds.
        metric: the metric to score.
        kind: ``final``, the last evaluation within the budget; ``best``; or ``mean``, of all evaluations within it.
        at: the budget in environment steps of one seed; None is, for each environment, what every finished run reached.
        finished: the sources that ended as planned.
    """
    raw, scaled, budgets, scales, notes = {}, {}, {}, {}, []
    for env in groups.envs:
        own = {method: seeds for (method, name), seeds in groups.seeds.items() if name == env}
        everyone = [seed for seeds in own.values() for seed in seeds if seed.points(metric)[0].size]
        if not everyone:
            notes.append(f"{env}: no run has {metric}")
            continue
        budget = at if at is not None else _budget(everyone, metric, finished)
        low, high = _scale(everyone, metric)
        budgets[env], scales[env] = budget, (low, high)
        for method, seeds in own.items():
            values = [value for seed in seeds if (value := _score(seed, metric, kind, budget)) is not None]
            if values:
                raw[method, env] = np.array(values)
                scaled[method, env] = (raw[method, env] - low) / (high - low)
            notes += _left_out(method, env, len(seeds) - len(values), len(seeds), budget)
        longest = max(seed.points(metric)[0][-1] for seed in everyone)
        if longest > LONGER * budget:
            reason = "as asked" if at is not None else "which every finished run reached"
            notes.append(f"{env}: compared at {budget:,.0f} steps, {reason}; the longest run has {longest:,.0f}")
    return Scores(raw, scaled, budgets, scales, notes)


def _left_out(method: str, env: str, count: int, total: int, budget: float) -> list[str]:
    if not count:
        return []
    seeds = f"{count} of {total} seed(s)"
    return [f"{method} on {env}: {seeds} have no evaluation at {budget:,.0f} steps: in the curves, not in the scores"]


def _budget(seeds: Sequence[Seed], metric: str, finished: set[str]) -> float:
    """The steps that every finished run reached.

    Cells that ``sweep.halving`` has stopped do not count, nor seeds whose last evaluation has no value: one of them
    would take all other runs back to the steps where it ended.
    """
    most: dict[str, int] = {}
    for seed in seeds:
        most[seed.source] = max(most.get(seed.source, 0), seed.env_steps.size)

    def is_whole(seed: Seed) -> bool:
        # In a file of another project each seed is a run.
        all_epochs = "source" in seed.settings or seed.env_steps.size == most[seed.source]
        return all_epochs and seed.points(metric)[0][-1] == seed.env_steps[-1]

    ended = [seed for seed in seeds if seed.source in finished]
    counted = [seed for seed in ended if is_whole(seed)] or ended or seeds
    return float(min(seed.points(metric)[0][-1] for seed in counted))


def _scale(seeds: Sequence[Seed], metric: str) -> tuple[float, float]:
    if metric in RATES:
        return 0.0, 1.0
    values = np.concatenate([seed.points(metric)[2] for seed in seeds])
    low, high = float(values.min()), float(values.max())
    return low, high if high > low else low + 1.0


def _score(seed: Seed, metric: str, kind: str, budget: float) -> float | None:
    steps, _, values = seed.points(metric)
    if not steps.size or steps[-1] < (1 - A_LITTLE) * budget:
        return None
    within = values[steps <= (1 + A_LITTLE) * budget]
    if not within.size:
        return None
    return float({"final": lambda: within[-1], "best": within.max, "mean": within.mean}[kind]())


class Reached(NamedTuple):
    """When the seeds of a method first reached a threshold."""

    method: str
    env: str
    threshold: float
    env_steps: np.ndarray
    seconds: np.ndarray
    """[K]; infinite for a seed that never did, NaN if times are unknown."""

    @property
    def num_reached(self) -> int:
        """Seeds that reached it."""
        return int(np.isfinite(self.env_steps).sum())


def time_to(groups: Groups, scores: Scores, metric: str, thresholds: Sequence[float] | None) -> list[Reached]:
    """For each method the first evaluation of each seed at or above a threshold.

    Where none is asked for: half and nine tenths of the way from what counts as 0 to what counts as 1.
    """
    found = []
    for env, (low, high) in scores.scales.items():
        for threshold in thresholds if thresholds is not None else (low + 0.5 * (high - low), low + 0.9 * (high - low)):
            for (method, name), seeds in groups.seeds.items():
                if name == env:
                    first = np.array([_first(seed, metric, threshold) for seed in seeds])
                    found.append(Reached(method, env, threshold, first[:, 0], first[:, 1]))
    return found


def _first(seed: Seed, metric: str, threshold: float) -> tuple[float, float]:
    steps, seconds, values = seed.points(metric)
    places = np.flatnonzero(values >= threshold)
    return (float(steps[places[0]]), float(seconds[places[0]])) if places.size else (np.inf, np.inf)
