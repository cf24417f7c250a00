"""Worker processes and what is shared with them: Gymnasium's ``AsyncVectorEnv``, watched."""

import contextlib
import errno
import functools
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from qmix_jax.envs.hosted.team import EnvError

T = TypeVar("T")
STARTING = 120.0
"""Seconds that workers have to start, at least: importing takes long on a busy machine."""
GOODBYE = 5.0
"""Seconds that a worker has to close its environments."""
DYING = 2.0
"""Seconds to wait for the exit status of a worker whose pipe has closed."""
LAST_BYTES = 4096
"""Of what was printed, for the last line."""


class Moment(NamedTuple):
    """What all B environments show; views of shared memory that the next tick overwrites."""

    obs: np.ndarray
    avail: np.ndarray
    state: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    over: np.ndarray
    won: np.ndarray


class Pool:
    """``num_envs`` teams in worker processes.

    Args:
        make_team: makes one; sent to the workers with cloudpickle.
        sizes: number of agents, actions, observation features and state features; whether each agent has a reward.
        num_envs: teams in all.
        workers: processes, at most; the largest number that divides ``num_envs`` is used.
        timeout: seconds after which a worker that has not answered is given up.
        restarts: how often the workers are started again after a failure.
        tell: called with a line for the user at a restart.
    """

    def __init__(
        self,
        make_team: Callable[[], Any],
        sizes: tuple[int, int, int, int, bool],
        num_envs: int,
        workers: int,
        timeout: float,
        restarts: int,
        tell: Callable[[str], None],
    ) -> None:
        self._make_team = make_team
        self._sizes = sizes
        self.num_envs = num_envs
        self.workers = max(count for count in range(1, min(workers, num_envs) + 1) if num_envs % count == 0)
        self._timeout = timeout
        self._restarts = restarts
        self._tell = tell
        self._failures = 0
        self._made = False
        self._vector: Any = None
        self._words: tempfile.TemporaryDirectory[str] | None = None

    def start(self) -> None:
        """Start the workers, unless they run."""
        if self._vector is not None:
            return
        from gymnasium.vector import AsyncVectorEnv, AutoresetMode

        from qmix_jax.envs.hosted.group import Group, moments

        each = self.num_envs // self.workers
        arrays = moments(each, *self._sizes)
        self._words = tempfile.TemporaryDirectory(prefix="qmix_jax-")
        groups = [
            functools.partial(
                Group, self._make_team, range(i * each, i * each + each), self.num_envs, arrays, str(self._file(i))
            )
            for i in range(self.workers)
        ]
        others = set(multiprocessing.active_children())
        late = threading.Timer(max(self._timeout, STARTING), _end_all_but, (others,))
        late.start()
        try:
            with main_stays_home():
                self._vector = AsyncVectorEnv(
                    groups,
                    copy=False,
                    context="spawn",
                    daemon=False,  # Environments may have processes of their own.
                    autoreset_mode=AutoresetMode.DISABLED,
                )
        except (EOFError, OSError) as error:
            _end_all_but(others)
            self._words.cleanup()
            no_space = getattr(error, "errno", None) == errno.ENOSPC
            advice = "; free /dev/shm, which workers share memory in, or use fewer environments" if no_space else ""
            raise EnvError(f"environment workers cannot be started: {type(error).__name__} {error}{advice}") from error
        finally:
            late.cancel()

    def reset(self, seed: int) -> Moment:
        """Start fresh episodes everywhere; ``seed`` determines all that follow until the next reset."""
        self.start()
        options = {"seed": seed, "failures": self._failures}
        # At the first reset environments are made, and their packages imported.
        patience = self._timeout if self._made else max(self._timeout, STARTING)
        seen = self._ask("reset", lambda: self._vector.reset_async(options=options), patience)
        self._made = True
        return seen

    def tick(self, action: np.ndarray) -> Moment:
        """Step all environments with actions ``[B, N]``; the first may be ``START`` or ``IDLE``."""
        by_worker = action.reshape(self.workers, -1, action.shape[-1])
        return self._ask("step", lambda: self._vector.step_async(by_worker), self._timeout)

    def playing(self, play: Callable[[], T]) -> T:
        """``play()``, and once more with new workers after a failure; all its episodes start again, with other seeds.

        Raises :class:`EnvError` after more than ``restarts`` failures in the life of this pool.
        """
        while True:
            try:
                return play()
            except EnvError as failure:
                self.close(patience=1.0)
                self._failures += 1
                if self._failures > self._restarts:
                    raise EnvError(f"{failure} (after {self._restarts} restarts, env.restarts)") from failure
                self._tell(
                    f"{failure}; workers restarted ({self._failures} of env.restarts={self._restarts}), the episodes "
                    "of this iteration begin again"
                )
            except BaseException:
                self.close()
                raise

    def _ask(self, what: str, send: Callable[[], None], patience: float) -> Moment:
        vector = self._vector
        try:
            send()
            answer = getattr(vector, f"{what}_wait")(patience)
        except (multiprocessing.TimeoutError, EOFError, OSError) as error:
            raise EnvError(self._last_words(error, patience)) from error
        failures = answer[-1].get("failure")
        if failures is not None:
            raise EnvError(next(words for words in failures if words))
        seen = answer[0]
        return Moment(**{name: seen[name].reshape(self.num_envs, *seen[name].shape[2:]) for name in Moment._fields})

    def _last_words(self, error: BaseException, patience: float) -> str:
        """Which worker is to blame, and the last line that it printed."""
        processes = self._vector.processes
        # A process that has just died may not be known as such yet.
        until = time.monotonic() + (0.1 if isinstance(error, multiprocessing.TimeoutError) else DYING)
        while not (dead := [i for i, process in enumerate(processes) if process.exitcode is not None]):
            if time.monotonic() > until:
                break
            time.sleep(0.02)
        pipes = self._vector.parent_pipes
        silent = dead or [index for index, pipe in enumerate(pipes) if not _answers(pipe)]
        if not silent:
            return f"environment workers: {type(error).__name__} {error}"
        index = silent[0]
        code = processes[index].exitcode
        silence = unanswered(patience)
        what = silence if code is None else ended(code)
        return f"environment worker {index} {what}{said_last(self._file(index))}"

    def _file(self, index: int) -> Path:
        assert self._words is not None
        return Path(self._words.name) / f"worker_{index}.txt"

    def close(self, patience: float = GOODBYE) -> None:
        """End all workers: politely where they listen within ``patience`` seconds, by force where they do not."""
        if self._vector is None:
            return
        vector, self._vector, self._made = self._vector, None, False
        vector.closed = True
        for pipe in vector.parent_pipes:
            with contextlib.suppress(OSError):
                pipe.send(("close", None))
        until = time.monotonic() + patience
        for process in vector.processes:
            process.join(max(0.0, until - time.monotonic()))
            end(process)
        for pipe in vector.parent_pipes:
            pipe.close()
        vector.error_queue.close()
        if self._words is not None:
            self._words.cleanup()


def end(process: Any) -> None:
    """End a process of ours by force, with all that it has started."""
    if process.pid is None:
        return
    # With the group go the simulators that it has started, and left when it ended or was killed.
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def ended(code: int) -> str:
    """How a process ended, in words."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"


def unanswered(patience: float) -> str:
    """How a process is given up, in words."""
    return f"has not answered for {patience:g} seconds (env.timeout)"


def said_last(file: Path) -> str:
    """The last line of what was printed."""
    if not file.exists():
        return ""
    with file.open("rb") as printed:  # It may be very long.
        printed.seek(max(0, printed.seek(0, os.SEEK_END) - LAST_BYTES))
        lines = printed.read().decode(errors="replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"; it said last: {said[:200]}" if said else ""


def _end_all_but(others: set[Any]) -> None:
    """Kill the processes that this one has started, apart from these: workers that never answered."""
    for process in set(multiprocessing.active_children()) - others:
        process.kill()
        process.join()


def _answers(pipe: Any) -> bool:
    try:
        return pipe.poll(0)
    except OSError:
        return False


@contextlib.contextmanager
def main_stays_home() -> Iterator[None]:
    """Keep workers from importing the program that was started: it takes time, and a script may train on import."""
    main = sys.modules["__main__"]
    kept = {name: getattr(main, name) for name in ("__spec__", "__file__") if hasattr(main, name)}
    try:
        main.__spec__ = None
        if "__file__" in kept:
            del main.__file__
        yield
    finally:
        for name, value in kept.items():
            setattr(main, name, value)
