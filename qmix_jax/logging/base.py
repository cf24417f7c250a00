"""What a run reports, and what receives it."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from qmix_jax.settings.cells import Cell, Lane, lanes


class RunInfo(NamedTuple):
    """What is known about a run before it starts."""

    run_dir: Path
    config: Mapping[str, Any]
    """The resolved configuration: plain dicts, lists, strings and numbers."""
    seeds: Sequence[int]
    total_env_steps: int
    """Environment steps of one seed."""
    algorithm: str
    env: str
    has_win_rate: bool
    resumed_epochs: int = 0
    """Epochs that an earlier process has trained and reported, 0 for a new run."""
    cells: Sequence[Cell] = ()
    """Of a sweep."""
    git_commit: str | None = None
    """Of the checkout that this code runs from."""

    @property
    def lanes(self) -> list[Lane]:
        """What is trained side by side, in the order of all arrays ``[L]``."""
        return lanes(len(self.cells), list(self.seeds))


class EpochMetrics(NamedTuple):
    """What one epoch of all L lanes (seeds, of every cell) reports, on the host."""

    epoch: int
    env_steps: np.ndarray
    """[L]: environment steps that each lane has taken so far."""
    updates: int
    """Gradient steps of one seed so far."""
    seconds: float
    """Wall-clock time since training started, without compilation."""
    rows: Mapping[str, np.ndarray]
    """Metric name to [L] values, one per lane; NaN where a metric is not available."""
    active: np.ndarray | None = None
    """[L]: which lanes were trained in this epoch, where not all were; the others keep what they had before."""
    since: tuple[float, float] = (0.0, 0.0)
    """``mean_env_steps`` and ``seconds`` from which on this process has trained these lanes and no others."""

    def is_active(self, place: int) -> bool:
        """Whether a lane was trained in this epoch."""
        return self.active is None or bool(self.active[place])

    @property
    def mean_env_steps(self) -> int:
        """Environment steps of the average lane that is still trained."""
        return round(float(np.mean(self._of_active(self.env_steps))))

    @property
    def steps_per_second(self) -> float:
        """Environment steps of all lanes together, per second since training started."""
        return float(np.sum(self.env_steps)) / self.seconds if self.seconds > 0 else 0.0

    def seconds_left(self, total_env_steps: int) -> float:
        """Time to ``total_env_steps`` at the speed ``since`` then; NaN before the first step."""
        done, (steps, seconds) = self.mean_env_steps, self.since
        left = max(total_env_steps - done, 0)
        return (self.seconds - seconds) * left / (done - steps) if done > steps else float("nan")

    def mean(self, name: str) -> float:
        """Mean over lanes of one metric, NaN where it is not available."""
        values = self.rows.get(name)
        return float("nan") if values is None else mean_over_seeds(self._of_active(np.asarray(values, np.float64)))

    def _of_active(self, values: np.ndarray) -> np.ndarray:
        return values if self.active is None else values[self.active]


class Sink(Protocol):
    """Where a run is reported to. The methods are called in this order; ``close`` always, and last."""

    def start(self, run: RunInfo) -> None:
        """Get ready for a run."""
        ...

    def log(self, epoch: EpochMetrics) -> None:
        """Take in one epoch."""
        ...

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Take in the content of ``summary.json``. Only called for a run that came to its end."""
        ...

    def close(self) -> None:
        """Let go of files, processes and the terminal. May be called twice."""
        ...


class Sinks:
    """Several sinks as one; as a context manager it closes them however the run ends."""

    def __init__(self, sinks: Sequence[Sink]):
        self._sinks = tuple(sinks)

    def start(self, run: RunInfo) -> None:
        """Get every sink ready."""
        for sink in self._sinks:
            sink.start(run)

    def log(self, epoch: EpochMetrics) -> None:
        """Pass one epoch to every sink."""
        for sink in self._sinks:
            sink.log(epoch)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Pass the summary to every sink."""
        for sink in self._sinks:
            sink.finish(summary)

    def close(self) -> None:
        """Close every sink, the last one first, even where closing one of them fails."""
        with ExitStack() as stack:
            for sink in self._sinks:
                stack.callback(sink.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def mean_over_seeds(values: np.ndarray) -> float:
    """Mean of the values that are available; NaN, without NumPy's warning about it, where none is."""
    available = values[~np.isnan(values)]
    return float(available.mean()) if available.size else float("nan")
