"""Ctrl-C and SIGTERM: the first lets the epoch end, the second ends the process at once.

SIGHUP is ignored: a run goes on and saves when its terminal goes away.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """A context in which the first signal is only remembered.

    Python runs signal handlers between its own instructions, and so not while the main thread waits for the device. A
    thread that is woken by the operating system's handler itself answers at once instead.

    Args:
        tell: is called from that thread with a message for the user.
        leave: is called just before the process is ended at once; gives the terminal back.
        end: ends the process; only tests give another than ``os._exit``.
        keep_process: raise :class:`KeyboardInterrupt` in the main thread instead of ending the process, which is not
            ours: a notebook's, or that of a program which trains as one of the things it does.
    """

    def __init__(
        self,
        tell: Callable[[str], None],
        leave: Callable[[], None],
        end: Callable[[int], None] = os._exit,
        *,
        keep_process: bool = False,
    ) -> None:
        self.signal: int | None = None
        """The first signal that came."""
        self.nothing_to_save = True
        """While set, the first signal ends the process at once, as a second one does."""
        self._tell = tell
        self._leave = leave
        self._end = end
        self._keep_process = keep_process
        self._count = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self  # Only the main thread may set handlers; whoever runs us in another one has their own.
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        threading.Thread(target=self._listen, args=(self._reader,), daemon=True, name="signals").start()
        self._wakeup_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        if hasattr(signal, "SIGHUP"):  # Windows has none
            self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._before:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType] - what it was before
        signal.set_wakeup_fd(self._wakeup_before)
        self._writer.close()  # ends the thread

    def _listen(self, reader: socket.socket) -> None:
        with reader:
            while received := reader.recv(1):
                number = received[0]
                if number not in SIGNALS:
                    continue
                if self.signal is not None or self.nothing_to_save:
                    self._leave()
                    if self._keep_process:
                        continue
                    self._end(128 + number)
                    return
                self.signal = number
                self._tell("stopping after this epoch, with a checkpoint; once more to stop at once")

    def _handle(self, number: int, frame: object) -> None:
        """The listening thread has been woken already; here is what only the main thread can do."""
        self._count += 1
        if self._keep_process and (self._count > 1 or self.nothing_to_save):
            raise KeyboardInterrupt
