"""Metrics as JSON lines, and JSON that any reader accepts."""

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from qmix_jax.errors import ConfigError
from qmix_jax.logging.base import EpochMetrics, RunInfo
from qmix_jax.settings.cells import Lane

METRICS_FILE = "metrics.jsonl"


class FileSink:
    """Writes ``metrics.jsonl`` into the run's folder: one line per epoch and lane, on the disk after every epoch."""

    def __init__(self) -> None:
        self._file: TextIO | None = None
        self._lanes: list[Lane] = []

    def start(self, run: RunInfo) -> None:
        """Create the run's folder and an empty file in it.

        Of a run that goes on, the lines up to where it does are kept; what came after them will come again.
        """
        run.run_dir.mkdir(parents=True, exist_ok=True)
        self._lanes = run.lanes
        path = run.run_dir / METRICS_FILE
        kept = "".join(f"{json.dumps(row)}\n" for row in read_rows(path) if row["epoch"] <= run.resumed_epochs)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(kept if run.resumed_epochs else "", encoding="utf-8")
        partial.replace(path)
        self._file = path.open("a", encoding="utf-8")

    def log(self, epoch: EpochMetrics) -> None:
        """Write one line for each lane that is still trained."""
        if self._file is None:
            raise RuntimeError("log() before start()")
        for index, lane in enumerate(self._lanes):
            if not epoch.is_active(index):
                continue
            row = {
                "epoch": epoch.epoch,
                **({} if lane.cell is None else {"cell": lane.cell}),
                "seed": lane.seed,
                "env_steps": epoch.env_steps[index],
                "updates": epoch.updates,
                "seconds": round(epoch.seconds, 3),
            }
            row |= {name: values[index] for name, values in epoch.rows.items() if name not in row}
            self._file.write(json.dumps(strict_json(row), allow_nan=False) + "\n")
        self._file.flush()

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Nothing: ``summary.json`` is written by the run itself, see :func:`write_json`."""

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl`` in their order, none where there is no file; a last line cut short is left out.

    Raises :class:`ConfigError` for what cannot be read, and for a line that is not one of ours.
    """
    if not path.exists():
        return []
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    rows = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            row = json.loads(line)
            rows.append({"epoch": row["epoch"], "seed": row["seed"], **row})
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{path}: line {number} is damaged; delete it to go on without it") from error
    return rows


def read_epochs(path: Path, lanes: Sequence[Lane]) -> list[EpochMetrics]:
    """``metrics.jsonl`` as it was logged, one item per epoch."""
    epochs: dict[int, dict[Lane, dict[str, Any]]] = {}
    known: dict[Lane, dict[str, Any]] = {}
    for row in read_rows(path):
        epochs.setdefault(row["epoch"], {})[Lane(row.get("cell"), row["seed"])] = row
    found = []
    for epoch, rows in epochs.items():
        known |= rows  # a lane that has stopped keeps what it had
        active = None if len(rows) == len(lanes) else np.array([lane in rows for lane in lanes])
        found.append(_epoch_metrics(epoch, next(iter(rows.values())), [known[lane] for lane in lanes], active))
    return found


def _epoch_metrics(
    epoch: int, newest: Mapping[str, Any], rows: list[dict[str, Any]], active: np.ndarray | None
) -> EpochMetrics:
    columns = {
        name: np.array([math.nan if row[name] is None else row[name] for row in rows])
        for name in newest
        if name not in ("epoch", "cell", "seed", "seconds")
    }
    return EpochMetrics(epoch, columns["env_steps"], newest["updates"], newest["seconds"], columns, active)


def strict_json(value: Any) -> Any:
    """``value`` in the types of JSON: arrays become lists, NaN and infinities become null, paths become strings."""
    match value:
        case None | bool() | str():
            return value
        case np.ndarray():
            return strict_json(value[()]) if value.ndim == 0 else [strict_json(item) for item in value]
        case np.generic() if value.dtype == np.float32:
            # Through its shortest decimal form: 0.1, not the 0.10000000149011612 that the nearest double prints as.
            return strict_json(float(str(value)))
        case np.generic():
            return strict_json(value.item())
        case int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): strict_json(item) for key, item in value.items()}
        case Path():
            return str(value)
        case list() | tuple():
            return [strict_json(item) for item in value]
        case _:
            raise TypeError(f"{type(value).__name__} has no form in JSON")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented strict JSON (:func:`strict_json`), all of it or nothing."""
    text = json.dumps(strict_json(value), indent=2, allow_nan=False) + "\n"
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
