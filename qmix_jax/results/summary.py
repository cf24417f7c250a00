"""The results of a run in its folder: policies and ``summary.json``."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from qmix_jax.envs.base import Env
from qmix_jax.logging import METRICS_FILE, RunInfo
from qmix_jax.logging.files import Unsaved, read_rows
from qmix_jax.logging.scores import Score, score
from qmix_jax.results.policies import save_policy
from qmix_jax.settings.cells import Cell, Lane
from qmix_jax.settings.config import Config
from qmix_jax.types import Best

VERSIONS_OF = ("qmix_jax", "jax", "jaxlib", "flax", "optax", "jaxmarl", "numpy")


def run_info(config: Config, container: Mapping[str, Any], cells: Sequence[Cell], run_dir: Path, env: Env) -> RunInfo:
    """The information that sinks get before a run."""
    return RunInfo(
        run_dir=run_dir,
        config=container,
        seeds=list(range(config.seed, config.seed + config.num_seeds)),
        total_env_steps=config.total_env_steps,
        algorithm=config.algorithm.name,
        env=env.name,
        has_win_rate=env.has_win_rate,
        cells=cells,
    )


class Seconds(NamedTuple):
    """Durations of a run's phases."""

    compile: float
    train: float
    """From the end of compilation to the end of the latest epoch, in all processes of the run."""
    wall: float
    """Total over all processes of the run, one after the other."""


def save_policies(
    final: Any,
    best: Best,
    lanes: Sequence[Lane],
    run: RunInfo,
    env: Env,
    rows: Mapping[str, np.ndarray],
    unsaved: Unsaved,
) -> dict[str, np.ndarray]:
    """Write the final and the best agent of every lane.

    Args:
        final: current parameters of the agents; the first axis is the lane, here and in ``best``.
        best: the agents with the best evaluations.
        lanes: seed and cell of each lane.
        run: the run that they belong to.
        env: the environment, for its sizes.
        rows: the latest metrics, one number per lane.
        unsaved: told which policies cannot be written.

    Returns the best evaluations, named like ``rows``.
    """
    best_rows = {
        "env_steps": np.asarray(best.env_steps),
        "eval_return": np.asarray(best.evaluation.episode_return),
        "eval_win_rate": np.asarray(best.evaluation.win_rate),
        "eval_episode_length": np.asarray(best.evaluation.episode_length),
    }
    for name, params, found in (("final", final, rows), ("best", best.agent, best_rows)):
        for index, lane in enumerate(lanes):
            one = {key: values[index : index + 1] for key, values in found.items()}
            description = {
                "algorithm": run.algorithm,
                "seed": lane.seed,
                **({} if lane.cell is None else {"cell": lane.cell, "values": run.cells[lane.cell].values}),
                "env_steps": found["env_steps"][index],
                "evaluation": {key: values and values[0] for key, values in evaluation(one, env).items()},
                "sizes": {key: getattr(env, key) for key in ("num_agents", "num_actions", "obs_size", "state_size")},
                "agent": run.config["agent"],
                "env": run.config["env"],
            }
            own = jax.tree.map(lambda x, index=index: x[index], params)
            with unsaved.trying(f"policies/{lane.name}/{name}"):
                save_policy(run.run_dir / "policies" / lane.name / name, own, description)
    return best_rows


def evaluation(rows: Mapping[str, np.ndarray], env: Env) -> dict[str, list[float] | None]:
    """Greedy return, win rate (None if the environment has none) and episode length, one number per lane."""
    return {
        "return": rows["eval_return"].tolist(),
        "win_rate": rows["eval_win_rate"].tolist() if env.has_win_rate else None,
        "episode_length": rows["eval_episode_length"].tolist(),
    }


def summarize(
    config: Config,
    env: Env,
    rows: Mapping[str, np.ndarray],
    best: Mapping[str, np.ndarray],
    seconds: Seconds,
    interrupted: bool,
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of ``summary.json``, from the last epoch's metrics; steps and updates are per seed."""
    env_steps = float(rows["env_steps"].mean())
    return {
        "algorithm": config.algorithm.name,
        "env": env.name,
        "num_seeds": config.num_seeds,
        "seeds": list(range(config.seed, config.seed + config.num_seeds)),
        "env_steps": round(env_steps),
        "env_steps_per_seed": rows["env_steps"],
        "updates": int(rows["updates"].max()),  # of a sweep, those of the cells that were trained to the end
        "updates_per_env_step": float(rows["updates"].sum() / rows["env_steps"].sum()),
        "compile_seconds": seconds.compile,
        "train_seconds": seconds.train,
        "wall_seconds": seconds.wall,
        "env_steps_per_second": float(rows["env_steps"].sum()) / seconds.train,
        "evaluation": evaluation(rows, env),
        "best": {**evaluation(best, env), "env_steps": best["env_steps"]},
        "interrupted": interrupted,
        **provenance,
    }


def summarize_cells(
    run: RunInfo, rows: Mapping[str, np.ndarray], active: np.ndarray, best: Mapping[str, np.ndarray], env: Env
) -> dict[str, Any]:
    """A sweep's part of ``summary.json``: ``score`` names the ranking metric, ``cells`` has the results."""
    seeds = len(run.seeds)
    scores = cell_scores(rows, env, len(run.cells))
    # The score of a stopped cell is an early one, so the cell ranks below all that ran longer.
    stayed = np.where(active.reshape(-1, seeds)[:, 0], np.inf, rows["env_steps"].reshape(-1, seeds).mean(axis=1))
    order = np.lexsort((-np.nan_to_num(scores.iqm, nan=-np.inf), -stayed))
    ranks = {int(cell): rank for rank, cell in enumerate(order, start=1)}

    def of_cell(index: int, cell: Cell) -> dict[str, Any]:
        places = slice(index * seeds, (index + 1) * seeds)
        return {
            "cell": index,
            "values": cell.values,
            "rank": ranks[index],
            "score": {name: getattr(scores, name)[index] for name in scores._fields},
            "stopped": not active[places.start],
            "env_steps": round(float(rows["env_steps"][places].mean())),
            "evaluation": evaluation({name: values[places] for name, values in rows.items()}, env),
            "best": evaluation({name: values[places] for name, values in best.items()}, env),
        }

    return {
        "score": "win_rate" if env.has_win_rate else "return",
        "lanes": [lane._asdict() for lane in run.lanes],
        "cells": [of_cell(index, cell) for index, cell in enumerate(run.cells)],
    }


def cell_scores(rows: Mapping[str, np.ndarray], env: Env, num_cells: int) -> Score:
    """Scores of cells over their seeds, of the latest greedy win rate (return if there is none); ``[cells]`` each."""
    values = np.asarray(rows["eval_win_rate" if env.has_win_rate else "eval_return"])
    return score(values.reshape(num_cells, -1))


def nonfinite(lanes: Sequence[Lane], updates: np.ndarray, run_dir: Path) -> list[dict[str, int | None]]:
    """Frozen lanes: the first update that was not applied, and the environment steps when that was noticed."""
    rows = read_rows(run_dir / METRICS_FILE)
    return [
        {
            **({} if lane.cell is None else {"cell": lane.cell}),
            "seed": lane.seed,
            "update": int(update),
            "env_steps": next(
                (
                    row["env_steps"]
                    for row in rows
                    if (row.get("cell"), row["seed"]) == (lane.cell, lane.seed) and row["frozen"]
                ),
                None,
            ),
        }
        for lane, update in zip(lanes, updates, strict=True)
        if update >= 0
    ]


def provenance() -> dict[str, Any]:
    """Versions and commit of the running code. Call it when a run starts: the checkout may change later."""
    return {"versions": _versions(), "git_commit": _git_commit()}


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": sys.version.split()[0]}
    for name in VERSIONS_OF:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _git_commit() -> str | None:
    """The commit of the checkout that this code runs from, if it is one.

    An environment with this package may lie in somebody else's repository, which does not track its files.
    """
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    return _git("rev-parse", "HEAD")


def _git(*arguments: str) -> str | None:
    """What git says about the folder of this file, None where it fails."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=10, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if answer.returncode else answer.stdout.strip() or None
