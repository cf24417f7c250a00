"""Digests of a checkpoint, as somebody would write them who has changed it on purpose."""

import hashlib
from pathlib import Path

from qmix_jax.running.checkpoint import SUMS


def sum_up(checkpoint: Path) -> None:
    """New digests of all files."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != SUMS)
    digests = [(hashlib.sha256(path.read_bytes()).hexdigest(), path.relative_to(checkpoint)) for path in files]
    sums = "".join(f"{digest}  {name.as_posix()}\n" for digest, name in digests).encode()
    if (checkpoint / SUMS).is_symlink():
        (checkpoint / SUMS).unlink()
    if (checkpoint / SUMS).is_dir():
        (checkpoint / SUMS).rmdir()
    (checkpoint / SUMS).write_bytes(sums + f"# {hashlib.sha256(sums).hexdigest()}\n".encode())
