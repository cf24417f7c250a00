"""Standard streams that cannot end a run: closed ones, full disks, readers that stop, terminals that go away.

Text that the stream's encoding has no character for is written as escapes. What can no longer be shown is dropped.
"""

import io
import logging
import os
import sys
import time
from typing import Any

STARTED = time.time()
"""When this process began to read the project's sources (a command imports this module first), in seconds since the
epoch."""


class Forgiving(io.TextIOBase):
    """A text stream that drops what it cannot write; everything else is the stream's own.

    Args:
        stream: writes to a file descriptor, or is anything with ``write``.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.failed = False
        """Whether something could not be written."""

    def write(self, text: str) -> int:
        """Write, unless that has failed before."""
        if not self.failed:
            try:
                self._stream.write(text)
            except (OSError, ValueError):  # ValueError: it is closed
                self._give_up()
        return len(text)

    def flush(self) -> None:
        """Flush, unless that has failed before."""
        if not self.failed:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._give_up()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        try:
            return not self.failed and self._stream.isatty()
        except ValueError:
            return False

    def fileno(self) -> int:
        """The stream's own."""
        return self._stream.fileno()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride] - Rich asks for it
        """The stream's own."""
        return self._stream.encoding or "utf-8"

    def _give_up(self) -> None:
        self.failed = True
        try:  # What is in the buffer still would fail again at the interpreter's end, and change the exit status.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
        except (OSError, ValueError, AttributeError):
            return


def secure() -> None:
    """Make the standard streams of this process forgiving, and open those that are closed."""
    logging.raiseExceptions = False  # no traces of libraries whose log files meet a full disk
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # a home that cannot be written changes no figure
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            _open(number)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace", line_buffering=stream.line_buffering)
            setattr(sys, name, Forgiving(stream))


def _open(number: int) -> None:
    """Nothing else may be given the number of a standard stream: libraries write there."""
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
