"""95% confidence intervals over episodes or seeds."""

import math
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean and its 95% confidence interval; NaN for a single value."""

    mean: float
    low: float
    high: float


def mean_interval(values: np.ndarray) -> Interval:
    """Student's t interval of the mean of independent values."""
    from scipy import stats  # Not at the top: importing it takes a second.

    values = np.asarray(values, np.float64)
    mean = float(values.mean())
    if values.size < 2:
        return Interval(mean, math.nan, math.nan)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, values.size - 1) * values.std(ddof=1) / math.sqrt(values.size))
    return Interval(mean, mean - half, mean + half)


def rate_interval(happened: np.ndarray) -> Interval:
    """Wilson's score interval of a rate: it stays within 0 and 1 and has a width even at 0 and 1."""
    from scipy import stats

    count, total = int(np.sum(happened)), int(np.size(happened))
    interval = stats.binomtest(count, total).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(count / total, float(interval.low), float(interval.high))
