"""Where the seconds of a run go."""

import time

from qmix_jax.results.summary import Seconds


class Clock:
    """Started when made. ``compiled()`` ends the preparations; ``trained()`` marks the end of the latest epoch.

    What is compiled between epochs is not training.
    """

    def __init__(self) -> None:
        self._started = self._compiling = self._compiled = self._trained = time.monotonic()
        self.compile_seconds = 0.0
        self._train_before = self._wall_before = 0.0

    def resume(self, train_seconds: float, wall_seconds: float) -> None:
        """An earlier process has spent these seconds on the same run."""
        self._train_before, self._wall_before = train_seconds, wall_seconds

    def compiling(self) -> None:
        """Compilation starts now."""
        self._compiling = time.monotonic()

    def compiled(self) -> None:
        """Compilation ends now, and training starts or goes on."""
        now = time.monotonic()
        seconds = now - self._compiling
        self.compile_seconds += seconds
        if self._trained == self._compiled:  # before the first epoch
            self._trained = self._compiled = now
            return
        self._compiled += seconds
        self._trained += seconds

    def trained(self) -> float:
        """An epoch ends now; returns the seconds of training so far."""
        self._trained = time.monotonic()
        return self.train_seconds

    @property
    def train_seconds(self) -> float:
        """From the end of compilation to the end of the latest epoch."""
        return self._train_before + self._trained - self._compiled

    @property
    def wall_seconds(self) -> float:
        """Of all processes of the run; of this one since the clock was made."""
        return self._wall_before + time.monotonic() - self._started

    @property
    def seconds(self) -> Seconds:
        """All of them."""
        return Seconds(compile=self.compile_seconds, train=self.train_seconds, wall=self.wall_seconds)
