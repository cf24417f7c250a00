"""Traced programs in files, so that a second start need not trace again what it finds compiled in JAX's cache.

JAX's cache is asked with a traced program; to trace takes a third of a start. A program that no longer matches its
sources would train wrongly without a word, so one is used only where nothing that it may depend on has changed:

- the settings of the run, the sizes chosen for this machine, the shapes of what the program is given, the devices,
  JAX's settings and version, Python's: they name the file;
- the files of all modules that were loaded when it was traced: their times and sizes are in the file, and no module is
  loaded now that is not among them;
- whatever cannot be known by these leads to no use at all: a run from Python, whose modules may have been changed
  after they were read; components or environments of the user's own; settings that name a file; sources that were
  changed after the process began to read them; several processes.

What tracing tells of a run's memory is kept in the same way.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax import export

from qmix_jax.running.programs import sources
from qmix_jax.settings.config import Config
from qmix_jax.streams import STARTED

COMMAND = "qmix_jax.train"
"""The program that keeps what it traces."""
LIBRARIES = ("JAX_", "XLA_", "FLAX_", "CHEX_", "OPTAX_")
"""How the names of the environment's variables begin that decide about a program."""
WITHOUT = ("run_dir", "resume", "seed", "logger", "checkpoint", "on_nonfinite")
"""Settings that are not in a program."""


class KeptPrograms(NamedTuple):
    """The programs of a run's settings."""

    folder: Path
    settings: str
    """What decides about a program, of the settings."""
    since: float
    """When the process began to read its sources, in seconds since the epoch."""

    def init(self, function: Any, keys: Any, state: Any, sizes: object, **options: Any) -> Any:
        """``function`` of keys that makes a ``state``, read from its file or traced and kept.

        Args:
            function: a ``jax.jit``.
            keys: shapes of what it will be called with.
            state: shapes of what it gives.
            sizes: what else decides about the program.
            options: of ``jax.jit``.
        """
        found = self._program(function, (keys,), sizes)
        if found is None:
            return function
        structure = jax.tree.structure(state)
        return jax.jit(lambda keys: jax.tree.unflatten(structure, found[0].call(keys)), **options)

    def epoch(self, function: Any, arguments: tuple, sizes: object, **options: Any) -> Any:
        """``function``, ``(state, ...) -> (state, metrics)``, in the same way."""
        found = self._program(function, arguments, sizes)
        if found is None:
            return function
        program, names = found

        def call(state: Any, *others: Any) -> Any:
            leaves, structure = jax.tree.flatten(state)
            results = program.call(*leaves, *jax.tree.leaves(others))
            count = len(leaves)
            metrics = dict(zip(names[count:], results[count:], strict=True))
            return jax.tree.unflatten(structure, results[:count]), metrics

        return jax.jit(call, **options)

    def _program(self, function: Any, arguments: tuple, sizes: object) -> tuple[export.Exported, list[str]] | None:
        """A program of the leaves of the arguments, and its results' names; ``None`` if it has no form for a file."""
        path = self.folder / f"{self._key(arguments, sizes)}.program"
        kept = _read(path)
        if kept is not None:
            return export.deserialize(bytearray(kept[0])), kept[1]
        try:
            program, names = _traced(function, arguments)
        except (ValueError, NotImplementedError):
            return None
        self._write(path, bytes(program.serialize()), names)
        return program, names

    def numbers(self, kind: type[Any], function: Callable[[Any], Any], algorithm: Any) -> Any:
        """What ``function`` tells of an algorithm, whole numbers in a named tuple ``kind``; computed once and kept."""
        path = self.folder / f"{self._key((), (function.__qualname__, algorithm.sizes))}.numbers"
        kept = _read(path)
        if kept is not None:
            return kind(**json.loads(kept[0]))
        found = function(algorithm)
        self._write(path, json.dumps(found._asdict()).encode(), [])
        return found

    def _key(self, arguments: tuple, sizes: object) -> str:
        given = [(str(path), x.shape, str(x.dtype), str(x.sharding)) for path, x in _with_paths(arguments)]
        device = jax.local_devices()[0]
        chosen = {name: value for name, value in os.environ.items() if name.startswith(LIBRARIES)}
        about = [
            self.settings,
            sizes,
            given,
            (device.platform, device.device_kind, jax.local_device_count()),
            sorted(jax.config.values.items()),
            sorted(chosen.items()),
            (sys.version, sys.prefix, jax.__version__),
        ]
        return hashlib.sha256(repr(about).encode()).hexdigest()

    def _write(self, path: Path, content: bytes, names: list[str]) -> None:
        stamps = sources.stamps()
        if stamps is None or not sources.are_settled(stamps, self.since) or not sources.are_installed(list(stamps)):
            return
        about = {"results": names, "sources": stamps, "sha256": hashlib.sha256(content).hexdigest()}
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):  # only the next start's seconds are lost
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                beside.write_bytes(json.dumps(about).encode() + b"\n" + content)
                beside.replace(path)
            finally:
                beside.unlink(missing_ok=True)


def kept_programs(config: Config) -> KeptPrograms | None:
    """Those of a run, or ``None`` where none are kept."""
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    return programs_of(config) if main is not None and main.name == COMMAND else None


def programs_of(config: Config) -> KeptPrograms | None:
    """Those of these settings, for a process in which no module was changed after it was read from its file."""
    folder = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    enabled = jax.config.jax_enable_compilation_cache  # pyright: ignore[reportAttributeAccessIssue]
    settings = {name: value for name, value in dataclasses.asdict(config).items() if name not in WITHOUT}
    is_local = folder and "://" not in folder
    if not (is_local and enabled) or not all(map(_is_known, _texts(settings))):
        return None
    return KeptPrograms(Path(folder) / "traced", repr(settings), STARTED)


def _read(path: Path) -> tuple[bytes, list[str]] | None:
    """What was kept there and its names, if the file is whole and its sources have not changed."""
    try:
        header, _, content = path.read_bytes().partition(b"\n")
        about = json.loads(header)
        names, known, digest = about["results"], about["sources"], about["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if digest != hashlib.sha256(content).hexdigest():
        return None
    if not known.keys() >= set(sources.loaded_files()) or sources.stamps(list(known)) != known:
        return None
    return content, names


def _traced(function: Any, arguments: tuple) -> tuple[export.Exported, list[str]]:
    leaves, structure = jax.tree.flatten(arguments)
    names: list[str] = []

    def of_leaves(*leaves: Any) -> list[Any]:
        results = _with_paths(function.__wrapped__(*jax.tree.unflatten(structure, leaves)))
        names[:] = [str(getattr(path[-1], "key", "")) for path, _ in results]
        return [value for _, value in results]

    return export.export(jax.jit(of_leaves))(*leaves), names


def _with_paths(tree: Any) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_flatten_with_path(tree)[0]


def _is_known(text: str) -> bool:
    """Whether a setting's text names no file, and no code but the project's."""
    theirs = (":" in text or "." in text) and not text.startswith("qmix_jax.")
    return not (theirs or os.path.exists(text))  # noqa: PTH110 - any text


def _texts(value: Any) -> Iterator[str]:
    """All texts in settings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
