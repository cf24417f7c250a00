"""Align seeds at common steps, and compute their learning curve with its interval."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qmix_jax.results.comparison.records import Seed
from qmix_jax.results.comparison.statistics import bootstrap, iqm

SAME_STEP = 0.05
"""Evaluations whose steps differ by less than this fraction count as one step."""
RESAMPLES = 1000
"""Enough for the band of a figure."""
FRACTIONS = np.linspace(0.05, 1.0, 20)
"""Of the budget, at which curves over environments are computed."""
A_LITTLE = 0.02
"""A seed may end this much earlier than another and still count at its last step."""


class Curve(NamedTuple):
    """Interquartile mean of up to S seeds at E common steps."""

    env_steps: np.ndarray
    """[E]"""
    iqm: np.ndarray
    low: np.ndarray
    high: np.ndarray
    """[E]; NaN where there is only one seed."""
    values: np.ndarray
    """[S, E]: the seeds; NaN beyond the steps that a seed was trained for."""

    @property
    def counts(self) -> np.ndarray:
        """[E]: seeds at each step."""
        return np.isfinite(self.values).sum(axis=0)


def learning_curve(seeds: Sequence[Seed], metric: str) -> Curve | None:
    """One metric over environment steps, or None if no seed has a value.

    If seeds end at different steps, each step has the seeds that reached it.
    """
    found = [seed.points(metric) for seed in seeds]
    points = [(steps, values) for steps, _, values in found if steps.size]
    if not points:
        return None
    steps, values = common_steps(points)
    low, middle, high = (np.full(steps.shape, np.nan) for _ in range(3))
    there = np.isfinite(values)
    for pattern in np.unique(there, axis=1).T:
        places = np.flatnonzero((there == pattern[:, None]).all(axis=0))
        if pattern.any():
            middle[places], low[places], high[places] = bootstrap([values[pattern][:, places].T], iqm, RESAMPLES)
    return Curve(steps, middle, low, high, values)


def common_steps(points: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Steps [E] and values [S, E] of seeds that are given as steps and values.

    Evaluations made at almost the same steps (the epochs of one run, whose episodes differ in length) keep their
    values, at the mean of their steps. Others are interpolated linearly, at the intervals of the seed whose
    evaluations are furthest apart.
    """
    longest = max(len(steps) for steps, _ in points)
    padded = np.full((2, len(points), longest), np.nan)
    for place, (steps, values) in enumerate(points):
        padded[:, place, : len(steps)] = steps, values
    least, most = np.nanmin(padded[0], axis=0), np.nanmax(padded[0], axis=0)
    if np.all(most - least <= SAME_STEP * most):
        return np.nanmean(padded[0], axis=0), padded[1]
    rarest = max((steps for steps, _ in points), key=_spacing)
    first, last = max(steps[0] for steps, _ in points), max(steps[-1] for steps, _ in points)
    more = np.arange(rarest[-1], last, max(_spacing(rarest), 1.0))[1:] if len(rarest) > 1 else np.array([])
    grid = np.concatenate([rarest[rarest >= min(first, rarest[-1])], more])
    return grid, np.stack([_interpolated(grid, *seed) for seed in points])


class AggregateCurve(NamedTuple):
    """Interquartile mean of all seeds in all environments, at F fractions of each environment's budget."""

    fraction: np.ndarray
    """[F]"""
    iqm: np.ndarray
    low: np.ndarray
    high: np.ndarray
    """[F]; NaN where an environment has only one seed."""


def aggregate_curve(
    by_env: Sequence[Sequence[Seed]], metric: str, budgets: Sequence[float], scales: Sequence[tuple[float, float]]
) -> AggregateCurve | None:
    """The learning curve of one method over several environments, of scaled scores.

    Seeds are interpolated linearly between evaluations; those without an evaluation at the budget are left out, and so
    are the fractions before the first evaluation of any seed.

    Args:
        by_env: the seeds in each environment.
        metric: the metric that is scored.
        budgets: of each environment, in environment steps of one seed.
        scales: what is scaled to 0 and 1 in each environment.

    Returns None where an environment has no seed.
    """
    strata = []
    for seeds, budget, (low, high) in zip(by_env, budgets, scales, strict=True):
        points = [(steps, values) for steps, _, values in (seed.points(metric) for seed in seeds)]
        there = [(steps, values) for steps, values in points if steps.size and steps[-1] >= (1 - A_LITTLE) * budget]
        if not there:
            return None
        grid = FRACTIONS * budget
        found = np.stack([np.interp(grid, steps, values, left=np.nan) for steps, values in there], axis=-1)
        strata.append((found - low) / (high - low))
    known = np.all([np.isfinite(stratum).all(axis=-1) for stratum in strata], axis=0)
    if not known.any():
        return None
    estimate = bootstrap([stratum[known] for stratum in strata], iqm, RESAMPLES)
    return AggregateCurve(FRACTIONS[known], estimate.value, estimate.low, estimate.high)


def _spacing(steps: np.ndarray) -> float:
    return float(np.median(np.diff(steps))) if len(steps) > 1 else 0.0


def _interpolated(grid: np.ndarray, steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    found = np.interp(grid, steps, values, left=np.nan, right=np.nan)
    found[(grid > steps[-1]) & (grid <= (1 + A_LITTLE) * steps[-1])] = values[-1]
    return found
