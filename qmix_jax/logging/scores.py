"""Robust statistics over seeds.

Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice".
"""

import warnings
from typing import NamedTuple

import numpy as np

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
    """Mean of the middle half along the last axis, ``[*batch, K] -> [*batch]``; NaN where one of the values is."""
    count = np.shape(values)[-1]
    ordered = np.sort(values, axis=-1)  # NaN comes last, and would be cut off as the best value
    middle = ordered[..., count // 4 : count - count // 4].mean(axis=-1)
    return np.where(np.isnan(ordered[..., -1]), np.nan, middle)[()]


def score(values: np.ndarray) -> Score:
    """What K seeds ``[*batch, K]`` say; with one seed the interval is NaN.

    Intervals are 95% percentile bootstrap intervals over seeds, which with one environment is what a bootstrap
    stratified by environments comes to.
    """
    values = np.asarray(values, np.float64)
    iqm = interquartile_mean(values)
    low = high = np.full(values.shape[:-1], np.nan)
    if values.shape[-1] > 1:
        from scipy import stats  # Not at the top: it takes two seconds.

        with warnings.catch_warnings():
            # Where all seeds are equal the interval is that point, and where one is NaN, NaN.
            warnings.simplefilter("ignore", stats.DegenerateDataWarning)
            low, high = stats.bootstrap(
                (values,),
                lambda x, axis: interquartile_mean(np.moveaxis(x, axis, -1)),
                axis=-1,
                n_resamples=RESAMPLES,
                confidence_level=CONFIDENCE,
                method="percentile",
                rng=0,
            ).confidence_interval
    return Score(iqm, np.asarray(low), np.asarray(high), values.min(axis=-1), values.max(axis=-1))
