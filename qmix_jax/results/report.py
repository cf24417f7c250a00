"""What is said of a run at its start, and its report at the end: summary, figures, results for other tools."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from qmix_jax.algorithms.base import Algorithm
from qmix_jax.envs.base import Env
from qmix_jax.logging import METRICS_FILE, RunInfo, write_json
from qmix_jax.logging.files import Unsaved, read_rows
from qmix_jax.results.summary import Seconds, nonfinite, summarize, summarize_cells
from qmix_jax.settings.config import Config


class Progress(NamedTuple):
    """The host's state of all L lanes of a run; saved with every checkpoint."""

    rows: dict[str, np.ndarray]
    """Metrics of each lane's latest epoch; empty before the first."""
    nonfinite: np.ndarray
    """[L]: the first update of a lane with non-finite numbers, or -1."""
    active: np.ndarray
    """[L]: lanes that are still training; the others were stopped by ``sweep.halving``."""
    best: dict[str, np.ndarray]
    """Best evaluations of lanes, from the moment when some were stopped."""


def describe_run(config: Config, run: RunInfo, algorithm: Algorithm, placed: str) -> str:
    """Two lines on what is about to run, the update : data ratio among it; ``placed`` says on which devices."""
    env, s = algorithm.env, algorithm.sizes
    steps = s.num_envs * (s.length - 1)
    reuse = s.updates_per_iteration * s.batch_size / s.num_envs
    cells = f"{len(run.cells)} cells x " if run.cells else ""
    return (
        f"{config.algorithm.name} on {env.name}: {env.num_agents} agents, {env.num_actions} actions, "
        f"{cells}{config.num_seeds} seed(s) on {placed}\n"
        f"update : data ratio: {s.updates_per_iteration} updates of {s.batch_size} sequences per {s.num_envs} "
        f"collected sequences of {s.length} slots ({s.updates_per_iteration / steps:.2g} updates per environment "
        f"step at full sequences; every step is learned from {reuse:g} times)"
    )


def write_report(
    config: Config,
    run: RunInfo,
    env: Env,
    progress: Progress,
    best: Mapping[str, np.ndarray],
    seconds: Seconds,
    interrupted: bool,
    provenance: Mapping[str, Any],
    unsaved: Unsaved,
) -> dict[str, Any]:
    """Write ``summary.json``, ``marl_eval.json`` and the figures into the run's folder; return the summary."""
    summary = summarize(config, env, progress.rows, best, seconds, interrupted, provenance)
    summary["nonfinite"] = nonfinite(run.lanes, progress.nonfinite, run.run_dir)
    if run.cells:
        summary |= summarize_cells(run, progress.rows, progress.active, best, env)
    with unsaved.trying("summary.json"):
        write_json(run.run_dir / "summary.json", summary)
    rows = read_rows(run.run_dir / METRICS_FILE)
    with unsaved.trying("marl_eval.json"):
        write_json(run.run_dir / "marl_eval.json", marl_eval(run, rows))
    if config.logger.plot:
        with unsaved.trying("curves.png"):
            draw(run, rows, summary)
    return summary


def draw(run: RunInfo, rows: list[dict[str, Any]], summary: Mapping[str, Any]) -> None:
    """Draw ``curves.png``, and ``sweep.png`` for a sweep."""
    from qmix_jax.results.curves import learning_curves  # Importing it takes a second.

    title = f"{run.algorithm} on {run.env}"
    if not run.cells:
        learning_curves(rows, run.run_dir / "curves.png", title=title)
        return
    from qmix_jax.results.sweep_plots import cell_curves, scores

    cell_curves(rows, summary, run.run_dir / "curves.png", title=title)
    if len(run.cells) > 1:
        scores(summary, run.run_dir / "sweep.png", title=title)


def marl_eval(run: RunInfo, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Evaluations in the format of marl-eval (Gorsane et al. 2022): environment, task, algorithm, run, step, metrics.

    Each cell of a sweep counts as an algorithm, with its values in the name. Each metric is a list with one number, the
    mean over the episodes of an evaluation.
    """
    environment, _, task = run.env.partition("/")
    names = {"return": "eval_return", "win_rate": "eval_win_rate"}
    measure = "win_rate" if run.has_win_rate else "return"
    algorithms: dict[str, dict[str, Any]] = {}
    for row in rows:
        cell = row.get("cell")
        algorithm = run.algorithm if cell is None else f"{run.algorithm} {run.cells[cell].name}"
        seed = algorithms.setdefault(algorithm, {}).setdefault(f"seed_{row['seed']}", {})
        metrics = {name: [row[key]] for name, key in names.items() if row[key] is not None}
        step = {"step_count": row["env_steps"], "elapsed_time": row["seconds"], **metrics}
        seed[f"step_{row['epoch'] - 1}"] = step
        if metrics:  # none where the return is not a number
            best = seed.get("absolute_metrics", metrics)
            seed["absolute_metrics"] = max(best, metrics, key=lambda found: found.get(measure, [-math.inf]))
    return {environment: {task or environment: algorithms}}
