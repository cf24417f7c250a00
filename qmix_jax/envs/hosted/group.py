"""What runs in a worker process: a few teams, stepped one after the other, presented to Gymnasium as one environment.

All that the host needs is in one observation of arrays ``[E, ...]``, so that Gymnasium's ``AsyncVectorEnv`` keeps it in
shared memory. A failure is told in ``info``, in one line. The random play before training is in such a process, too.

JAX is not imported here: it would take time and memory in every worker.
"""

import contextlib
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import cloudpickle
import gymnasium
import numpy as np
from gymnasium import spaces

from qmix_jax.envs.hosted.team import IDLE, START, EnvError, Team
from qmix_jax.errors import USERS_ERRORS, ConfigError, in_a_line

MakeTeam = Callable[[], Team]
GUARDS: list[subprocess.Popen[bytes]] = []
"""Processes that outlive this one. Kept here because Popen warns when one that still runs is let go."""
FILES: list[int] = []
"""Where this process prints to, if it is a worker."""
MARK = "QMIX_JAX_WORKER"
"""Set for all programs that a worker starts, to the file of its words: they are known by it when the worker is gone."""
MOST_WORDS = 1_000_000
"""Bytes of what environments have printed, after which it is forgotten."""


def moments(
    num_teams: int, num_agents: int, num_actions: int, obs_size: int, state_size: int, individual_reward: bool = False
) -> spaces.Dict:
    """The arrays that a group shows of its teams."""

    def numbers(*shape: int) -> spaces.Box:
        return spaces.Box(-np.inf, np.inf, (num_teams, *shape), np.float32)

    def bits(*shape: int) -> spaces.Box:
        return spaces.Box(0, 1, (num_teams, *shape), np.int8)

    return spaces.Dict(
        {
            "obs": numbers(num_agents, obs_size),
            "avail": bits(num_agents, num_actions),
            "state": numbers(state_size),
            "reward": numbers(num_agents) if individual_reward else numbers(),
            "terminated": bits(),
            "over": bits(),
            "won": bits(),
        }
    )


class Group(gymnasium.Env):
    """``E`` teams; they are made at the first reset.

    Args:
        make_team: makes one.
        places: the numbers of these teams among all ``num_envs`` of the pool.
        num_envs: teams of the pool.
        arrays: see :func:`moments`.
        words: the file for what the environments print, where this is a worker process.
    """

    def __init__(self, make_team: MakeTeam, places: range, num_envs: int, arrays: spaces.Dict, words: str) -> None:
        self._make_team = make_team
        self._places = places
        self._num_envs = num_envs
        self.observation_space = arrays
        self._now = {name: np.zeros(cast(tuple, space.shape), space.dtype) for name, space in arrays.items()}
        self._start = np.full(self._now["avail"].shape[:2], START, np.int32)
        self.action_space = spaces.Box(START, np.iinfo(np.int32).max, self._start.shape, np.int32)
        self._teams: list[Team] = []
        self._seed = self._failures = 0
        self._rounds = np.zeros(len(places), np.int64)
        if parent_process() is not None:
            _leave_the_terminal(words)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start the first episode of every team; ``options["seed"]`` is what all their seeds are made of.

        ``options["failures"]`` are those of the pool so far: after one, episodes have other seeds, since the same ones
        may fail again.
        """
        given = options or {}
        self._seed, self._failures = int(given["seed"]), int(given.get("failures", 0))
        self._rounds[:] = 0
        return self._each(self._start)

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step every team, or start its next episode."""
        now, info = self._each(action)
        return now, 0.0, False, False, info

    def close(self) -> None:
        """Close all teams."""
        for team in self._teams:
            with contextlib.suppress(Exception):  # It is going away, whatever it says.
                team.close()

    def _each(self, action: np.ndarray) -> tuple[Mapping[str, np.ndarray], dict[str, Any]]:
        index, played = 0, 0
        _forget_words()
        try:
            for index in range(len(self._places)):
                if len(self._teams) <= index:
                    self._teams.append(self._make_team())
                played = self._teams[index].played
                self._tick(index, action[index])
        except EnvError as error:
            return self._now, {"failure": f"environment {self._places[index]}, {error}"}
        except USERS_ERRORS as error:  # The host tells the user.
            step = f"environment {self._places[index]}, step {played + 1}"
            return self._now, {"failure": f"{step}: {in_a_line(error)}"}
        return self._now, {}

    def _tick(self, index: int, action: np.ndarray) -> None:
        if action[0] == IDLE:
            return
        team, now = self._teams[index], self._now
        if action[0] == START:
            view, reward, terminated, over, won = team.reset(self._episode_seed(index)), 0.0, False, False, False
        else:
            result = team.step(action)
            view, reward, terminated, won = result.view, result.reward, result.terminated, bool(result.won)
            over = terminated or result.truncated
        now["obs"][index], now["avail"][index], now["state"][index] = view
        now["reward"][index], now["terminated"][index], now["over"][index] = reward, terminated, over
        now["won"][index] = won

    def _episode_seed(self, index: int) -> int:
        """A seed for every episode of the pool, whichever worker plays it."""
        number = int(self._rounds[index]) * self._num_envs + self._places[index]
        self._rounds[index] += 1
        return episode_seed(self._seed, number, self._failures)


def episode_seed(seed: int, number: int, failures: int = 0) -> int:
    """The seed of one episode among all that ``seed`` determines, after so many failures."""
    words = [seed, number, failures] if failures else [seed, number]
    return int(np.random.SeedSequence(words).generate_state(1)[0] >> 1)


def send_result(pipe: Connection, ask: bytes, words: str, shows: bool) -> None:
    """Run by :func:`qmix_jax.envs.hosted.trial.in_own_process` in its process: send what ``ask`` returns or raises."""
    _leave_the_terminal(words, shows)
    try:
        found = cloudpickle.loads(ask)(), None, ""
    except ConfigError as error:
        found = str(error), ConfigError, traceback.format_exc()
    except EnvError as error:
        found = str(error), EnvError, traceback.format_exc()
    except USERS_ERRORS as error:  # An environment may raise anything.
        found = in_a_line(error), EnvError, traceback.format_exc()
    pipe.send(found)


def _leave_the_terminal(words: str, shows: bool = False) -> None:
    """Ignore Ctrl-C, and end with the process that started this one, simulators included.

    What is printed goes to the file ``words``, unless it ``shows``.
    """
    os.setpgid(0, 0)
    _guard(words)
    os.environ[MARK] = words  # Not before: the guard is to stay.
    sys.argv[1:] = []  # The trainer's are not for an environment that parses its own.
    if not shows:
        file = os.open(words, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(file, stream)
        FILES.append(file)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # The trainer has taken the memory of the accelerator.
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _forget_words() -> None:
    for file in FILES:
        if os.fstat(file).st_size > MOST_WORDS:
            os.ftruncate(file, 0)


END = """
end() {
    kill -9 -"$1"
    for file in $(grep -lFs "$4=$5" /proc/[0-9]*/environ); do
        file=${file%/environ}; kill -9 "${file#/proc/}"
    done
}
read _
end "$@"
for _ in 1 2 3 4 5; do
    sleep 1; end "$@"; kill -0 "$2" || { rm -rf "$3"; exit; }
done
"""
"""What the guard does: programs in a session of their own, which have left the group, are found by their mark."""


def _guard(words: str) -> None:
    """A process that ends the programs that this one has started, as soon as this one is gone.

    Even if it is killed: then the pipe closes that the guard reads. If the trainer is gone as well, nobody else will
    remove the folder of ``words``, where all environments' words are.
    """
    read, write = os.pipe()
    known = [str(os.getpid()), str(os.getppid()), str(Path(words).parent), MARK, words]
    command = ["/bin/sh", "-c", END, "guard", *known]
    GUARDS.append(
        subprocess.Popen(command, stdin=read, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0)
    )
    os.close(read)
    os.register_at_fork(after_in_child=lambda: os.close(write))
