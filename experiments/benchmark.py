"""The benchmark: ``python experiments/benchmark.py list|all|run|record|table|policies``, or ``make benchmark``."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmark_plan import SEEDS, algorithms_of, cases, check_peer, read_seeds, read_steps, tasks
from benchmark_runs import RECORDS, Status, estimated_hours, has_gpu, jobs, run_jobs, seconds_per_step, status

from qmix_jax.errors import ConfigError, nearest, require, unknown_choice
from qmix_jax.settings.arguments import parse_arguments, run_command
from qmix_jax.settings.values import number

USAGE = """\
qmix_jax: the benchmark of docs/results.md

Usage: python experiments/benchmark.py COMMAND [key=value ...]

  list                what is recorded, finished, running and missing, with the hours that the rest takes on this
                      machine, as far as speeds were measured on it (~: estimated from another map or algorithm)
  all                 run, record what has finished, and write the table, even where a run fails: `make benchmark`
  run                 train what is missing, and what was interrupted, the longest first. Ctrl-C saves and ends it;
                      the same command goes on
  record [FOLDER ..]  keep settings, summary and evaluations of finished runs in experiments/results/benchmark
  table               write tables and curves of all records into docs/results.md
  policies [FOLDER ..]  copy the best policies of runs to experiments/policies, and play 1000 episodes with each

  map=3s5z,3m         only these; all unless set
  algorithm=qmix      only these
  seeds=0-4           or 0,3
  steps=null          environment steps of a seed, like 2M, instead of the planned ones
  folder=runs/benchmark  where runs are trained, and looked for
  records=...         where records are kept
  cores=0,1           run, all: one process on each of these cores at a time; unless set, one after the other
  together=null       run, all: the seeds of a case in one program; null is true on a machine with a GPU
  peer=null           run, all: a checkout of JaxMARL, to train its algorithms as well
  peer_python=null    run, all: the Python with that checkout's dependencies
  changed=false       record, all: also runs that changed settings of the plain command; the record says which
  page=docs/results.md  table, all: the page to write into
  episodes=1000       policies: to play with each
  dry=false           run, all: only print the commands
  tiny=false          a benchmark of runs that take seconds, to see whether everything works"""

COMMANDS = ("list", "all", "run", "record", "table", "policies")
INTERRUPTED = 130
"""The exit status after Ctrl-C."""
WRITTEN = {"record": ("records",), "table": ("page",), "all": ("records", "page")}
"""By command, what holds the measured results unless it is set."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What the command line says; see ``USAGE``."""

    map: str | None = None
    algorithm: str | None = None
    seeds: str | None = None
    steps: str | None = None
    folder: str = "runs/benchmark"
    records: str = str(RECORDS)
    cores: str | None = None
    together: bool | None = None
    peer: str | None = None
    peer_python: str | None = None
    changed: bool = False
    page: str = str(Path(__file__).parents[1] / "docs" / "results.md")
    policies: str = str(Path(__file__).parent / "policies")
    episodes: int = number(1, default=1000)
    dry: bool = False
    tiny: bool = False


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line. Exit status 2, with one line on standard error, for what cannot be used."""
    run_command(USAGE, argv, _command)


def _command(arguments: list[str]) -> int:
    name = arguments[0] if arguments else "list"
    if name not in COMMANDS:
        raise ConfigError(f"{name}: not a command; did you mean {nearest(name, COMMANDS)}? ({', '.join(COMMANDS)})")
    paths = [argument for argument in arguments[1:] if "=" not in argument]
    settings, _ = parse_arguments(Settings, [argument for argument in arguments[1:] if "=" in argument])
    if paths and name not in ("record", "policies"):
        raise ConfigError(f"{paths[0]}: must look like key=value; {name} takes no folders")
    _check_places(name, settings)
    run: dict[str, Callable[[Settings, list[str]], int]] = {
        "list": _list,
        "all": _all,
        "run": _run,
        "record": _record,
        "table": _table,
        "policies": _policies,
    }
    return run[name](settings, paths)


def _check_places(command: str, settings: Settings) -> None:
    for key in ("folder", "records", "policies"):
        path = Path(getattr(settings, key))
        require(path.is_dir() or not path.exists(), key, path, "a folder")
    for key in WRITTEN.get(command, ()) if settings.tiny else ():
        path = getattr(settings, key)
        require(path != getattr(Settings(), key), key, path, "another one with tiny=true: this one has the results")


def _named(key: str, text: str | None) -> list[str]:
    if text is None:
        return []
    found = [part.strip() for part in text.strip("[]").split(",") if part.strip()]
    if not found:
        raise ConfigError(f"{key}={text}: names nothing; leave {key} out for the default")
    return found


def _numbers(key: str, text: str | None, read: Callable[[list[str]], Any], example: str) -> Any:
    try:
        return None if text is None else read(_named(key, text))
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{key}={text}: must look like {example}") from error


def _wanted(settings: Settings) -> list[Status]:
    seeds = _numbers("seeds", settings.seeds, read_seeds, "0-4 or 0,3")
    steps = _numbers("steps", settings.steps, lambda texts: read_steps(",".join(texts)), "2M or 800000")
    maps, algorithms = _named("map", settings.map), _named("algorithm", settings.algorithm)
    found = cases(maps, algorithms, SEEDS if seeds is None else seeds, steps, settings.tiny)
    if not found:
        there = ", ".join(algorithms_of(tasks(settings.tiny)[maps[0]]))
        raise ConfigError(
            f"map={settings.map} algorithm={settings.algorithm}: not compared there; {maps[0]} has {there}"
        )
    return [status(case, Path(settings.folder), Path(settings.records)) for case in found]


def _list(settings: Settings, _: list[str]) -> int:
    """One line for each map and algorithm, and the hours that are left."""
    speeds = seconds_per_step(Path(settings.folder), Path(settings.records))
    rows: dict[tuple[str, str], list[Status]] = {}
    for one in _wanted(settings):
        rows.setdefault((one.case.task.name, one.case.label), []).append(one)
    total, unknown = 0.0, 0
    for (task, label), seeds in rows.items():
        hours, measured = estimated_hours(seeds[0].case, speeds)
        left = sum(1 - one.done for one in seeds if one.state != "no such algorithm")
        states: dict[str, list[str]] = {}
        for one in seeds:
            part = f" {one.done:.0%}" if one.state in ("running", "stopped") else ""
            states.setdefault(one.state, []).append(f"{one.case.seed}{part}")
        told = "; ".join(f"{state}: {', '.join(which)}" for state, which in states.items())
        time = (
            ""
            if not left
            else " (speed not known)"
            if hours is None
            else f" ({'' if measured else '~'}{left * hours:.1f} h)"
        )
        total, unknown = total + left * (hours or 0.0), unknown + (hours is None and left > 0)
        print(f"{task} {label}, {seeds[0].case.steps:,} steps: {told}{time}")
    print(
        f"left: {total:.1f} h on one core (or GPU) of this machine"
        + f", and {unknown} of unknown speed" * (unknown > 0)
    )
    return 0


def _run(settings: Settings, _: list[str]) -> int:
    """Train what is left; returns 1 where a command failed."""
    cores = _cores(settings)
    together = has_gpu() if settings.together is None else settings.together
    wanted = _wanted(settings)
    if settings.peer is not None:
        check_peer([one.case for one in wanted if one.case.is_peer], settings.peer, settings.peer_python)
    todo = jobs(wanted, Path(settings.folder), together, settings.peer, settings.peer_python)
    if settings.peer is None and any(one.case.is_peer and one.state in ("missing", "stopped") for one in wanted):
        print("peer=null: without JaxMARL's algorithms; give a checkout to train them, peer=../JaxMARL")
    if settings.dry:
        for job in todo:
            print(" ".join(job.arguments))
        return 0
    try:
        failed = run_jobs(todo, cores, lambda text: print(text, flush=True))
    except KeyboardInterrupt:
        print("interrupted; the same command goes on")
        return INTERRUPTED
    return 1 if failed else 0


def _cores(settings: Settings) -> list[int]:
    cores = _numbers("cores", settings.cores, lambda texts: [int(text) for text in texts], "0,1") or []
    there = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else cores
    for core in cores:
        if core not in there:
            raise unknown_choice("cores", core, map(str, there))
    return cores


def _all(settings: Settings, _: list[str]) -> int:
    """Train what is left, record what has finished, write the table; returns 1 where something failed."""
    from benchmark_table import parts_of

    parts_of(Path(settings.page))  # a wrong page is named before days of training
    status = _run(settings, [])
    if settings.dry or status == INTERRUPTED:
        return status
    finished = dict.fromkeys(one.folder for one in _wanted(settings) if one.state == "finished")
    refused = _record_runs(settings, list(finished))
    _table(settings, [])
    return 1 if status or refused else 0


def _record(settings: Settings, paths: list[str]) -> int:
    """Record given runs, or all finished ones of the benchmark's folder; returns 1 where a given one cannot be."""
    from benchmark_record import find_runs

    refused = _record_runs(settings, find_runs(paths or [settings.folder]))
    return 1 if refused and paths else 0


def _record_runs(settings: Settings, folders: Sequence[Path]) -> int:
    """Record runs; returns how many could not be."""
    from benchmark_record import record

    refused = 0
    for folder in folders:
        try:
            for written in record(folder, Path(settings.records), settings.changed, settings.tiny):
                print(f"recorded={written}")
        except ConfigError as error:
            print(f"not recorded: {error}")
            refused += 1
    return refused


def _table(settings: Settings, _: list[str]) -> int:
    from benchmark_table import write  # drawing takes a second to import

    print(write(Path(settings.records), Path(settings.page), settings.tiny))
    return 0


def _policies(settings: Settings, paths: list[str]) -> int:
    from benchmark_policies import ship  # imports JAX

    print(ship([Path(path) for path in paths], Path(settings.policies), settings.episodes))
    return 0


if __name__ == "__main__":
    main()
