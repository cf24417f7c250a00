"""Weights & Biases: offline by default, never asks for an account, never stops a run."""

import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from qmix_jax.logging.base import EpochMetrics, RunInfo, mean_over_seeds
from qmix_jax.logging.files import METRICS_FILE, read_epochs

Mode = Literal["online", "offline", "disabled"]
RUN_ID_FILE = "qmix_jax_run_id"


def _warn_on_stderr(text: str) -> None:
    print(text, file=sys.stderr)


class WandbSink:
    """Logs every metric of every seed (``seed_0/eval_return``) and its mean over seeds (``eval_return``).

    All metrics are drawn against ``env_steps``. Files go to ``<run_dir>/wandb``. Online without saved credentials means
    offline, and any failure of W&B turns the sink off; either is told once, through ``warn``, and the run goes on.
    W&B's own records of the machine, the environment, the command line, the code and the git checkout are off.

    A run that goes on is the same run there. Offline, its record is written anew from ``metrics.jsonl``, and the one
    before is put aside as ``wandb/superseded-*``; online, epochs that W&B has already are not sent again.
    """

    def __init__(
        self,
        mode: Mode = "offline",
        project: str = "qmix_jax",
        name: str | None = None,
        *,
        entity: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        warn: Callable[[str], None] = _warn_on_stderr,
    ):
        self.mode: Mode = mode
        self.location: str | None = None
        """Where the run can be seen: its URL, or the folder that ``wandb sync`` takes. None when off."""
        self._identity = {"project": project, "name": name, "entity": entity, "group": group, "tags": list(tags)}
        self._warn = warn
        self._seeds: tuple[int, ...] = ()
        self._run: Any = None
        self._first_epoch = 0

    def start(self, run: RunInfo) -> None:
        """Start a W&B run in the run's folder."""
        if self.mode == "disabled":
            return
        self._seeds = tuple(run.seeds)
        self._guarded("could not start", lambda: self._init(run))

    def log(self, epoch: EpochMetrics) -> None:
        """Log one epoch; values that are not available are left out, as W&B would draw NaN as a point."""
        if self._run is not None and epoch.epoch >= self._first_epoch:
            payload = flat_metrics(epoch, self._seeds)
            self._guarded("stopped working", lambda: self._run.log(payload, step=epoch.epoch))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Keep the final and best evaluations in W&B's summary, and end the run as a success."""
        if self._run is not None:
            self._guarded("could not finish", lambda: self._end(flat_summary(summary), exit_code=0))

    def close(self) -> None:
        """End the run as a failure unless ``finish`` has ended it."""
        if self._run is not None:
            self._guarded("could not finish", lambda: self._end({}, exit_code=1))

    def _init(self, run: RunInfo) -> None:
        run.run_dir.mkdir(parents=True, exist_ok=True)
        # W&B keeps its service's log below the cache folder, by default outside the run's folder.
        os.environ.setdefault("WANDB_CACHE_DIR", str(run.run_dir / "wandb" / "cache"))
        if self.mode == "offline":
            # Without this, its service may report its own crashes over the network.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        known = _put_aside(run.run_dir / "wandb") if run.resumed_epochs else None
        import wandb  # takes a second: only for runs that use it

        if self.mode == "online" and not wandb.login(prompt=False):
            self.mode = "offline"
            self._warn("W&B: not logged in, so this run is recorded offline (`wandb login`, then `wandb sync`)")
        settings = wandb.Settings(
            console="off",
            silent=True,
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            init_timeout=30,
            finish_timeout=60,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        self._run = wandb.init(
            mode=self.mode,
            id=known,
            resume="allow" if known and self.mode == "online" else None,
            dir=str(run.run_dir),
            config=dict(run.config),
            settings=settings,
            **self._identity,
        )
        (run.run_dir / "wandb").mkdir(exist_ok=True)
        (run.run_dir / "wandb" / RUN_ID_FILE).write_text(self._run.id, encoding="utf-8")
        self._run.define_metric("env_steps")
        self._run.define_metric("*", step_metric="env_steps")
        self.location = self._run.url if self.mode == "online" else str(self._run.settings.sync_dir)
        self._first_epoch = self._run.step if known else 0
        for epoch in read_epochs(run.run_dir / METRICS_FILE)[: run.resumed_epochs]:
            self.log(epoch)

    def _end(self, summary: Mapping[str, float], exit_code: int) -> None:
        run, self._run = self._run, None
        run.summary.update(summary)
        run.finish(exit_code=exit_code)

    def _guarded(self, what_failed: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever goes wrong inside W&B, training is worth more
            self._run = None
            self.location = None
            lines = str(error).strip().splitlines() or [""]
            self._warn(f"W&B {what_failed}, the run goes on without it: {type(error).__name__}: {lines[0]}")


def _put_aside(folder: Path) -> str | None:
    """Rename the offline records of the same run so far; returns the run's W&B id, None where there is none."""
    for record in folder.glob("offline-run-*"):
        record.rename(folder / f"superseded-{record.name}")
    try:
        return (folder / RUN_ID_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def flat_metrics(epoch: EpochMetrics, seeds: Sequence[int]) -> dict[str, float]:
    """One flat dict per epoch: means over seeds under the plain name, each seed's value under ``seed_<seed>/``."""
    # Through the decimal form that metrics.jsonl holds, so that a run that goes on repeats the same numbers.
    rows = {name: np.array([float(str(x)) for x in np.asarray(values)]) for name, values in epoch.rows.items()}
    payload = {name: mean_over_seeds(values) for name, values in rows.items()}
    for name, values in rows.items():
        payload |= {f"seed_{seed}/{name}": float(value) for seed, value in zip(seeds, values, strict=True)}
    payload |= {"env_steps": float(np.mean(epoch.env_steps)), "updates": epoch.updates, "seconds": epoch.seconds}
    return {name: value for name, value in payload.items() if math.isfinite(value)}


def flat_summary(summary: Mapping[str, Any]) -> dict[str, float]:
    """``final/return``, ``best/win_rate`` ...: means over seeds of the two evaluations in ``summary.json``."""
    flat = {}
    for prefix, key in (("final", "evaluation"), ("best", "best")):
        for name, values in (summary.get(key) or {}).items():
            if values is not None:
                flat[f"{prefix}/{name}"] = mean_over_seeds(np.asarray(values, np.float64))
    return {name: value for name, value in flat.items() if math.isfinite(value)}
