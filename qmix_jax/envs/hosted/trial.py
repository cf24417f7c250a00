"""Random play before training, in a process of its own: faults show before anything is compiled.

Workers import this file, so JAX is not imported here.
"""

import contextlib
import multiprocessing
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from qmix_jax.envs.hosted.group import MARK
from qmix_jax.envs.hosted.pool import DYING, STARTING, end, ended, main_stays_home, said_last, unanswered
from qmix_jax.envs.hosted.team import Door, EnvError, Spec, Team
from qmix_jax.errors import ConfigError

T = TypeVar("T")
TRIAL_STEPS = 200
"""Random steps, at most, that are played before training."""
LEAVING = 2.0
"""Seconds that a process which has answered has to end."""
HERE = "in random play before training"
"""How errors of such a process tell where they happened."""
BEAT = "beat"
"""A file beside the printed words, touched at every step that is played."""


class Tried(NamedTuple):
    """What random play before training has shown of an environment."""

    spec: Spec
    episode_limit: int
    tells_who_won: bool


def try_out(door: type[Door], arguments: tuple[Any, ...], reward: str, limit: int | None, told: str) -> Tried:
    """Make ``door(*arguments)`` and play random actions to the end of an episode, or for a while.

    Raises :class:`ConfigError` for a missing ``limit``, and what the environment raises.
    """
    with closing(door(*arguments)) as first:
        own = first.spec.episode_limit
        longest = limit or own
        if longest is None:
            raise ConfigError(
                f"env.episode_limit: missing; {told} does not tell its time limit, so say how many transitions an "
                "episode may have"
            )
        team = Team(first, reward, min(longest, own or longest))
        tells, over = play_randomly(team, 0, min(TRIAL_STEPS, team.episode_limit))
        if over:
            team.reset(1)
        return Tried(team.spec, team.episode_limit, tells)


def rehearse(make: Callable[[], Team], episodes: int, seed: int) -> None:
    """Play whole episodes of random actions."""
    team = make()
    with closing(team.door):
        for episode in range(episodes):
            play_randomly(team, seed + episode, team.episode_limit)


def play_randomly(team: Team, seed: int, steps: int) -> tuple[bool, bool]:
    """Play random actions; returns whether the environment tells who won, and whether the episode has ended."""
    random = np.random.default_rng(seed)
    view, tells = team.reset(seed), False
    for _ in range(steps):
        if MARK in os.environ:  # in a process of its own
            Path(os.environ[MARK]).with_name(BEAT).touch()
        result = team.step(np.array([random.choice(np.flatnonzero(avail)) for avail in view.avail]))
        view = result.view
        tells |= result.won is not None
        if result.terminated or result.truncated:
            return tells, True
    return tells, False


def make_team(door: Any, arguments: tuple[Any, ...], reward: str, tried: Tried, drawn: bool = False) -> Team:
    """A team of ``door(*arguments)``; with ``drawn`` one that draws, where it can.

    Raises :class:`EnvError` where it has other agents or sizes than the one that was tried.
    """
    if drawn and door.draws_when_asked:
        *others, settings = arguments
        with contextlib.suppress(TypeError), warnings.catch_warnings():
            # A TypeError: it has no such setting, and may draw without. A warning: LBF draws more than it declares.
            warnings.simplefilter("ignore")
            return Team(door(*others, {"render_mode": "rgb_array", **settings}), reward, tried.episode_limit)
    team = Team(door(*arguments), reward, tried.episode_limit)
    for name in ("agents", "num_actions", "obs_sizes", "state_size"):
        now, then = getattr(team.spec, name), getattr(tried.spec, name)
        if now != then:
            raise EnvError(f"made once more, it has {name}={now}, not {then}; make it the same each time")
    return team


@contextlib.contextmanager
def closing(door: Door) -> Iterator[Door]:
    """Close a door at the end."""
    try:
        yield door
    finally:
        with contextlib.suppress(Exception):  # What it says when it goes would hide what went wrong before.
            door.close()


def in_own_process(ask: Callable[[], T], timeout: float, shows: bool = False) -> T:
    """What ``ask`` returns in a process of its own, which ends with it, and with it the programs that it has started.

    What it prints is lost, unless it ``shows``. Between two steps that it plays may pass ``timeout`` seconds.

    Raises :class:`ConfigError` where ``ask`` does, and :class:`EnvError` for all else that it raises, or if the process
    ends or falls silent before it answers.
    """
    import cloudpickle

    from qmix_jax.envs.hosted.group import send_result

    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="qmix_jax-", ignore_cleanup_errors=True) as folder:
        words = Path(folder) / "words.txt"
        pipe, theirs = spawn.Pipe(duplex=False)
        process = spawn.Process(
            target=send_result, args=(theirs, cloudpickle.dumps(ask), str(words), shows), name="trial"
        )
        try:
            with main_stays_home():
                process.start()
            theirs.close()
            _wait(pipe, process, words, timeout)
            if not pipe.poll(0):
                raise EOFError
            found, kind, trace = pipe.recv()
            process.join(LEAVING)
        except EOFError as error:
            process.join(DYING)
            code = process.exitcode
            how = "does not answer" if code is None else ended(code)
            raise EnvError(f"its process {how} {HERE}{said_last(words)}") from error
        finally:
            end(process)
            pipe.close()
    if kind is not None:
        error = kind(found)
        error.add_note(trace)
        raise error
    return found


def _wait(pipe: Any, process: Any, words: Path, timeout: float) -> None:
    """Until there is an answer, or the process has ended. Raises :class:`EnvError` when it has been silent too long."""
    heard, since, patience = 0, time.monotonic(), max(timeout, STARTING)
    # Not only the pipe: what the environment has forked keeps it open.
    while not pipe.poll(0.1) and process.is_alive():
        with contextlib.suppress(FileNotFoundError):  # No step yet.
            if (beat := words.with_name(BEAT).stat().st_mtime_ns) != heard:
                heard, since, patience = beat, time.monotonic(), timeout
        if time.monotonic() - since > patience:
            raise EnvError(f"its process {unanswered(patience)} {HERE}{said_last(words)}")
