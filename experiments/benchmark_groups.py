"""The recorded runs, in groups: the seeds of one algorithm, of one length, on one map."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from benchmark_plan import ALGORITHMS, PEERS, Task, tasks
from benchmark_play import PLAYED
from benchmark_runs import RECORDS, read_json

from qmix_jax.logging import METRICS_FILE
from qmix_jax.logging.files import read_rows
from qmix_jax.results.comparison.alignment import A_LITTLE
from qmix_jax.results.comparison.records import Seed


class Group(NamedTuple):
    """The recorded seeds of one algorithm, of one length, on one map."""

    task: Task
    label: str
    seeds: Sequence[Seed]
    abouts: Sequence[Mapping[str, Any]]
    """What each record says of itself."""
    compile_seconds: Sequence[float]
    speeds: Sequence[float]
    """Environment steps per second of each seed's run, of all its seeds together, without compiling."""
    fresh: Sequence[Mapping[str, Any] | None]
    """How each final policy does in fresh episodes; of older records None."""

    @property
    def algorithm(self) -> str:
        """Its name, without a length."""
        return str(self.abouts[0]["algorithm"])


def read_groups(records: Path = RECORDS, tiny: bool = False) -> list[Group]:
    """All records, map by map and algorithm by algorithm, in the order of the plan."""
    known, order = tasks(tiny), [*ALGORITHMS, *PEERS]
    found = []
    for folder in sorted(records.glob("*/*")):
        names = sorted(folder.glob("seed_*/summary.json"), key=lambda path: int(path.parent.name[5:]))
        if folder.parent.name not in known or not names:
            continue
        summaries = [read_json(name) or {} for name in names]
        found.append(
            Group(
                known[folder.parent.name],
                folder.name,
                [_seed(name.parent, summary) for name, summary in zip(names, summaries, strict=True)],
                [summary["benchmark"] for summary in summaries],
                [float(summary["compile_seconds"]) for summary in summaries],
                [_speed(summary) for summary in summaries],
                [summary.get(PLAYED) for summary in summaries],
            )
        )
    places = list(known)
    return sorted(found, key=lambda one: (places.index(one.task.name), order.index(one.algorithm), one.label))


def _speed(summary: Mapping[str, Any]) -> float:
    seeds = int(summary["benchmark"].get("num_seeds", 1))
    return seeds * summary["env_steps"] / float(summary["train_seconds"])


def _seed(folder: Path, summary: Mapping[str, Any]) -> Seed:
    rows = read_rows(folder / METRICS_FILE)

    def column(name: str) -> np.ndarray:
        return np.array([np.nan if row.get(name) is None else row[name] for row in rows], np.float64)

    metrics = {name: column(name) for name in ("eval_return", "eval_win_rate")}
    return Seed(
        str(folder), folder.name, str(summary["env"]), {}, column("env_steps"), column("seconds"), metrics=metrics
    )


def metric_of(group: Group) -> str:
    """The win rate where there is one."""
    rated = np.isfinite(group.seeds[0].metrics["eval_win_rate"]).any()
    return "eval_win_rate" if rated else "eval_return"


def value_at(seed: Seed, metric: str, at: float) -> float | None:
    """The last evaluation up to ``at`` steps; None where the seed was not trained so far."""
    steps, _, values = seed.points(metric)
    if not steps.size or steps[-1] < (1 - A_LITTLE) * at:
        return None
    within = values[steps <= (1 + A_LITTLE) * at]
    return float(within[-1]) if within.size else None


def at_the_end(group: Group) -> np.ndarray:
    """The last evaluation of each seed."""
    return np.array([seed.points(metric_of(group))[2][-1] for seed in group.seeds])
