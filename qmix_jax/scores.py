"""Robust statistics over seeds.

Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice".
"""

import warnings
from typing import NamedTuple

import numpy as np
from scipy import stats

RESAMPLES = 2000
CONFIDENCE = 0.95


class Score(NamedTuple):
    """Interquartile means with their bootstrap intervals, and the extremes; ``[*batch]`` each."""

    iqm: np.ndarray
    low: np.ndarray
    high: np.ndarray
    min: np.ndarray
    max: np.ndarray


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the middle half along the last axis, ``[*batch, K] -> [*batch]``."""
    return np.asarray(stats.trim_mean(values, 0.25, axis=-1))


def score(values: np.ndarray) -> Score:
    """What K seeds ``[*batch, K]`` say; with one seed the interval is NaN.

    Intervals are 95% percentile bootstrap intervals over seeds, which with one environment is what a bootstrap
    stratified by environments comes to.
    """
    values = np.asarray(values, np.float64)
    iqm = interquartile_mean(values)
    low = high = np.full(values.shape[:-1], np.nan)
    if values.shape[-1] > 1:
        with warnings.catch_warnings():
            # Where all seeds are equal the interval is that point, and where one is NaN, NaN.
            warnings.simplefilter("ignore", stats.DegenerateDataWarning)
            low, high = stats.bootstrap(
                (values,),
                lambda x, axis: stats.trim_mean(x, 0.25, axis=axis),
                axis=-1,
                n_resamples=RESAMPLES,
                confidence_level=CONFIDENCE,
                method="percentile",
                rng=0,
            ).confidence_interval
    return Score(iqm, np.asarray(low), np.asarray(high), values.min(axis=-1), values.max(axis=-1))
