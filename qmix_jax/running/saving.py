"""When a run saves checkpoints, what it does where they cannot be saved, and which one it resumes from."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from qmix_jax.errors import ConfigError
from qmix_jax.running.checkpoint import RECORD, Checkpoints, Saved
from qmix_jax.running.hosts import Hosts
from qmix_jax.settings.config import CheckpointConfig

LONG = 10.0
"""Seconds from which on the time that a checkpoint takes is told."""


class Saving:
    """The checkpoints of one run.

    Args:
        config: how often, and how many are kept.
        run_dir: the folder of the run.
        hosts: the processes of this run; each saves its own lanes.
        copies: whether there is memory to copy all states, so that training goes on while they are written.
        tell: told once what a checkpoint costs, if that is much.
    """

    def __init__(
        self,
        config: CheckpointConfig,
        run_dir: Path,
        hosts: Hosts,
        copies: bool = True,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        folder = run_dir / "checkpoints"
        own = folder if hosts.count == 1 else folder / f"process_{hosts.index}"
        self._checkpoints = Checkpoints(own, config.keep)
        self._run_dir = run_dir
        self._hosts = hosts
        self._copies = copies
        self._every_minutes = config.every_minutes
        self._tell = tell
        self._saved_epochs = 0
        self.is_on = config.every_minutes is not None
        """Whether this run saves checkpoints at all."""
        self.failed = False
        """Whether the latest checkpoint could not be saved."""

    def newest(self) -> Saved | None:
        """The newest checkpoint that is whole, in all processes; None if there is none.

        Raises :class:`ConfigError` where processes have none of one epoch in common.
        """
        saved = self._checkpoints.latest(warn)
        if saved is not None:
            _check_number(saved, "epochs", int)
        epochs = self._hosts.each(-1 if saved is None else int(saved.record["epochs"]))
        common = min(epochs)
        if saved is not None and common != int(saved.record["epochs"]):
            saved = self._checkpoints.latest(warn, at_most=common)
        if max(epochs) >= 0 and (saved is None or int(saved.record["epochs"]) != common):
            raise ConfigError(
                f"resume={self._run_dir}: processes have no checkpoint of one epoch in common (newest of each: "
                f"{', '.join('none' if epoch < 0 else str(epoch) for epoch in epochs)})"
            )
        self._saved_epochs = max(common, 0)
        return saved

    def save(self, arrays: Callable[[bool], Any], record: Mapping[str, Any], wait: bool) -> None:
        """Save a checkpoint, unless the run saves none or has this one; the run goes on if the disk refuses.

        Args:
            arrays: gives what is to be saved, a copy of it if called with True.
            record: where the run is: ``epochs`` and what else :meth:`newest` is to give back.
            wait: until the checkpoint is on the disk.
        """
        # The one before must be on the disk first: its arrays and these together would be too much memory. Where that
        # failed, this one is tried all the same: there may be room by now, and it may be the last one.
        saved = self._try(self._checkpoints.wait)
        if self.is_on and self._saved_epochs != record["epochs"]:
            saved = self._try(lambda: self._begin(arrays, record, wait))
        if saved:
            self.failed = self.failed and not wait
            self._tell_cost()

    def _begin(self, arrays: Callable[[bool], Any], record: Mapping[str, Any], wait: bool) -> None:
        copy = self._copies and not wait
        self._checkpoints.save(record["epochs"], arrays(copy), record)
        if not copy:
            self._checkpoints.wait()
        self._saved_epochs = record["epochs"]

    def _try(self, step: Callable[[], None]) -> bool:
        """Whether a step ends well; what the disk or the memory refuses is told once."""
        try:
            step()
        except (OSError, MemoryError, jax.errors.JaxRuntimeError) as error:
            if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
                raise
            self._saved_epochs = 0
            if not self.failed:
                why = "there is not enough memory"
                if isinstance(error, OSError):
                    why = error.strerror or str(error).splitlines()[0]
                warn(f"could not save a checkpoint, the run goes on: {why}")
            self.failed = True
            return False
        return True

    def _tell_cost(self) -> None:
        seconds = self._checkpoints.seconds
        if seconds is not None and seconds >= LONG and self._tell is not None:
            often = f"checkpoint.every_minutes={self._every_minutes:g}"
            self._tell(f"a checkpoint takes {seconds:.0f} s here ({often} says how often)")
            self._tell = None


def sections(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of a checkpoint by the first part of their name."""
    parts: dict[str, dict[str, np.ndarray]] = {"states": {}, "rows": {}, "best": {}, "told": {}}
    for name, value in arrays.items():
        section, _, rest = name.partition(".")
        parts.setdefault(section, {})[rest] = value
    return parts


def checked_sections(saved: Saved, num_lanes: int) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of a checkpoint by the first part of their name.

    Raises :class:`ConfigError` for one with valid digests that is not one of a run with so many lanes.
    """
    for key in ("train_seconds", "wall_seconds"):
        _check_number(saved, key, int | float)
    for name, array in saved.arrays.items():
        if not name.startswith("states.") and array.shape != (num_lanes,):
            raise ConfigError(f"{saved.path}: {name} has the shape {list(array.shape)}, not [{num_lanes}]")
    for name in ("told.nonfinite", "told.active", "rows.env_steps", "rows.updates"):
        if name not in saved.arrays:
            raise ConfigError(f"{saved.path}: has no {name}")
    return sections(saved.arrays)


def _check_number(saved: Saved, key: str, kind: Any) -> None:
    value: Any = saved.record.get(key)
    if isinstance(value, bool) or not isinstance(value, kind) or not 0 <= value < 2**31:
        raise ConfigError(f"{saved.path / RECORD}: {key}={value}: must be a number of at least 0")


def warn(text: str) -> None:
    """A line on standard error."""
    print(f"warning: {text}", file=sys.stderr)
