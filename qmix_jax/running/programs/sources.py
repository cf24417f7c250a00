"""The files that what this process does depends on: those of every module that it has loaded."""

import sys
import sysconfig
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
"""The package's own folder."""
INSTALLED = ("stdlib", "platstdlib", "purelib", "platlib")
"""Names of the folders of Python's own modules and of installed packages."""
GRAIN = 2 * 10**9
"""Nanoseconds by which a file system's clock may be behind."""

Stamps = dict[str, list[int]]
"""By file: when it was written and last touched in any way (nanoseconds since the epoch), and its size."""


def stamps(files: list[str] | None = None) -> Stamps | None:
    """The stamps of these files, by default of all loaded modules'; ``None`` if one is not there."""
    found: Stamps = {}
    for file in loaded_files() if files is None else files:
        try:
            status = Path(file).stat()
        except OSError:
            return None
        found[file] = [status.st_mtime_ns, status.st_ctime_ns, status.st_size]
    return found


def loaded_files() -> list[str]:
    """The files that the modules loaded so far are from, but for the program's own, which only calls the others."""
    modules = [module for module in list(sys.modules.values()) if module is not sys.modules["__main__"]]
    return sorted({file for module in modules if (file := getattr(module, "__dict__", {}).get("__file__"))})


def are_settled(found: Stamps, since: float) -> bool:
    """Whether none of them was touched after ``since`` (seconds since the epoch), when the process began to read them.

    One that was may not be what was read.
    """
    return all(max(touched[:2]) < since * 10**9 - GRAIN for touched in found.values())


def are_installed(files: list[str]) -> bool:
    """Whether all are the project's, Python's or of installed packages: a user's own may depend on still others."""
    folders = {PROJECT, *(Path(sysconfig.get_path(name)).resolve() for name in INSTALLED)}
    return all(not folders.isdisjoint(Path(file).resolve().parents) for file in files)
