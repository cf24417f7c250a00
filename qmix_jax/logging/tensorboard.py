"""Event files for TensorBoard, one folder for each seed and one for their aggregate."""

import importlib
import importlib.util
import math
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from qmix_jax.errors import ConfigError
from qmix_jax.logging.base import EpochMetrics, RunInfo
from qmix_jax.logging.files import METRICS_FILE, read_epochs
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

    Names, values and steps (``env_steps``) are those of W&B. Of a run that goes on, the events are written anew from
    ``metrics.jsonl``.
    """

    def __init__(self) -> None:
        self._lanes: list[Lane] = []
        self._writers: dict[str, Any] = {}

    def start(self, run: RunInfo) -> None:
        """Open the event files. Raises :class:`ConfigError` where the library is not installed."""
        check_tensorboard()
        library = importlib.import_module(LIBRARY)
        folder = run.run_dir / FOLDER
        shutil.rmtree(folder, ignore_errors=True)
        self._lanes = run.lanes
        names = [lane.name for lane in run.lanes] + (["aggregate"] if len(run.lanes) > 1 else [])
        self._writers = {name: library.SummaryWriter(str(folder / name)) for name in names}
        for epoch in read_epochs(run.run_dir / METRICS_FILE, run.lanes)[: run.resumed_epochs]:
            self.log(epoch)

    def log(self, epoch: EpochMetrics) -> None:
        """Write one epoch; it can be seen at once."""
        for place, lane in enumerate(self._lanes):
            if epoch.is_active(place):
                self._write(lane.name, lane_metrics(epoch, place))
        if "aggregate" in self._writers:
            self._write("aggregate", aggregate_metrics(epoch, self._lanes))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the final and best evaluations, at the last step."""
        steps = round(float(summary.get("env_steps") or 0))
        for place, lane in enumerate(self._lanes):
            for name, value in flat_summary(summary, place).items():
                self._writers[lane.name].add_scalar(name, value, steps)

    def close(self) -> None:
        """Close the files."""
        writers, self._writers = self._writers, {}
        for writer in writers.values():
            writer.close()

    def _write(self, name: str, metrics: Mapping[str, float]) -> None:
        steps = round(metrics["env_steps"])
        for key in _scalars(metrics):
            self._writers[name].add_scalar(key, metrics[key], steps)
        self._writers[name].flush()


def _scalars(metrics: Mapping[str, float]) -> Sequence[str]:
    return [key for key, value in metrics.items() if key != "env_steps" and math.isfinite(value)]
