"""Weights & Biases: offline by default, never asks for an account, never stops a run."""

import contextlib
import math
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from qmix_jax.logging.base import EpochMetrics, RunInfo, mean_over_seeds
from qmix_jax.logging.files import METRICS_FILE, read_epochs
from qmix_jax.logging.scores import score
from qmix_jax.logging.wandb_files import leave_quietly, log_policies, media
from qmix_jax.settings.cells import Lane

Mode = Literal["online", "offline", "disabled"]
RUN_ID_FILE = "qmix_jax_run_id"
SCORED = ("eval_return", "eval_win_rate", "eval_episode_length", "train_return", "train_win_rate")
"""Metrics that the aggregate run reports as interquartile means with intervals; it reports the others as means."""


def _warn_on_stderr(text: str) -> None:
    print(text, file=sys.stderr)


class Part(NamedTuple):
    """One W&B run of several for one training run: a lane, or (``lane`` None) the aggregate of all."""

    lane: Lane | None
    place: int
    name: str
    suffix: str
    """Of its id, which begins alike for all of them."""

    @property
    def job_type(self) -> str:
        """By which the runs of a group are told apart on the web page."""
        return "aggregate" if self.lane is None else "seed"


class WandbSink:
    """One W&B run for each seed (of each cell) in a group, and one of their aggregate; a single seed is one run.

    Metrics have the names of ``metrics.jsonl`` and are drawn against ``env_steps``; the aggregate has
    :func:`aggregate_metrics`. Files go to ``<run_dir>/wandb``. Online without saved credentials means offline, and any
    failure of W&B turns the sink off; either is reported once, through ``warn``, and the run continues.

    With ``system``, the aggregate (or only) run also has W&B's system metrics, the machine, the command line and the
    commit of this code. The environment's variables, the installed packages, the code and what the console shows are
    never recorded. At the end the aggregate gets the figures, a table of evaluations and the video, if one was drawn;
    with ``artifacts`` every run gets its policies.

    A resumed run is the same run there. Offline, its records are written anew from ``metrics.jsonl``, and those
    before are put aside as ``wandb/superseded-*``; online, epochs that W&B has already are not sent again.
    """

    def __init__(
        self,
        mode: Mode = "offline",
        project: str = "qmix_jax",
        name: str | None = None,
        *,
        each: bool = True,
        entity: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        system: bool = True,
        artifacts: bool = False,
        warn: Callable[[str], None] = _warn_on_stderr,
    ):
        self.mode: Mode = mode
        self.location: str | None = None
        """Where the (aggregate) run can be seen: its URL, or the folder that ``wandb sync`` takes. None when off."""
        self._name = name
        self._each = each
        self._identity = {"project": project, "entity": entity, "group": group or name}
        self._tags = list(tags)
        self._system = system
        self._artifacts = artifacts
        self._run: RunInfo | None = None
        self._last_epoch = 0
        self._warn = warn
        self._lanes: list[Lane] = []
        self._parts: list[Part] = []
        self._runs: list[Any] = []
        self._first_epochs: list[int] = []

    def start(self, run: RunInfo) -> None:
        """Start the W&B runs in the run's folder."""
        if self.mode == "disabled":
            return
        self._lanes = run.lanes
        self._parts = parts(run.lanes, self._name or run.run_dir.name, self._each)
        self._guarded("could not start", lambda: self._init(run))

    def log(self, epoch: EpochMetrics) -> None:
        """Log one epoch; values that are not available are left out, as W&B would draw NaN as a point."""
        if self._runs:
            self._guarded("stopped working", lambda: self._log(epoch))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Keep the final and best evaluations in W&B's summaries; end the runs, as failures if they ended too early."""
        if self._runs:
            self._guarded("could not finish", lambda: self._end(summary, exit_code=int(summary.get("interrupted", 0))))

    def close(self) -> None:
        """End the runs as failures unless ``finish`` has ended them."""
        if self._runs:
            self._guarded("could not finish", lambda: self._end({}, exit_code=1))

    def _init(self, run: RunInfo) -> None:
        folder = run.run_dir / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        self._run = run
        # W&B keeps its service's log below the cache folder, and artifacts that are to be uploaded below the data
        # folder; by default both are outside the run's folder.
        os.environ.setdefault("WANDB_CACHE_DIR", str(folder / "cache"))
        os.environ.setdefault("WANDB_DATA_DIR", str(folder / "data"))
        if self.mode == "offline":
            # Without this, its service may report its own crashes over the network.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        known = _put_aside(folder) if run.resumed_epochs else None
        base = known or secrets.token_hex(4)
        (folder / RUN_ID_FILE).write_text(base, encoding="utf-8")
        import wandb  # takes a second: only for runs that use it

        leave_quietly()
        if self.mode == "online" and not wandb.login(prompt=False):
            self.mode = "offline"
            self._warn("W&B: not logged in, so this run is recorded offline (`wandb login`, then `wandb sync`)")
        for part in self._parts:
            started = wandb.init(
                mode=self.mode,
                id=base + part.suffix,
                resume="allow" if known and self.mode == "online" else None,
                reinit="create_new",
                dir=str(run.run_dir),
                name=part.name,
                job_type=part.job_type,
                config=part_config(part, run),
                tags=[*self._tags, run.algorithm, run.env.replace("/", "-")],
                settings=_settings(wandb, run, self._system and part is self._parts[-1]),
                **self._identity,
            )
            self._runs.append(started)
            started.define_metric("env_steps")
            started.define_metric("*", step_metric="env_steps")
            for name in SCORED:
                started.define_metric(name, step_metric="env_steps", summary="min,max,last")
            self._first_epochs.append(started.step if known else 0)
        self.location = self._runs[-1].url if self.mode == "online" else str(self._runs[-1].settings.sync_dir)
        for epoch in read_epochs(run.run_dir / METRICS_FILE, run.lanes)[: run.resumed_epochs]:
            self._log(epoch)

    def _log(self, epoch: EpochMetrics) -> None:
        self._last_epoch = epoch.epoch
        for part, run, first in zip(self._parts, self._runs, self._first_epochs, strict=True):
            if epoch.epoch < first or (part.lane is not None and not epoch.is_active(part.place)):
                continue
            payload = aggregate_metrics(epoch, self._lanes) if part.lane is None else lane_metrics(epoch, part.place)
            run.log(payload, step=epoch.epoch)

    def _end(self, summary: Mapping[str, Any], exit_code: int) -> None:
        runs, self._runs = self._runs, []
        for part, run in zip(self._parts, runs, strict=True):
            if summary:
                self._give_files(part, run)
            run.summary.update(flat_summary(summary, None if part.lane is None else part.place))
            run.finish(exit_code=exit_code)

    def _give_files(self, part: Part, started: Any) -> None:
        """Log what is in the run's folder by now, as part of the last epoch."""
        import wandb

        assert self._run is not None
        if part is self._parts[-1] and (found := media(wandb, self._run)):
            started.log(found, step=self._last_epoch)
        if self._artifacts:
            alone = len(self._parts) == 1
            lanes = self._lanes if alone else [] if part.lane is None else [part.lane]
            log_policies(wandb, started, self._run, lanes)

    def _guarded(self, what_failed: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever goes wrong inside W&B, training is worth more
            self._runs = []
            self.location = None
            lines = str(error).strip().splitlines() or [""]
            if isinstance(error, ConnectionError):  # Its service is gone, and must not be asked again at the exit.
                with contextlib.suppress(ConnectionError):
                    sys.modules["wandb"].teardown()
            self._warn(f"W&B {what_failed}, the run goes on without it: {type(error).__name__}: {lines[0]}")


def parts(lanes: Sequence[Lane], name: str, each: bool) -> list[Part]:
    """The W&B runs of one training run, the aggregate last."""
    if len(lanes) == 1:
        return [Part(lanes[0], 0, name, "")]
    own = [
        Part(lane, place, f"{name}/{lane.name}", f"-{lane.name.replace('/', '-')}") for place, lane in enumerate(lanes)
    ]
    return [*(own if each else []), Part(None, 0, name, "")]


def part_config(part: Part, run: RunInfo) -> dict[str, Any]:
    """The configuration that a W&B run is found by: that of its cell and seed."""
    if part.lane is None:
        values = {f"cell_{index}": cell.values for index, cell in enumerate(run.cells)}
        return {**run.config, **({"cells": values} if values else {})}
    config = run.config if part.lane.cell is None else run.cells[part.lane.cell].container
    own = {} if part.lane.cell is None else {"cell": part.lane.cell}
    return {**config, **own, "seed": part.lane.seed, "num_seeds": 1}


def _settings(wandb: Any, run: RunInfo, system: bool) -> Any:
    git = {"git_commit": run.git_commit} if system and run.git_commit else {"disable_git": True}
    return wandb.Settings(
        console="off",
        silent=True,
        disable_code=True,
        **git,
        disable_job_creation=True,
        init_timeout=30,
        finish_timeout=60,
        x_disable_machine_info=not system,
        x_disable_meta=not system,
        x_disable_stats=not system,
        x_save_requirements=False,
    )


def _put_aside(folder: Path) -> str | None:
    """Rename the offline records of the same run so far; returns what its W&B ids begin with, None for none."""
    for record in folder.glob("offline-run-*"):
        record.rename(folder / f"superseded-{record.name}")
    try:
        return (folder / RUN_ID_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def lane_metrics(epoch: EpochMetrics, place: int) -> dict[str, float]:
    """What one lane reports of an epoch."""
    payload = {name: values[place] for name, values in _as_written(epoch).items()}
    return _available(payload | _of_all(epoch))


def aggregate_metrics(epoch: EpochMetrics, lanes: Sequence[Lane]) -> dict[str, float]:
    """Over the seeds of a run, or of each cell of a sweep (``cell_3/...``).

    Of returns, win rates and lengths: interquartile mean under the plain name, ``/low`` and ``/high`` of its 95%
    interval, ``/min`` and ``/max``; of all others the mean.
    """
    rows = _as_written(epoch)
    payload: dict[str, float] = {"env_steps": epoch.mean_env_steps, **_of_all(epoch)}
    cells = {lane.cell: [place for place, other in enumerate(lanes) if other.cell == lane.cell] for lane in lanes}
    active = {cell: places for cell, places in cells.items() if epoch.is_active(places[0])}
    for name, values in rows.items():
        if name in payload:
            continue
        found = np.stack([values[places] for places in active.values()])  # [cells, seeds]
        if name in SCORED:
            scored = score(found)
            columns = {"": scored.iqm, "/low": scored.low, "/high": scored.high, "/min": scored.min, "/max": scored.max}
        else:
            columns = {"": np.array([mean_over_seeds(seeds) for seeds in found])}
        for index, cell in enumerate(active):
            prefix = "" if cell is None else f"cell_{cell}/"
            payload |= {f"{prefix}{name}{suffix}": float(column[index]) for suffix, column in columns.items()}
    return _available(payload)


def _of_all(epoch: EpochMetrics) -> dict[str, float]:
    """What is one number for all lanes: they are trained side by side."""
    return {"updates": epoch.updates, "seconds": epoch.seconds, "steps_per_second": epoch.steps_per_second}


def _as_written(epoch: EpochMetrics) -> dict[str, np.ndarray]:
    """Through the decimal form that metrics.jsonl holds, so that a resumed run repeats the same numbers."""
    return {name: np.array([float(str(x)) for x in np.asarray(values)]) for name, values in epoch.rows.items()}


def _available(payload: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in payload.items() if math.isfinite(value)}


def flat_summary(summary: Mapping[str, Any], place: int | None = None) -> dict[str, float]:
    """``final/return``, ``best/win_rate`` ...: the evaluations in ``summary.json``, of one lane or means over all."""
    flat = {}
    for prefix, key in (("final", "evaluation"), ("best", "best")):
        for name, values in (summary.get(key) or {}).items():
            if values is not None:
                found = np.asarray(values, np.float64)
                flat[f"{prefix}/{name}"] = mean_over_seeds(found) if place is None else found[place]
    return _available(flat)
