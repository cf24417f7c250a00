"""The command line ``python -m qmix_jax.compare``: compares runs, in one page and figures."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from qmix_jax.errors import ConfigError
from qmix_jax.logging.files import check_folder
from qmix_jax.settings.arguments import parse_arguments, run_command
from qmix_jax.settings.values import number

if TYPE_CHECKING:
    from qmix_jax.results.comparison.comparison import Comparison

USAGE = """\
qmix_jax: compare runs, in one page (report.html, which needs no network) and in figures (PNG and PDF)

Usage: python -m qmix_jax.compare RUN [RUN ...] [key=value ...] [--watch]

  RUN                 a run's folder, or a folder above some; of other tools: marl-eval's JSON, a folder of Sacred's
                      (PyMARL, EPyMARL), CSV of a chart exported from W&B
  by=null             settings that tell methods apart: by=algorithm,optimizer.learning_rate,env.scenario; null is the
                      algorithm and whatever differs between its runs in one environment. Environments have a panel each
  out=report          folder to write
  title=null          of the page
  metric=null         what is scored; null is eval_win_rate where every run has one, and eval_return otherwise
  score=final         of a seed: final, its last evaluation; best; or mean, of all its evaluations
  at=null             environment steps of one seed at which methods are compared; null: what all finished runs reached
  threshold=null      of the time to a threshold, a number or a list, in the metric's unit
  skip_damaged=false  compare the others where a run cannot be read
  --watch             rewrite the page whenever runs progress, until Ctrl-C; the page reloads itself
  every=10            seconds between looks at the runs

Prints one line for each method and environment: the interquartile mean of the seeds' scores and its 95% interval.

Examples:

  python -m qmix_jax.compare runs/a runs/b
  python -m qmix_jax.compare runs by=algorithm,env.scenario out=report
  python -m qmix_jax.compare runs/new pymarl/results/sacred/7 threshold=[0.5,0.8]"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What the command line says; see ``USAGE``."""

    by: str | None = None
    out: str = "report"
    title: str | None = None
    metric: str | None = None
    score: Literal["final", "best", "mean"] = "final"
    at: float | None = number(0, above=True, default=None)
    threshold: Any = None
    skip_damaged: bool = False
    watch: bool = False
    every: int = number(1, default=10)

    @property
    def keys(self) -> list[str] | None:
        """The keys in ``by``."""
        return None if self.by is None else [key.strip() for key in self.by.strip("[]").split(",") if key.strip()]

    @property
    def thresholds(self) -> list[float] | None:
        """The numbers in ``threshold``."""
        if self.threshold is None:
            return None
        return [float(one) for one in (self.threshold if isinstance(self.threshold, list) else [self.threshold])]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line. Exit status 2, with one line on standard error, for input that cannot be used."""
    run_command(USAGE, argv, lambda arguments: compare_runs(*parse(arguments)))


def parse(arguments: Sequence[str]) -> tuple[list[str], Settings]:
    """The runs and the settings in the arguments: what has no ``=``, or is a path with one, is a run.

    Raises :class:`ConfigError`.
    """
    runs, others = [], []
    for argument in arguments:
        is_setting = "=" in argument and (argument.partition("=")[0] in _KEYS or not os.path.exists(argument))  # noqa: PTH110 - of any length
        (others if is_setting or argument.startswith("-") else runs).append(argument)
    for other in others:
        if other.startswith("--w") and other != "--watch":
            raise ConfigError(f"{other}: unknown option; did you mean --watch?")
    settings, _ = parse_arguments(Settings, ["watch=true" if other == "--watch" else other for other in others])
    if not runs:
        raise ConfigError("no runs given; try python -m qmix_jax.compare runs/a runs/b")
    if settings.keys == []:
        raise ConfigError("by=: name settings, like by=algorithm,env.scenario")
    numbers = settings.threshold if isinstance(settings.threshold, list) else [settings.threshold or 0]
    if not numbers or any(isinstance(one, bool) or not isinstance(one, int | float) for one in numbers):
        raise ConfigError(f"threshold={settings.threshold}: must be a number or a list of numbers, like [0.5,0.9]")
    check_folder("out", Path(settings.out))
    return runs, settings


_KEYS = {field.name for field in dataclasses.fields(Settings)}


def compare_runs(runs: Sequence[str], settings: Settings) -> int:
    """Compare once, or until all runs have ended; returns the exit status."""
    if not settings.watch:
        _once(runs, settings)
        return 0
    from qmix_jax.results.comparison.watch import watch

    try:
        watch(lambda: _once(runs, settings), runs, settings.every)
    except KeyboardInterrupt:
        return 130
    return 0


def _once(runs: Sequence[str], settings: Settings) -> bool:
    """Compare, write, print. Returns whether every run has ended."""
    from qmix_jax.results.comparison.comparison import compare

    compared = compare(
        runs,
        by=settings.keys,
        metric=settings.metric,
        score=settings.score,
        at=settings.at,
        threshold=settings.thresholds,
        skip_damaged=settings.skip_damaged,
    )
    from qmix_jax.results.comparison.report import write  # drawing takes a second to import

    refresh = settings.every if settings.watch else None
    page = write(compared, Path(settings.out), title=settings.title or "", refresh=refresh)
    for note in compared.notes:
        print(f"note: {note}")
    for line in result_lines(compared):
        print(line)
    print(f"report={page}", flush=True)
    return all(source.state != "unfinished" for source in compared.sources)


def result_lines(compared: "Comparison") -> list[str]:
    """One line of ``name=value`` pairs for each method and environment, the best method first."""
    lines = []
    for method in compared.methods:
        for env in compared.groups.envs:
            found = compared.by_env.get((method, env))
            if found is None:
                continue
            numbers: Mapping[str, float] = {
                "iqm": float(found.value),
                "low": float(found.low),
                "high": float(found.high),
            }
            told = " ".join(f"{name}={value:.4g}" for name, value in numbers.items() if value == value)
            name, place = (f'"{text}"' if " " in text else text for text in (method, env))
            seeds = len(compared.scores.raw[method, env])
            lines.append(f"method={name} env={place} metric={compared.metric} seeds={seeds} {told}")
    return lines


if __name__ == "__main__":
    main()
