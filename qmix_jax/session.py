"""One training run on the host: epochs, reports, checkpoints, and what is left in the run's folder."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qmix_jax.checkpoint import Checkpoints, unflatten
from qmix_jax.clock import Clock
from qmix_jax.config import Config
from qmix_jax.envs.base import Env
from qmix_jax.interrupt import Interruption
from qmix_jax.logging import ConsoleSink, EpochMetrics, FileSink, Sinks, WandbSink, write_json
from qmix_jax.results import nonfinite, provenance, run_info, save_policies, summarize
from qmix_jax.sweep import Waves

Rows = dict[str, np.ndarray]


class Session:
    """A run from its first (or next) epoch to its summary.

    Args:
        config: what ``container`` says, typed.
        container: the settings as they are saved.
        run_dir: an existing folder that no other process writes to.
        env: for names and sizes.
        waves: not yet started.
        console: where the user is told.
        clock: started when the process did.
    """

    def __init__(
        self,
        config: Config,
        container: Mapping[str, Any],
        run_dir: Path,
        env: Env,
        waves: Waves,
        console: ConsoleSink,
        clock: Clock,
    ) -> None:
        self._config = config
        self._container = container
        self._run_dir = run_dir
        self._env = env
        self._waves = waves
        self._console = console
        self._clock = clock
        self._made_with = provenance()
        self._checkpoints = Checkpoints(run_dir / "checkpoints", config.checkpoint.keep)
        self._saved_epochs = 0
        self._could_not_save = False
        self._frozen = np.zeros(len(waves.seeds), bool)
        self._stopped = False
        self._rows: Rows = {}
        """Metrics of the last epoch."""

    def restore(self) -> None:
        """Go on from the newest checkpoint that is whole; from the beginning if there is none.

        Raises :class:`ConfigError` if it does not fit the settings.
        """
        saved = self._checkpoints.latest(_warn)
        if saved is None:
            self._console.message(f"no checkpoint in {self._run_dir}: starting from the beginning")
            return
        like = {"states": self._waves.snapshot_like()}
        rows = {name.removeprefix("rows."): x for name, x in saved.arrays.items() if name.startswith("rows.")}
        states = {name: x for name, x in saved.arrays.items() if not name.startswith("rows.")}
        tree = unflatten(like, saved._replace(arrays=states))
        epochs = int(saved.record["epochs"])
        self._waves.restore(tree["states"], epochs)
        self._rows = rows
        self._frozen = rows["frozen"] > 0
        self._saved_epochs = epochs
        self._clock.resume(saved.record["train_seconds"], saved.record["wall_seconds"])
        self._console.message(f"going on after epoch {epochs}, {rows['env_steps'].mean():.0f} environment steps a seed")

    def run(self) -> int:
        """Train to the end; returns the exit status."""
        w = self._config.logger.wandb
        wandb = WandbSink(w.mode, w.project, w.name or self._run_dir.name, entity=w.entity, group=w.group, tags=w.tags)
        with (
            Sinks([FileSink(), wandb, self._console]) as sinks,
            Interruption(self._console.message, self._console.close) as interruption,
        ):
            info = run_info(self._config, self._container, self._run_dir, self._env)
            sinks.start(info._replace(resumed_epochs=self._waves.epochs))
            if self._is_left():
                self._compile()
                self._train(sinks, interruption)
            self._save()
            summary = self._report(interrupted=interruption.signal is not None)
            sinks.finish(summary)
        return self._say_how_it_ended(interruption.signal)

    def _is_left(self) -> bool:
        return not self._rows or self._rows["env_steps"].min() < self._config.total_env_steps

    def _compile(self) -> None:
        self._console.message(describe(self._config, self._waves))
        self._clock.compiling()
        with self._console.compiling():
            self._waves.compile()
        self._clock.compiled()

    def _train(self, sinks: Sinks, interruption: Interruption) -> None:
        """Epochs until every seed has its steps, a signal comes, or numbers go wrong and that is to stop the run."""
        interruption.nothing_to_save = False
        every = self._config.checkpoint.every_minutes
        saved_at = self._clock.train_seconds
        while self._is_left() and interruption.signal is None:
            self._rows = self._waves.epoch()
            seconds = self._clock.trained()
            updates = int(self._rows["updates"][0])
            sinks.log(EpochMetrics(self._waves.epochs, self._rows["env_steps"], updates, seconds, self._rows))
            if self._has_gone_wrong():
                return
            if every is not None and seconds - saved_at >= 60 * every and self._is_left():
                self._save(wait=False)
                saved_at = seconds

    def _has_gone_wrong(self) -> bool:
        """Tell of seeds that have just been frozen; whether that ends the run."""
        updates = self._waves.nonfinite_updates()
        for seed, update, known in zip(self._waves.seeds, updates, self._frozen, strict=True):
            if update >= 0 and not known:
                _warn(
                    f"seed {seed}: loss, gradient or parameters of update {update} are not finite; it learns no more "
                    f"(on_nonfinite={self._config.on_nonfinite})"
                )
        self._frozen = updates >= 0
        self._stopped = bool(self._frozen.any()) and self._config.on_nonfinite == "stop"
        return self._stopped

    def _save(self, wait: bool = True) -> None:
        """A checkpoint of now, unless there is one; a disk that refuses is told, and tried again the next time."""
        try:
            if self._config.checkpoint.every_minutes is not None and self._saved_epochs != self._waves.epochs:
                # The one before must be on the disk first: its arrays and these together would be too much memory.
                self._checkpoints.wait()
                arrays = {"states": self._waves.snapshot(), "rows": self._rows}
                record = {
                    "epochs": self._waves.epochs,
                    "train_seconds": self._clock.train_seconds,
                    "wall_seconds": self._clock.wall_seconds,
                    **self._made_with,
                }
                self._checkpoints.save(self._waves.epochs, arrays, record)
                self._saved_epochs = self._waves.epochs
            if wait:
                self._checkpoints.wait()
        except OSError as error:
            self._saved_epochs = 0
            if not self._could_not_save:
                _warn(f"could not save a checkpoint, the run goes on: {error}")
            self._could_not_save = True
        else:
            self._could_not_save = self._could_not_save and not wait

    def _report(self, interrupted: bool) -> dict[str, Any]:
        """Policies, ``summary.json`` and the figure."""
        algorithm = self._config.algorithm.name
        best = save_policies(self._waves, algorithm, self._container, self._rows, self._run_dir)
        summary = summarize(self._config, self._env, self._rows, best, self._clock, interrupted, self._made_with)
        summary["nonfinite"] = nonfinite(self._waves, self._run_dir)
        write_json(self._run_dir / "summary.json", summary)
        if self._config.logger.plot:
            from qmix_jax.plots import learning_curves, read_metrics

            title = f"{algorithm} on {self._env.name}"
            learning_curves(read_metrics(self._run_dir), self._run_dir / "curves.png", title=title)
        return summary

    def _say_how_it_ended(self, signal: int | None) -> int:
        self._console.message(f"{'interrupted; ' if signal else ''}results in {self._run_dir}")
        if signal and self._config.checkpoint.every_minutes is not None and not self._could_not_save:
            self._console.message(f"go on with: python -m qmix_jax.train resume={self._run_dir}")
        if signal:
            return 128 + signal
        if self._stopped:
            _warn("stopped, since numbers have gone wrong and on_nonfinite=stop")
        return 1 if self._could_not_save or self._stopped else 0


def describe(config: Config, waves: Waves) -> str:
    """Two lines on what is about to run, the update : data ratio among it."""
    algorithm = waves.algorithm
    env, s = algorithm.env, algorithm.sizes
    steps = s.num_envs * (s.length - 1)
    reuse = s.updates_per_iteration * s.batch_size / s.num_envs
    return (
        f"{config.algorithm.name} on {env.name}: {env.num_agents} agents, {env.num_actions} actions, "
        f"{config.num_seeds} seed(s) on {waves.describe()}\n"
        f"update : data ratio: {s.updates_per_iteration} updates of {s.batch_size} sequences per {s.num_envs} "
        f"collected sequences of {s.length} slots ({s.updates_per_iteration / steps:.2g} updates per environment "
        f"step at full sequences; every step is learned from {reuse:g} times)"
    )


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)
