"""Checkpoints: the whole state of a run, written in the background, all of it or nothing, checked before it is read.

A run's ``checkpoints/<epoch>/`` holds ``arrays/`` (orbax: everything that changes, of every seed), ``large/`` (large
arrays, written and read in pieces, so that a replay of gigabytes needs no second one in memory), ``run.json`` (where
the run is) and ``SHA256SUMS`` (of all other files, in the format of ``sha256sum``, closed by its own digest). A folder
gets its name only when all of it is on the disk. Nothing in it is executed when it is read.
"""

import errno
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load, save

from qmix_jax.errors import ConfigError
from qmix_jax.logging.files import check_room, sync, write_json
from qmix_jax.running.snapshot import LARGE, Leaf, pieces, size

FORMAT = "qmix_jax-checkpoint-1"
SUMS = "SHA256SUMS"
ARRAYS = "arrays"
OF_ONE_PROCESS = "arrays.safetensors"
"""Instead of ``ARRAYS``, where orbax cannot write: by several processes, or in a folder with an odd name."""
LARGE_ARRAYS = "large"
"""Raw numbers of the arrays that ``run.json`` lists under this name: ``0000.bin`` is the first of them."""
RECORD = "run.json"
PARTIAL = ".partial"


class DamagedCheckpointError(Exception):
    """A checkpoint that is not what was written; the message says which file and why."""


class Saved(NamedTuple):
    """A checkpoint as it is on disk."""

    path: Path
    arrays: dict[str, np.ndarray]
    """Flat, by the names of :func:`flatten`."""
    record: Mapping[str, Any]


class Checkpoints:
    """The newest ``keep`` checkpoints in ``folder``. Writing happens in one background thread.

    Args:
        folder: made with the first checkpoint.
        keep: older ones are deleted, once a newer one is complete.
        write: writes one checkpoint; only tests give another than :func:`write_checkpoint`.
    """

    def __init__(self, folder: Path, keep: int, write: Callable[[Path, Any, Mapping[str, Any]], None] | None = None):
        self.folder = folder
        self._keep = keep
        self._write = write or write_checkpoint
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self.seconds: float | None = None  # that it took to write the latest one

    def save(self, epoch: int, arrays: Any, record: Mapping[str, Any]) -> None:
        """Start to write a checkpoint of ``arrays``, a pytree on the host that nobody changes any more.

        Waits first for the one before. Raises ``OSError`` if that could not be written.
        """
        self.wait()
        self._pending = self._thread.submit(self._save, epoch, arrays, record)

    def wait(self) -> None:
        """Wait until what was to be saved is on the disk. Raises ``OSError`` if it could not be written."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _save(self, epoch: int, arrays: Any, record: Mapping[str, Any]) -> None:
        started = time.monotonic()
        path = self.folder / f"{epoch:08d}"
        partial = path.with_name(path.name + PARTIAL)
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in self.folder.glob(f"*{PARTIAL}"):  # what a killed process, or a full disk, has left
            shutil.rmtree(old)
        try:
            self._write(partial, arrays, record)
            if path.exists():
                shutil.rmtree(path)
            partial.replace(path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        sync(self.folder)
        self.seconds = time.monotonic() - started
        paths = self._paths()
        # Newer ones are damaged, or the run was resumed from one before them; they must not take this one's place.
        later = [other for other in paths if int(other.name) > epoch]
        for old in [*later, *paths[len(later) + self._keep :]]:
            shutil.rmtree(old)

    def latest(self, warn: Callable[[str], None], at_most: int | None = None) -> Saved | None:
        """The newest checkpoint that is whole, None if there is none; each damaged one is named to ``warn``.

        With ``at_most`` the newest up to that epoch. Raises :class:`ConfigError` where there are some and none is
        whole: to start from the beginning would overwrite what was trained.
        """
        reason = None
        for path in self._paths():
            if at_most is not None and int(path.name) > at_most:
                continue
            try:
                return read_checkpoint(path)
            except DamagedCheckpointError as error:
                reason = reason or str(error)
                warn(f"checkpoint {path} is damaged and not used: {error}")
        if reason is not None:
            raise ConfigError(
                f"{self.folder}: none of the checkpoints can be read ({reason}), and nothing has been changed; to "
                "start from the beginning, give another run_dir"
            )
        return None

    def _paths(self) -> list[Path]:
        """Complete checkpoints, the newest first."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted((path for path in found if path.name.isdigit()), key=lambda path: int(path.name), reverse=True)


def write_checkpoint(path: Path, arrays: Any, record: Mapping[str, Any]) -> None:
    """Write a checkpoint to the new folder ``path``, with everything flushed to the disk."""
    path.mkdir()
    flat = flatten(arrays)
    large = {name: leaf for name, leaf in flat.items() if not _is_small(leaf)}
    described = [{"name": name, "dtype": leaf.dtype.name, "shape": list(leaf.shape)} for name, leaf in large.items()]
    _write_large(path / LARGE_ARRAYS, large)
    _write_arrays(path, {name: leaf for name, leaf in flat.items() if name not in large})
    write_json(path / RECORD, {"format": FORMAT, LARGE_ARRAYS: described, **record})
    lines = []
    for file in _files(path):
        with file.open("rb") as stream:
            lines.append(f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {file.relative_to(path).as_posix()}\n")
            os.fsync(stream.fileno())
    sums = "".join(lines).encode()
    with (path / SUMS).open("wb") as stream:
        stream.write(sums + f"# {_digest(sums)}\n".encode())
        stream.flush()
        os.fsync(stream.fileno())
    sync(path)


def read_checkpoint(path: Path) -> Saved:
    """Read the checkpoint in the folder ``path``.

    Raises :class:`DamagedCheckpointError` unless every file is exactly what was written.
    """
    verify(path)
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedCheckpointError(f"{RECORD}: {error}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise DamagedCheckpointError(f"{RECORD}: not a checkpoint of format {FORMAT}")
    try:
        arrays = _read_arrays(path) | _read_large(path / LARGE_ARRAYS, record.get(LARGE_ARRAYS, []))
    except Exception as error:  # The sums hold, so this is a file that somebody made, or another version of orbax.
        raise DamagedCheckpointError(f"{ARRAYS}: {' '.join(str(error).split())[:200]}") from error
    return Saved(path, arrays, record)


def _is_small(leaf: Leaf) -> bool:
    """Small arrays may all be in memory at once; orbax takes none without numbers, safetensors only numpy's types."""
    return isinstance(leaf, np.ndarray) and leaf.dtype.isbuiltin == 1 and 0 < size(leaf) < LARGE


def _orbax_can(path: Path) -> bool:
    """Orbax writes the first process's arrays only, takes brackets for a pattern, needs UTF-8. Bytes take any path."""
    text = str(path.resolve())
    return jax.process_count() == 1 and not set("[]\\") & set(text) and text.encode("utf-8", "replace").decode() == text


def _write_large(folder: Path, arrays: Mapping[str, Leaf]) -> None:
    if arrays:
        folder.mkdir()
    for number, leaf in enumerate(arrays.values()):
        with (folder / f"{number:04d}.bin").open("wb") as stream:
            for piece in pieces(leaf):
                content = np.ascontiguousarray(piece).reshape(-1).view(np.uint8)
                if content.any():
                    stream.write(content.data)
                else:  # A hole: most of a young replay is zeros, which take neither time nor disk like this.
                    stream.seek(content.size, os.SEEK_CUR)
            stream.truncate()


def _read_large(folder: Path, described: Any) -> dict[str, np.ndarray]:
    """Views of the files: what is read of them takes memory when it is read."""
    found = {}
    for number, array in enumerate(described):
        file, shape, dtype = folder / f"{number:04d}.bin", tuple(array["shape"]), jnp.dtype(array["dtype"])
        if file.stat().st_size != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{LARGE_ARRAYS}/{file.name} is not of the size that {RECORD} says")
        found[array["name"]] = np.empty(shape, dtype) if 0 in shape else np.memmap(file, dtype, "r", shape=shape)
    return found


def _write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    if not arrays:
        return
    if not _orbax_can(path):
        (path / OF_ONE_PROCESS).write_bytes(save({name: np.ascontiguousarray(x) for name, x in arrays.items()}))
        return
    check_room(path, 2 * sum(array.nbytes for array in arrays.values()))  # orbax writes every array twice
    import orbax.checkpoint as ocp  # Takes a second: only for runs that save.

    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            checkpointer.save((path / ARRAYS).resolve(), arrays)
    except Exception as error:  # orbax and tensorstore have many; what they say of a full disk is no OSError
        raise OSError(errno.EIO, " ".join(str(error).split())[:300], str(path)) from error


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if (path / OF_ONE_PROCESS).is_file():
        return load((path / OF_ONE_PROCESS).read_bytes())
    if not (path / ARRAYS).is_dir():
        return {}
    # Resolved: it refuses a path with .. in it.
    import tensorstore  # What orbax reads with; its event loop closes under the other reads where one array is damaged.

    base = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{(path / ARRAYS).resolve()}/"}}
    keys = tensorstore.KvStore.open(base).result().list().result()
    names = [key.decode().removesuffix("/.zarray") for key in keys if key.endswith(b"/.zarray")]
    specs = {name: {"driver": "zarr", "kvstore": {**base, "path": f"{name}/"}} for name in names}
    reads = {name: tensorstore.open(spec, open=True, read=True).result().read() for name, spec in specs.items()}
    return {name: read.result() for name, read in reads.items()}


def verify(path: Path) -> None:
    """Raise :class:`DamagedCheckpointError` unless the folder holds exactly the files of its ``SHA256SUMS``."""
    try:
        sums, _, own = (path / SUMS).read_bytes().rpartition(b"# ")
        if own != f"{_digest(sums)}\n".encode():
            raise DamagedCheckpointError(f"{SUMS}: does not match its own digest")
        expected = {line[66:]: line[:64] for line in sums.decode("utf-8").splitlines()}
        found = {file.relative_to(path).as_posix(): file for file in _files(path) if file.name != SUMS}
        for name in sorted(expected.keys() ^ found.keys()):
            raise DamagedCheckpointError(f"{name}: {'missing' if name in expected else 'does not belong there'}")
        for name, file in found.items():
            if file.is_symlink():
                raise DamagedCheckpointError(f"{name}: is a link")
            with file.open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != expected[name]:
                    raise DamagedCheckpointError(f"{name}: does not match its digest")
    except (OSError, ValueError) as error:
        raise DamagedCheckpointError(f"cannot be read: {error}") from error


def flatten(tree: Any) -> dict[str, Any]:
    """Leaves by name (``states.learner.updates``); typed PRNG keys must have become their data before."""
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def unflatten(like: Any, saved: Saved) -> Any:
    """The arrays of a checkpoint in the structure of ``like``, whose leaves have shapes and dtypes.

    Raises :class:`ConfigError` naming the arrays that are missing, not needed, or of another shape or dtype.
    """
    expected = {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(like)}
    wrong = sorted(expected.keys() ^ saved.arrays.keys())
    for name in expected.keys() & saved.arrays.keys():
        if (expected[name].shape, expected[name].dtype) != (saved.arrays[name].shape, saved.arrays[name].dtype):
            wrong.append(name)
    if wrong:
        raise ConfigError(f"resume={saved.path}: does not fit these settings in {', '.join(wrong[:5])}")
    return jax.tree_util.tree_map_with_path(lambda path, _: saved.arrays[_name(path)], like)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _files(path: Path) -> list[Path]:
    """Everything below a folder that is not a folder itself; links are not followed."""
    return sorted(file for file in path.rglob("*") if file.is_symlink() or not file.is_dir())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
