"""The live progress bar of a run on a terminal."""

from collections.abc import Callable, Iterable

import numpy as np
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from qmix_jax.logging.base import EpochMetrics, RunInfo

_BAR_METRICS = (
    ("loss", "loss", "{:.3g}"),
    ("epsilon", "epsilon", "{:.2f}"),
    ("temperature", "temperature", "{:.2g}"),
    ("return", "eval_return", "{:.2f}"),
    ("win rate", "eval_win_rate", "{:.0%}"),
)


NARROW = 72
"""Columns of a terminal below which the speed goes to the second line."""


class LiveBar:
    """Steps, speed, time left, and below them loss, epsilon and the greedy evaluation, as means over seeds."""

    def __init__(self, console: Console, run: RunInfo, clock: Callable[[], float]):
        self._metrics = [metric for metric in _BAR_METRICS if run.has_win_rate or metric[1] != "eval_win_rate"]
        self._is_narrow = console.width < NARROW
        self._progress = _TwoLines(
            BarColumn(bar_width=6 if self._is_narrow else 24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[steps]}"),
            _TimeLeftColumn(clock),
            console=console,
            refresh_per_second=4,
        )
        self._total = run.total_env_steps
        self._task = self._progress.add_task("", total=self._total, steps=self._steps(0), ends_at=None)
        self._clock = clock
        self._seen: dict[str, str] = {}
        self._progress.start()

    def update(self, epoch: EpochMetrics) -> None:
        """Move the bar to where ``epoch`` is."""
        done, left = epoch.mean_env_steps, epoch.seconds_left(self._total)
        for label, name, form in self._metrics:
            value = epoch.mean(name)
            if not np.isnan(value):
                # A metric that this epoch did not compute keeps the value it had.
                self._seen[label] = form.format(value)
        speed = f"{_short(epoch.steps_per_second)} steps/s"
        parts = [Text.assemble((f"{label} ", "dim"), value) for label, value in self._seen.items()]
        self._progress.second_line = Text("   ").join([Text(speed), *parts] if self._is_narrow else parts)
        self._progress.update(
            self._task,
            completed=done,
            steps=self._steps(done) if self._is_narrow else f"{self._steps(done)}  {speed}",
            ends_at=None if np.isnan(left) else self._clock() + left,
            refresh=True,
        )

    def _steps(self, done: float) -> str:
        return f"{_short(done)}/{_short(self._total)} {'' if self._is_narrow else 'env '}steps"

    def stop(self) -> None:
        """Leave the bar as it is and give the terminal back."""
        self._progress.stop()


class _TwoLines(Progress):
    """A progress bar with a line of text below it: side by side they would not fit into 80 columns."""

    second_line = Text("")

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar, then the text."""
        yield from super().get_renderables()
        yield self.second_line


class SecondsColumn(ProgressColumn):
    """What is going on, and for how many seconds."""

    def render(self, task: Task) -> Text:
        """``compiling (12 s)``."""
        return Text(f"{task.description} ({task.elapsed or 0.0:.0f} s)")


class _TimeLeftColumn(ProgressColumn):
    """Time to the end at the speed so far; counts down between epochs."""

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        super().__init__()

    def render(self, task: Task) -> Text:
        """``4:05 left``."""
        ends_at = task.fields["ends_at"]
        if ends_at is None:
            return Text("-:-- left")
        minutes, seconds = divmod(round(max(ends_at - self._clock(), 0.0)), 60)
        hours, minutes = divmod(minutes, 60)
        clock = f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
        return Text(f"{clock} left")


def _short(count: float) -> str:
    """950, 12.3k, 1.05M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * size:  # three digits: 999.6k are 1M
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}"
