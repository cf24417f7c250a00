"""Median and range of repeated measurements."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """Median, minimum and maximum of several measurements."""

    median: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        return f"{self.median:.4g} ({self.lowest:.4g} to {self.highest:.4g})"


def spread(values: Sequence[float]) -> Spread:
    """The spread of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """The spread of the ratios per round: a slow phase of the machine affects both sides of a round."""
    return spread([a / b for a, b in zip(numerators, denominators, strict=True)])


def alternate(measure: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call every function once per round, in the same order; return the values of each, ``[rounds]``."""
    found: dict[str, list[float]] = {name: [] for name in measure}
    for _ in range(rounds):
        for name, function in measure.items():
            found[name].append(function())
    return found
