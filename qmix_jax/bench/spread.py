"""Several measurements of one thing, as their median and range."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """Median, lowest and highest of several measurements."""

    median: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        return f"{self.median:.4g} ({self.lowest:.4g} to {self.highest:.4g})"


def spread(values: Sequence[float]) -> Spread:
    """The spread of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """The spread of the quotients round by round: what slows the machine for a while slows both of a round."""
    return spread([a / b for a, b in zip(numerators, denominators, strict=True)])


def in_turns(measure: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call every function once a round, in the same order, and return what each one said, ``[rounds]``."""
    found: dict[str, list[float]] = {name: [] for name in measure}
    for _ in range(rounds):
        for name, function in measure.items():
            found[name].append(function())
    return found
