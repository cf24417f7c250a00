"""Rewrites a comparison whenever its runs have progressed."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from qmix_jax.errors import ConfigError
from qmix_jax.results.comparison.run_folders import find

READ = ("metrics.jsonl", "config.json", "summary.json")


def watch(once: Callable[[], bool], paths: Sequence[str], every: float) -> None:
    """Call ``once``, and again after every change, until it says that all runs have ended.

    A run that cannot be read right now is told and tried again, as is a folder without runs yet.
    """
    before: object = None
    ended = False
    while not ended:
        try:
            now = changes(paths)
            if now != before:
                before = now
                ended = once()
        except ConfigError as error:
            print(f"warning: {error}; trying again in {every} s", file=sys.stderr, flush=True)
        if not ended:
            time.sleep(every)


def changes(paths: Sequence[str]) -> list[tuple[str, int, int]]:
    """Size and time of every file that a comparison reads."""
    files = []
    for path in find(paths):
        files += [path / name for name in READ] if path.is_dir() else [path]
    return [(str(file), *_stat(file)) for file in files if file.exists()]


def _stat(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns
