"""What a run shows: a live bar on a terminal, plain ``name=value`` lines anywhere else."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import Progress, SpinnerColumn
from rich.table import Table

from qmix_jax.logging.bar import LiveBar, SecondsColumn
from qmix_jax.logging.base import EpochMetrics, RunInfo, mean_over_seeds
from qmix_jax.settings.values import text_of

SECONDS_BETWEEN_LINES = 30.0
"""Off a terminal, a line is printed at least this often (given an epoch to report) ..."""
LINES_PER_RUN = 10
"""... and whenever another tenth of the run is done."""

RESULTS = ("return", "win_rate", "episode_length")
"""What the table shows of an evaluation in ``summary.json``."""

_LINE_METRICS = ("loss", "epsilon", "temperature", "train_return", "eval_return", "eval_win_rate")


class ConsoleSink:
    """Reports a run on standard output.

    On a terminal: a spinner while compiling, then one live bar. Otherwise: one line of ``name=value`` pairs at every
    tenth of the run or 30 seconds, without control characters. A reader that goes away (``| head``) ends the output,
    not the run.
    """

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic, quiet: bool = False
    ):
        self.console = console if console is not None else make_console()
        self.console.quiet = quiet
        self._live = self.console.is_terminal and not self.console.is_dumb_terminal
        self._clock = clock
        self._run: RunInfo | None = None
        self._bar: LiveBar | None = None
        self._last_line_at = float("-inf")
        self._last_tenth = -1

    def start(self, run: RunInfo) -> None:
        """Remember what is run; the bar appears after compilation, or with the first epoch."""
        self._run = run

    @contextmanager
    def compiling(self, what: str = "compiling") -> Iterator[None]:
        """Show that the block compiles, with its seconds; afterwards the bar of a started run takes its place."""
        self._stop_bar()
        started = self._clock()
        if self._live:
            with Progress(SpinnerColumn(), SecondsColumn(), console=self.console, transient=True) as spinner:
                spinner.add_task(what, total=None)
                yield
            self.message(f"{what} ({self._clock() - started:.1f} s)")
        else:
            self._plain(f"phase={_one_word(what)} state=started")
            yield
            self._plain(f"phase={_one_word(what)} state=done seconds={self._clock() - started:.1f}")
        if self._run is not None and self._live:
            self._bar = LiveBar(self.console, self._run, self._clock)

    def message(self, text: str) -> None:
        """Print a line; above the bar if there is one."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def log(self, epoch: EpochMetrics) -> None:
        """Move the bar, or print a line when one is due."""
        if self._run is None:
            raise RuntimeError("log() before start()")
        if self._live:
            if self._bar is None:
                self._bar = LiveBar(self.console, self._run, self._clock)
            self._bar.update(epoch)
        elif self._line_is_due(epoch, self._run):
            self._plain(progress_line(epoch, self._run))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Take the bar away and print the table of results."""
        self._stop_bar()
        self.print_table(summary)

    def close(self) -> None:
        """Give the terminal back as it was."""
        self._stop_bar()

    def print_table(self, summary: Mapping[str, Any]) -> None:
        """Final and best greedy evaluation of every seed and their mean, from the content of ``summary.json``.

        Of a sweep: the final evaluation of every cell, the best one first.
        """
        rows = cell_rows(summary) if summary.get("cells") else result_rows(summary)
        if not self._live:
            self._print_lines(rows)
            return
        title = f"{summary['algorithm']} on {summary['env']}: greedy evaluation"
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), title=title, title_justify="left")
        for name in rows[0]:
            table.add_column(name.replace("episode_", "").replace("_", " "), justify="right")
        for row in rows:
            is_mean = row.get("seed") == "mean"
            table.add_row(
                *row.values(),
                style="bold" if is_mean else "",
                end_section=len(rows) > 1 and row is rows[-2] and "seed" in row,
            )
        wide = self.console.options.update(width=10_000)
        if self.console.measure(table, options=wide).maximum > self.console.width:  # Numbers would be cut off.
            self.message(title)
            self._print_lines(rows)
            return
        self.console.print(table)

    def _print_lines(self, rows: Sequence[Mapping[str, str]]) -> None:
        for row in rows:
            self._plain(" ".join(f"{name}={value}" for name, value in row.items()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _stop_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _plain(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def _line_is_due(self, epoch: EpochMetrics, run: RunInfo) -> bool:
        tenth = int(LINES_PER_RUN * epoch.mean_env_steps / max(run.total_env_steps, 1))
        due = tenth > self._last_tenth or self._clock() - self._last_line_at >= SECONDS_BETWEEN_LINES
        if due:
            self._last_tenth = tenth
            self._last_line_at = self._clock()
        return due


class _QuietOnBrokenPipe(Console):
    """A console that falls silent when its reader is gone. Rich itself would end the process there."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        if self.file is sys.stdout:
            # What is still buffered goes nowhere, so that the interpreter does not complain about it at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_console() -> Console:
    """A console on standard output that survives a closed pipe; each line is written out at once."""
    # Rich would take FORCE_COLOR for a terminal; a file is none.
    return _QuietOnBrokenPipe(force_terminal=sys.stdout.isatty())


def progress_line(epoch: EpochMetrics, run: RunInfo) -> str:
    """One epoch as ``name=value`` pairs: the mean over seeds of what is available."""
    left = epoch.seconds_left(run.total_env_steps)
    pairs = {
        "env_steps": str(epoch.mean_env_steps),
        "total_env_steps": str(run.total_env_steps),
        "seconds": f"{epoch.seconds:.1f}",
        "seconds_left": "" if np.isnan(left) else f"{left:.0f}",
        "steps_per_second": f"{epoch.steps_per_second:.0f}",
    }
    for name in _LINE_METRICS:
        value = epoch.mean(name)
        if not np.isnan(value):
            pairs[name] = f"{value:.4g}"
    return " ".join(f"{name}={value}" for name, value in pairs.items() if value)


def result_rows(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """One row per seed and one of means: final and best return, win rate (where there is one) and episode length."""
    columns: dict[str, Sequence[float | None]] = {}
    for prefix, key in (("", "evaluation"), ("best_", "best")):
        found = summary[key]
        columns |= {f"{prefix}{name}": found[name] for name in RESULTS if found.get(name) is not None}
    table = {name: np.asarray(values, np.float64) for name, values in columns.items()}
    rows = [
        {"seed": str(seed)} | {name: _result(name, values[index]) for name, values in table.items()}
        for index, seed in enumerate(summary["seeds"])
    ]
    return [*rows, {"seed": "mean"} | {name: _result(name, mean_over_seeds(values)) for name, values in table.items()}]


def cell_rows(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """One row per cell of a sweep, by rank: its values, and the interquartile mean of its score with its interval."""
    measure = summary["score"]

    some_stopped = any(cell["stopped"] for cell in summary["cells"])

    def number(value: float | None) -> str:
        return _result(measure, np.nan if value is None else value)

    return [
        {
            "rank": str(cell["rank"]),
            "cell": str(cell["cell"]),
            **{name: text_of(value) for name, value in cell["values"].items()},
            measure: number(cell["score"]["iqm"]),
            **{f"{measure}_{end}": number(cell["score"][end]) for end in ("low", "high")},
            **({"stopped_at": str(cell["env_steps"]) if cell["stopped"] else "-"} if some_stopped else {}),
        }
        for cell in sorted(summary["cells"], key=lambda cell: cell["rank"])
    ]


def _result(name: str, value: float) -> str:
    if np.isnan(value):
        return "-"
    return f"{value:.3f}" if "win_rate" in name else f"{value:.2f}"


def _one_word(text: str) -> str:
    return "_".join(text.split())
