"""One training run on the host: epochs, reports, checkpoints, and what is left in the run's folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qmix_jax.envs.base import Env
from qmix_jax.envs.hosted.team import EnvError
from qmix_jax.logging import ConsoleSink, EpochMetrics, FileSink, Sinks, TensorBoardSink, WandbSink
from qmix_jax.logging.files import Unsaved
from qmix_jax.results.explanation.mixers import save_best_mixers, save_mixers
from qmix_jax.results.report import Progress, describe_run, write_report
from qmix_jax.results.summary import cell_scores, provenance, run_info, save_policies
from qmix_jax.results.video import draw_best_episode
from qmix_jax.running.checkpoint import unflatten
from qmix_jax.running.clock import Clock
from qmix_jax.running.devices import after_compiling
from qmix_jax.running.hosts import Hosts
from qmix_jax.running.interrupt import Interruption
from qmix_jax.running.resume import how_to_resume
from qmix_jax.running.saving import Saving, checked_sections, warn
from qmix_jax.running.waves import Waves, merged
from qmix_jax.settings.cells import Cell
from qmix_jax.settings.config import Config

Rows = dict[str, np.ndarray]


class Session:
    """A run from its first (or next) epoch to its summary.

    Args:
        config: what ``container`` says, typed.
        container: the settings as they are saved.
        cells: of its sweep, if it is one.
        run_dir: an existing folder that no other run writes to.
        env: for names and sizes.
        waves: the lanes of this process, not yet started.
        hosts: the processes of this run.
        console: where the user is told.
        clock: started when the process did.
        keep_process: leave the process alone on Ctrl-C, see :class:`Interruption`.
        copies: whether there is memory to copy all states for a checkpoint.
    """

    def __init__(
        self,
        config: Config,
        container: Mapping[str, Any],
        cells: Sequence[Cell],
        run_dir: Path,
        env: Env,
        waves: Waves,
        hosts: Hosts,
        console: ConsoleSink,
        clock: Clock,
        keep_process: bool = False,
        copies: bool = True,
    ) -> None:
        self._config = config
        self._made_with = provenance()
        self._info = run_info(config, container, cells, run_dir, env)._replace(git_commit=self._made_with["git_commit"])
        self._lanes = self._info.lanes
        self._env = env
        self._waves = waves
        self._hosts = hosts
        self._console = console
        self._clock = clock
        self._keep_process = keep_process
        self._saving = Saving(config.checkpoint, run_dir, hosts, copies, console.message)
        self._unsaved = Unsaved()
        self._stopped = False
        self._since = (0.0, 0.0)
        self._failure: EnvError | None = None
        self._progress = Progress({}, np.full(len(self._lanes), -1, np.int32), np.ones(len(self._lanes), bool), {})

    def restore(self) -> None:
        """Go on from the newest checkpoint that is whole (in all processes); from the beginning if there is none.

        Raises :class:`ConfigError` if it does not fit the settings.
        """
        saved = self._saving.newest()
        if saved is None:
            self._console.message(f"no checkpoint in {self._info.run_dir}: starting from the beginning")
            return
        parts = checked_sections(saved, len(self._lanes))
        told = parts["told"]
        self._progress = Progress(parts["rows"], told["nonfinite"], told["active"], parts["best"])
        if not self._progress.active.all():
            self._waves = self._waves.only(self._own_places())
        states = unflatten(self._waves.snapshot_like(), saved._replace(arrays=parts["states"]))
        epochs = int(saved.record["epochs"])
        self._waves.restore(states, epochs, parts["rows"]["env_steps"][self._own_places()])
        self._clock.resume(saved.record["train_seconds"], saved.record["wall_seconds"])
        self._since = self._now()
        told = "; simulators are not saved: new episodes begin" if self._waves.algorithm.env.hosted else ""
        told = told if self._is_left() else f"; none are left of total_env_steps={self._config.total_env_steps}"
        self._console.message(f"resuming after epoch {epochs}, {self._since[0]:.0f} environment steps a seed{told}")

    def run(self) -> int:
        """Train to the end; returns the exit status."""
        with (
            Sinks(self._sinks() if self._hosts.is_first else []) as sinks,
            Interruption(self._console.message, self._console.close, keep_process=self._keep_process) as interruption,
        ):
            sinks.start(self._info._replace(resumed_epochs=self._waves.epochs))
            signal = None
            if self._is_left():
                self._compile()
                signal = self._train(sinks, interruption)
            if not self._progress.rows:
                return self._say_how_it_ended(signal)
            try:  # Small files first: the last checkpoint may take what is left of the disk or the memory.
                best = self._save_policies()
                if self._hosts.is_first:
                    summary = write_report(
                        self._config,
                        self._info,
                        self._env,
                        self._progress,
                        best,
                        self._clock.seconds,
                        self._is_left(),
                        self._made_with,
                        self._unsaved,
                    )
                    if self._config.logger.wandb.video and self._config.logger.wandb.mode != "disabled":
                        draw_best_episode(self._info, self._env, summary, warn)
                    sinks.finish(summary)
            finally:
                self._save()
        return self._say_how_it_ended(signal)

    def _sinks(self) -> list[Any]:
        w = self._config.logger.wandb
        wandb = WandbSink(
            w.mode,
            w.project,
            w.name or self._info.run_dir.name,
            each=w.runs == "each",
            entity=w.entity,
            group=w.group,
            tags=w.tags,
            system=w.system,
            artifacts=w.artifacts,
        )
        others = [TensorBoardSink(self._unsaved)] if self._config.logger.tensorboard else []
        return [FileSink(self._unsaved), wandb, *others, self._console]

    def _is_left(self) -> bool:
        rows, active = self._progress.rows, self._progress.active
        return not rows or bool(rows["env_steps"][active].min() < self._config.total_env_steps)

    def _own_places(self) -> np.ndarray:
        """The lanes of the waves of this process among all lanes."""
        return self._hosts.share[self._progress.active[self._hosts.share]]

    def _compile(self) -> None:
        self._console.message(describe_run(self._config, self._info, self._waves.algorithm, self._waves.describe()))
        self._compile_waves()

    def _compile_waves(self) -> None:
        self._clock.compiling()
        with self._console.compiling():
            self._waves.compile()
        self._clock.compiled()
        after_compiling(collect_garbage=not self._keep_process)

    def _train(self, sinks: Sinks, interruption: Interruption) -> int | None:
        """Epochs until every lane has its steps, a signal comes, or numbers go wrong and that is to stop the run.

        Returns the signal.
        """
        interruption.nothing_to_save = False
        every, saved_at = self._config.checkpoint.every_minutes, self._clock.train_seconds
        while self._is_left():
            # Here, and not when a checkpoint has been made: what goes on from one halves as the run itself would.
            self._halve()
            active = self._progress.active
            try:
                self._epoch()
            except EnvError as failure:
                self._failure = failure
                return None
            seconds = self._clock.trained()
            rows = self._progress.rows
            some = None if active.all() else active
            steps, updates = rows["env_steps"], int(rows["updates"].max())
            sinks.log(EpochMetrics(self._waves.epochs, steps, updates, seconds, rows, some, self._since))
            if self._stopped:
                return None
            due = every is not None and seconds - saved_at >= 60 * every
            signal, save = self._agree(interruption.signal, due)
            if signal:
                return signal
            if save and self._is_left():
                self._save(wait=False)
                saved_at = seconds
        return None

    def _epoch(self) -> None:
        """Train all lanes for one epoch, and tell of those that have just been frozen."""
        own = {"rows": self._waves.epoch(), "nonfinite": self._waves.nonfinite_updates()}
        lanes = [self._lanes[place] for place in self._own_places()]
        best_at, env_steps = self._waves.best_env_steps(), own["rows"]["env_steps"]
        save_best_mixers(self._waves.online, lanes, best_at, env_steps, self._info, self._unsaved)
        told = self._hosts.gather(own)
        before, active = self._progress, self._progress.active
        self._progress = before._replace(
            rows={name: merged(before.rows.get(name), x, active) for name, x in told["rows"].items()},
            nonfinite=merged(before.nonfinite, told["nonfinite"], active),
        )
        for lane, update, known in zip(self._lanes, self._progress.nonfinite, before.nonfinite, strict=True):
            if update >= 0 and known < 0 and self._hosts.is_first:
                warn(
                    f"{lane.words}: loss, gradient or parameters of update {update} are not finite; it learns no more "
                    f"(on_nonfinite={self._config.on_nonfinite})"
                )
        self._stopped = self._config.on_nonfinite == "stop" and bool((self._progress.nonfinite >= 0).any())

    def _agree(self, signal: int | None, save: bool) -> tuple[int | None, bool]:
        """All processes stop where one was told to, and save when the first one does."""
        told = self._hosts.each((signal or 0) + 1000 * save)
        return max(number % 1000 for number in told) or None, told[0] >= 1000

    def _halve(self) -> None:
        """Stop the worse half of the cells that are still trained, where ``sweep.halving`` says that it is time."""
        every, epochs, seeds = self._config.sweep.halving, self._waves.epochs, len(self._info.seeds)
        if every is None or epochs == 0 or epochs % every:
            return
        active = self._progress.active.reshape(-1, seeds)[:, 0]
        if active.sum() <= (left := -(-len(active) // 2 ** (epochs // every))):  # done, perhaps before a failure
            return
        best = self._save_policies()
        scores = np.nan_to_num(cell_scores(self._progress.rows, self._env, len(active)).iqm, nan=-np.inf)
        stay = sorted(np.flatnonzero(active), key=lambda cell: -scores[cell])[:left]
        still = np.repeat(np.isin(np.arange(len(active)), stay), seeds)
        self._waves = self._waves.only(np.flatnonzero(still[self._own_places()]))
        self._progress = self._progress._replace(active=still, best=best)
        self._console.message(f"halving after epoch {epochs}: {len(stay)} of {int(active.sum())} cells continue")
        if not self._waves.is_compiled:
            self._compile_waves()
        self._since = self._now()

    def _now(self) -> tuple[float, float]:
        """Environment steps of the average lane that is still trained, and seconds of training."""
        return float(self._progress.rows["env_steps"][self._progress.active].mean()), self._clock.train_seconds

    def _save_policies(self) -> Rows:
        """Policies of the lanes that are still trained; returns the best evaluations of all lanes."""
        places = self._own_places()
        rows = {name: values[places] for name, values in self._progress.rows.items()}
        lanes = [self._lanes[place] for place in places]
        online = self._waves.online()
        save_mixers(online, lanes, self._info, self._unsaved)
        best = save_policies(online.agent, self._waves.best(), lanes, self._info, self._env, rows, self._unsaved)
        best = self._hosts.gather(best)
        return {name: merged(self._progress.best.get(name), x, self._progress.active) for name, x in best.items()}

    def _save(self, wait: bool = True) -> None:
        """A checkpoint of now."""

        def arrays(copy: bool) -> dict[str, Any]:
            progress = self._progress
            return {
                "states": self._waves.snapshot(copy),
                "rows": progress.rows,
                "best": progress.best,
                "told": {"nonfinite": progress.nonfinite, "active": progress.active},
            }

        record = {
            "epochs": self._waves.epochs,
            "train_seconds": self._clock.train_seconds,
            "wall_seconds": self._clock.wall_seconds,
            **self._made_with,
        }
        self._saving.save(arrays, record, wait=wait)

    def _say_how_it_ended(self, signal: int | None) -> int:
        run_dir = self._info.run_dir
        self._console.message(f"{'interrupted; ' if signal else ''}results in {run_dir}")
        if signal and self._saving.is_on and not self._saving.failed:
            self._console.message(f"resume with: {how_to_resume(self._info.config, run_dir, self._keep_process)}")
        if self._unsaved.names:
            names = sorted(self._unsaved.names)
            warn(f"not saved: {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}")
        if signal:
            return 128 + signal
        if self._failure is not None:
            warn(f"the environment failed: {self._failure}")
            return 1
        if self._stopped:
            warn("stopped, since numbers have gone wrong and on_nonfinite=stop")
        return 1 if self._saving.failed or self._unsaved.names or self._stopped else 0
