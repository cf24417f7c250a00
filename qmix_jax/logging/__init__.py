"""Where a run is reported to: the console, files, Weights & Biases and TensorBoard.

Inside the package this name hides the standard library's ``logging`` from nothing: all imports are absolute.
"""

from qmix_jax.logging.base import EpochMetrics, RunInfo, Sink, Sinks
from qmix_jax.logging.console import ConsoleSink
from qmix_jax.logging.files import METRICS_FILE, FileSink, strict_json, write_json
from qmix_jax.logging.tensorboard import TensorBoardSink
from qmix_jax.logging.wandb import WandbSink

__all__ = [
    "METRICS_FILE",
    "ConsoleSink",
    "EpochMetrics",
    "FileSink",
    "RunInfo",
    "Sink",
    "Sinks",
    "TensorBoardSink",
    "WandbSink",
    "strict_json",
    "write_json",
]
