"""Reads what other tools leave: marl-eval's JSON, Sacred's folders (PyMARL, EPyMARL), and CSV exported from W&B.

Seeds of peers have the settings ``algorithm.name`` and ``source``, by which they stay apart from this package's runs.
"""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qmix_jax.errors import ConfigError
from qmix_jax.logging.files import near_run
from qmix_jax.results.comparison.records import Seed, Source, flat

NAMES = {
    "eval_return": (
        "return",
        "mean_episode_return",
        "test_return_mean",
        "episode_return",
        "test_returned_episode_returns",
    ),
    "eval_win_rate": ("win_rate", "test_battle_won_mean", "test_returned_won_episode", "returned_won_episode"),
    "eval_episode_length": ("test_ep_length_mean", "episode_length", "test_returned_episode_lengths"),
}
"""Our metrics, and their names in other projects."""


def is_peer(path: Path) -> bool:
    """Whether this is not one of our own runs."""
    if path.is_file():
        return not path.name.endswith("metrics.jsonl")
    return (path / "run.json").exists() and not (path / "metrics.jsonl").exists()


def read_peer(path: Path, metrics: Sequence[str]) -> Source:
    """Read one file, or one Sacred folder. Raises :class:`ConfigError` for anything else."""
    try:
        if path.is_dir():
            return _sacred(path, metrics)
        if path.suffix == ".json":
            return _marl_eval(path, metrics)
        if path.suffix == ".csv":
            return _csv(path, metrics)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, csv.Error) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"
        hint = near_run(path)  # a file of a run is not the run
        raise ConfigError(f"{path}: cannot be read as marl-eval JSON, Sacred or W&B's CSV ({reason}){hint}") from error
    raise ConfigError(f"{path}: not a run's folder, nor marl-eval JSON (.json), nor CSV exported from W&B (.csv)")


def _seed(
    path: Path,
    kind: str,
    name: str,
    env: str,
    algorithm: str,
    steps: Any,
    columns: Mapping[str, Any],
    seconds: Any = None,
) -> Seed:
    steps = np.asarray(steps, np.float64)
    order = np.argsort(steps, kind="stable")
    known = np.full(steps.shape, np.nan) if seconds is None else np.asarray(seconds, np.float64)
    return Seed(
        source=str(path),
        name=name,
        env=env,
        settings={"algorithm.name": algorithm, "source": kind},
        env_steps=steps[order],
        seconds=known[order],
        metrics={key: np.asarray(column, np.float64)[order] for key, column in columns.items()},
    )


def _marl_eval(path: Path, metrics: Sequence[str]) -> Source:
    tree = json.loads(path.read_text(encoding="utf-8"))
    seeds = []
    for environment, tasks in tree.items():
        for task, algorithms in tasks.items():
            env = task if task == environment else f"{environment}-{task}"
            for algorithm, runs in algorithms.items():
                for name, run in runs.items():
                    steps = [step for key, step in run.items() if key.startswith("step_")]
                    counts = [step["step_count"] for step in steps]
                    columns = {metric: [_mean(step, metric) for step in steps] for metric in metrics}
                    seconds = [step.get("elapsed_time", np.nan) for step in steps]
                    seeds.append(_seed(path, "marl-eval", name, env, algorithm, counts, columns, seconds))
    if not seeds:
        raise ValueError("no runs in it")
    return Source(str(path), "marl-eval", seeds, "finished", [])


def _mean(step: Mapping[str, Any], metric: str) -> float:
    for name in (metric, *NAMES.get(metric, ())):
        if name in step:
            return float(np.mean(step[name]))
    return np.nan


def _sacred(path: Path, metrics: Sequence[str]) -> Source:
    """EPyMARL writes ``metrics.json`` (steps, values), PyMARL ``info.json`` (values, their steps as ``<name>_T``)."""
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    series = _sacred_metrics(path)
    env_args = config.get("env_args") or {}
    env = str(env_args.get("map_name") or env_args.get("key") or config.get("env"))
    columns: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for metric in metrics:
        found = next((series[name] for name in (metric, *NAMES.get(metric, ())) if name in series), None)
        if found is not None:
            columns[metric] = found
    if not columns:
        return Source(str(path), "sacred", [], "unfinished", [f"{path}: no evaluation yet"])
    steps = next(iter(columns.values()))[0]
    values = {metric: np.interp(steps, *found) for metric, found in columns.items()}
    name = f"seed_{config.get('seed', path.name)}"
    seed = _seed(path, "sacred", name, env, str(config.get("name", "pymarl")), steps, values)
    settings = {f"pymarl.{key}": value for key, value in flat(config).items() if key not in ("seed", "env_args.seed")}
    return Source(str(path), "sacred", [seed._replace(settings={**seed.settings, **settings})], "finished", [])


def _sacred_metrics(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    if (path / "metrics.json").exists():
        tree = json.loads((path / "metrics.json").read_text(encoding="utf-8"))
        if tree:
            return {key: (np.asarray(x["steps"], float), np.asarray(x["values"], float)) for key, x in tree.items()}
    info = json.loads((path / "info.json").read_text(encoding="utf-8"))

    def numbers(values: Sequence[Any]) -> np.ndarray:
        return np.array([value["value"] if isinstance(value, dict) else value for value in values], np.float64)

    return {key: (numbers(info[f"{key}_T"]), numbers(info[key])) for key in info if f"{key}_T" in info}


def _csv(path: Path, metrics: Sequence[str]) -> Source:
    """A chart exported from W&B: a column of steps, and one for each run, ``name - metric``.

    Runs whose names differ only in a final number are seeds of one algorithm. The file's name is the environment's.
    """
    with path.open(encoding="utf-8", newline="") as file:
        header, *lines = [line for line in csv.reader(file) if line]
    table = np.array([[float(cell) if cell else np.nan for cell in line] for line in lines]).reshape(len(lines), -1)
    seeds = []
    for place, title in enumerate(header[1:], start=1):
        name, dash, theirs = title.rpartition(" - ")
        metric = next((ours for ours in metrics if theirs in (ours, *NAMES.get(ours, ()))), None)
        if not dash or metric is None or place >= table.shape[1]:
            continue
        there = np.isfinite(table[:, place])
        algorithm = re.sub(r"[-_ ]*(seed)?[-_ =]*\d+$", "", name) or name
        steps = table[there, 0]
        seeds.append(_seed(path, "csv", name, path.stem, algorithm, steps, {metric: table[there, place]}))
    if not seeds:
        raise ValueError(f"no column of {', '.join(metrics)}")
    return Source(str(path), "csv", seeds, "finished", [f"{path}: environment and algorithm are taken from its names"])
