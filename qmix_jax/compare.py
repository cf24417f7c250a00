"""The command line ``python -m qmix_jax.compare``: compares runs, in one page and figures."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from qmix_jax.errors import ConfigError
from qmix_jax.settings.config import from_arguments, number, parse_section

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
  --watch             write the page again whenever runs go on, until Ctrl-C; the page loads itself again
  every=10            seconds between looks at the runs

Prints one line for each method and environment: the interquartile mean of the seeds' scores and its 95% interval.

Examples:

  python -m qmix_jax.compare runs/a runs/b
  python -m qmix_jax.compare runs by=algorithm,env.scenario out=report
  python -m qmix_jax.compare runs/new pymarl/results/sacred/7 threshold=[0.5,0.8]"""

HELP = ("help", "--help", "-h")
DEFAULTS: dict[str, Any] = {
    "by": None,
    "out": "report",
    "title": None,
    "metric": None,
    "score": "final",
    "at": None,
    "threshold": None,
    "skip_damaged": False,
    "watch": False,
    "every": 10,
}
TEXTS = ("out", "title")
"""Keys whose values are taken as they stand."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What the command line says; see ``USAGE``."""

    runs: list[str]
    by: Any
    out: str
    title: str | None
    metric: str | None
    score: Literal["final", "best", "mean"]
    at: float | None = number(0, above=True)
    threshold: Any
    skip_damaged: bool
    watch: bool
    every: int = number(1)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line. Exit status 2, with one line on standard error, for input that cannot be used."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if any(argument in HELP for argument in arguments):
        print(USAGE)
        return
    try:
        settings = parse(arguments)
        if settings.watch:
            from qmix_jax.results.comparison.watch import watch

            watch(lambda: _once(settings), settings.runs, settings.every)
        else:
            _once(settings)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def parse(arguments: Sequence[str]) -> Settings:
    """The settings in the arguments: those with ``=`` are settings, unless there is such a path. Raises
    :class:`ConfigError`."""
    tree, runs, others = dict(DEFAULTS), [], []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if argument == "--watch":
            tree["watch"] = True
        elif argument.startswith("-"):
            raise ConfigError(f"{argument}: unknown; did you mean --watch?")
        elif not equals or (key not in DEFAULTS and Path(argument).exists()):
            runs.append(argument)
        elif key in TEXTS:
            tree[key] = None if value == "null" else value
        elif key == "by":
            tree[key] = (
                None if value == "null" else [part.strip() for part in value.strip("[]").split(",") if part.strip()]
            )
        else:
            others.append(argument)
    settings = parse_section(Settings, {**tree, **from_arguments(others), "runs": runs}, "")
    if not runs:
        raise ConfigError("no runs given; try python -m qmix_jax.compare runs/a runs/b")
    if settings.by == []:
        raise ConfigError("by=: name settings, like by=algorithm,env.scenario")
    return dataclasses.replace(settings, threshold=_thresholds(settings.threshold))


def _thresholds(value: Any) -> list[float] | None:
    if value is None:
        return None
    values = value if isinstance(value, list) else [value]
    if not values or any(isinstance(one, bool) or not isinstance(one, int | float) for one in values):
        raise ConfigError(f"threshold={value}: must be a number or a list of numbers, like [0.5,0.9]")
    return [float(one) for one in values]


def _once(settings: Settings) -> bool:
    """Compare, write, print. Returns whether every run has ended."""
    from qmix_jax.results.comparison.comparison import compare

    compared = compare(
        settings.runs,
        by=settings.by,
        metric=settings.metric,
        score=settings.score,
        at=settings.at,
        threshold=settings.threshold,
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
            name = f'"{method}"' if " " in method else method
            seeds = len(compared.scores.raw[method, env])
            lines.append(f"method={name} env={env} metric={compared.metric} seeds={seeds} {told}")
    return lines


if __name__ == "__main__":
    main()
