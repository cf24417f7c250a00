"""Event files for TensorBoard, one folder for each seed and one for their aggregate."""

import contextlib
import importlib
import importlib.util
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qmix_jax.errors import ConfigError
from qmix_jax.logging.base import EpochMetrics, RunInfo
from qmix_jax.logging.files import METRICS_FILE, Unsaved, read_epochs
from qmix_jax.logging.wandb import aggregate_metrics, flat_summary, lane_metrics
from qmix_jax.settings.cells import Lane

FOLDER = "tensorboard"
LIBRARY = "tensorboardX"


def check_tensorboard() -> None:
    """Raise :class:`ConfigError` where the library is not installed."""
    if importlib.util.find_spec(LIBRARY) is None:
        raise ConfigError("logger.tensorboard=true: is not installed; pip install 'qmix_jax[tensorboard]'")


class TensorBoardSink:
    """Writes ``<run_dir>/tensorboard/<seed>`` and ``.../aggregate``, for ``tensorboard --logdir runs``.

    Names, values and steps (``env_steps``) are those of W&B. Of a resumed run, the events are written anew from
    ``metrics.jsonl``.

    Args:
        unsaved: told when the disk is full; nothing more is written then.
    """

    def __init__(self, unsaved: Unsaved | None = None) -> None:
        self._unsaved = unsaved or Unsaved()
        self._lanes: list[Lane] = []
        self._files: dict[str, Any] = {}

    def start(self, run: RunInfo) -> None:
        """Open the event files. Raises :class:`ConfigError` where the library is not installed."""
        check_tensorboard()
        # Not its SummaryWriter: that writes in a thread, and waits for it for ever where the disk is full.
        library = importlib.import_module(f"{LIBRARY}.event_file_writer")
        folder = run.run_dir / FOLDER
        shutil.rmtree(folder, ignore_errors=True)
        self._lanes = run.lanes
        names = [lane.name for lane in run.lanes] + (["aggregate"] if len(run.lanes) > 1 else [])
        with self._writing():
            for name in names:
                (folder / name).mkdir(parents=True)
                self._files[name] = library.EventsWriter(str(folder / name / "events"))
        for epoch in read_epochs(run.run_dir / METRICS_FILE, run.lanes)[: run.resumed_epochs]:
            self.log(epoch)

    def log(self, epoch: EpochMetrics) -> None:
        """Write one epoch; it can be seen at once."""
        if not self._files:
            return
        with self._writing():
            for place, lane in enumerate(self._lanes):
                if epoch.is_active(place):
                    self._write(lane.name, lane_metrics(epoch, place))
            if "aggregate" in self._files:
                self._write("aggregate", aggregate_metrics(epoch, self._lanes))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the final and best evaluations, at the last step."""
        if not self._files:
            return
        steps = round(float(summary.get("env_steps") or 0))
        with self._writing():
            for place, lane in enumerate(self._lanes):
                self._write(lane.name, {**flat_summary(summary, place), "env_steps": steps})

    def close(self) -> None:
        """Close the files."""
        files, self._files = self._files, {}
        if files:
            with self._writing():
                for file in files.values():
                    file.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """A disk that is full ends this, not the run: a record that was cut short makes what follows unreadable."""
        with self._unsaved.trying(FOLDER):
            try:
                yield
            except OSError:
                for file in self._files.values():
                    with contextlib.suppress(OSError):
                        file.close()
                self._files = {}
                raise

    def _write(self, name: str, metrics: Mapping[str, float]) -> None:
        protocol = importlib.import_module(f"{LIBRARY}.proto.event_pb2")
        event = protocol.Event(wall_time=time.time(), step=round(metrics["env_steps"]))
        for key in _scalars(metrics):
            event.summary.value.add(tag=key, simple_value=metrics[key])
        self._files[name].write_event(event)
        self._files[name].flush()


def _scalars(metrics: Mapping[str, float]) -> Sequence[str]:
    return [key for key, value in metrics.items() if key != "env_steps" and math.isfinite(value)]
