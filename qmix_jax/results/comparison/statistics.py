"""Statistics over seeds and environments, with stratified bootstrap intervals.

Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice". The definitions are those
of their library rliable; the intervals come from SciPy, whose bootstrap of several samples resamples each of them on
its own, which is the bootstrap stratified by environment. rliable itself needs ``arch``, which fails with pandas 3.

Scores are given as strata: one array of seeds ``[*batch, K]`` for each environment.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from qmix_jax.logging.scores import CONFIDENCE, RESAMPLES, interquartile_mean

Strata = Sequence[np.ndarray]
NUMBERS_AT_ONCE = 4_000_000
"""The most resampled numbers in memory at once."""


class Estimate(NamedTuple):
    """A statistic and its 95% interval; NaN if an environment has only one seed."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def bootstrap(strata: Strata, statistic: Callable[[Strata], np.ndarray], resamples: int = RESAMPLES) -> Estimate:
    """A statistic with its percentile bootstrap interval, seeds resampled within each environment."""
    strata = [np.asarray(stratum, np.float64) for stratum in strata]
    value = np.asarray(statistic(strata))
    if min(stratum.shape[-1] for stratum in strata) < 2:
        return Estimate(value, np.full(value.shape, np.nan), np.full(value.shape, np.nan))
    from scipy import stats  # Not at the top: it takes a second.

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # if all seeds are equal
        found = stats.bootstrap(
            strata,
            lambda *resampled, axis: statistic(resampled),
            axis=-1,
            n_resamples=resamples,
            batch=max(1, NUMBERS_AT_ONCE // sum(stratum.size for stratum in strata)),
            confidence_level=CONFIDENCE,
            method="percentile",
            vectorized=True,
            rng=0,
        ).confidence_interval
    return Estimate(value, np.asarray(found.low), np.asarray(found.high))


def iqm(strata: Strata) -> np.ndarray:
    """Interquartile mean of all seeds in all environments."""
    return interquartile_mean(np.concatenate(strata, axis=-1))


def median(strata: Strata) -> np.ndarray:
    """Median over environments of the mean over seeds."""
    return np.median([stratum.mean(axis=-1) for stratum in strata], axis=0)


def optimality_gap(strata: Strata) -> np.ndarray:
    """How far scores fall short of 1 in the mean; what is above 1 counts as 1."""
    return 1.0 - np.minimum(np.concatenate(strata, axis=-1), 1.0).mean(axis=-1)


def performance_profile(strata: Strata, thresholds: np.ndarray) -> Estimate:
    """The fraction of seeds (in all environments) whose score is above each of ``[P]`` thresholds."""
    above = [(stratum > thresholds[:, None]).astype(np.float64) for stratum in strata]
    return bootstrap(above, lambda found: np.concatenate(found, axis=-1).mean(axis=-1))


def probability_of_improvement(ours: Strata, theirs: Strata) -> Estimate:
    """P(X > Y) for a seed of ours and one of theirs in the same environment, ties counting half; mean over these."""
    count = len(ours)

    def statistic(strata: Strata) -> np.ndarray:
        pairs = zip(strata[:count], strata[count:], strict=True)
        return np.mean([_above(x, y) for x, y in pairs], axis=0)

    return bootstrap([*ours, *theirs], statistic)


def _above(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    difference = x[..., :, None] - y[..., None, :]
    return (0.5 * (np.sign(difference) + 1)).mean(axis=(-2, -1))
