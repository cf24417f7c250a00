"""The files of a run: metrics as JSON lines, JSON that any reader accepts, and what happens where the disk is full."""

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from qmix_jax.errors import ConfigError, nearest
from qmix_jax.logging.base import EpochMetrics, RunInfo
from qmix_jax.settings.cells import Lane

METRICS_FILE = "metrics.jsonl"
CONFIG_FILE = "config.json"


class Unsaved:
    """What a run could not write: the first failure of each kind of file is told, and the run goes on."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        """Files that are not on the disk now; a later success takes a name out again."""
        self._told: set[str] = set()

    @contextlib.contextmanager
    def trying(self, name: str) -> Iterator[None]:
        """Write ``name`` in the block, or warn that it cannot be written."""
        try:
            yield
        except OSError as error:
            kind = name.split("/")[0]
            if kind not in self._told:
                print(f"warning: could not save {name}, the run goes on: {error.strerror or error}", file=sys.stderr)
            self._told.add(kind)
            self.names.add(name)
        else:
            self.names.discard(name)


class FileSink:
    """Writes ``metrics.jsonl`` into the run's folder: one line per epoch and lane, on the disk after every epoch.

    Args:
        unsaved: told when the disk is full; what could not be written comes with the next epoch.
    """

    def __init__(self, unsaved: Unsaved | None = None) -> None:
        self._unsaved = unsaved or Unsaved()
        self._file: FileIO | None = None
        self._pending = b""
        self._lanes: list[Lane] = []

    def start(self, run: RunInfo) -> None:
        """Create the run's folder and an empty file in it.

        Of a resumed run, the lines up to where it resumes are kept; what came after them will come again.
        """
        run.run_dir.mkdir(parents=True, exist_ok=True)
        self._lanes = run.lanes
        path = run.run_dir / METRICS_FILE
        kept = "".join(f"{json.dumps(row)}\n" for row in read_rows(path) if row["epoch"] <= run.resumed_epochs)
        with whole(path) as partial:
            partial.write_text(kept if run.resumed_epochs else "", encoding="utf-8")
        self._file = path.open("ab", buffering=0)

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
            self._pending += json.dumps(strict_json(row), allow_nan=False).encode() + b"\n"
        self._write()

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Nothing: ``summary.json`` is written by the run itself, see :func:`write_json`."""

    def close(self) -> None:
        """Write what is left, and close the file."""
        if self._file is not None and not self._file.closed:
            self._write()
            self._file.close()

    def _write(self) -> None:
        if self._file is not None:
            with self._unsaved.trying(METRICS_FILE):
                while self._pending:  # a disk that is almost full takes a part
                    self._pending = self._pending[self._file.write(self._pending) :]


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
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Another path, which becomes ``path`` when the block has written it; nothing is left where it cannot."""
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def near_run(folder: Path) -> str:
    """A hint at the run that was meant by a folder that is none: around it, in it, or beside it."""
    around = next((parent for parent in folder.parents if _is_run(parent)), None)
    if around is not None:
        return f"; did you mean {around}?"
    inside = sorted(path for depth in ("*", "*/*") for path in folder.glob(depth) if _is_run(path))
    if inside:
        rest = f" and {len(inside) - 3} more" if len(inside) > 3 else ""
        return f"; runs in it: {', '.join(map(str, inside[:3]))}{rest}"
    beside = [path.name for path in folder.parent.glob("*") if _is_run(path)]
    near = nearest(folder.name, beside, cutoff=0.6)
    return f"; did you mean {folder.parent / near}?" if near else ""


def _is_run(folder: Path) -> bool:
    """Whether there are settings or, without them, policies: one that was imported has only these."""
    return (folder / CONFIG_FILE).is_file() or any((folder / "policies").glob("*_*"))


def check_folder(key: str, folder: Path) -> None:
    """Raise :class:`ConfigError` for a folder, which the argument ``key`` names, that cannot be made or written."""
    try:
        os.fsencode(folder)
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except UnicodeError as error:
        raise ConfigError(f"{key}={folder}: cannot be written in this locale; set LC_ALL=C.UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{key}={folder}: cannot be used: {error.strerror}") from error
    if not there.is_dir():
        raise ConfigError(f"{key}={folder}: cannot be made: {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{key}={folder}: cannot be written to: no permission in {there}")


def check_room(folder: Path, size: int) -> None:
    """Raise ``OSError`` unless a file of ``size`` bytes can be written in ``folder`` now; none is left there.

    For libraries that end a full disk in traces of their threads.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    probe = folder / "room.partial"
    try:
        with probe.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, max(size, 1))
    finally:
        probe.unlink(missing_ok=True)


def sync(folder: Path) -> None:
    """Flush a folder's list of files to the disk, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
