"""From a door to an :class:`Env`: one environment is played here first, so that faults show before compiling."""

import atexit
import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

from qmix_jax.envs.adapter import TIME_LIMITS
from qmix_jax.envs.base import Env
from qmix_jax.envs.hosted.imports import find_module
from qmix_jax.envs.hosted.pool import Pool
from qmix_jax.envs.hosted.team import TEAM_REWARDS, Door, EnvError, Team
from qmix_jax.envs.hosted.trial import in_own_process, make_team, rehearse, try_out
from qmix_jax.envs.render import draw_frames
from qmix_jax.envs.settings import check_at_least, check_choice, say
from qmix_jax.errors import ConfigError

SLOW = 20.0
"""Seconds after which the user is told that this takes long."""


class Options(NamedTuple):
    """The settings that all three doors have."""

    reward: str
    time_limit: str
    episode_limit: int | None
    workers: int | None
    timeout: float
    restarts: int


class Hosted:
    """How an environment's worker processes are made.

    Args:
        make_team: makes one team.
        sizes: number of agents, actions, observation features and state features; whether each agent has a reward.
        options: of the workers.
    """

    def __init__(
        self, make_team: Callable[..., Team], sizes: tuple[int, int, int, int, bool], options: Options
    ) -> None:
        self._make_team = make_team
        self._sizes = sizes
        self._pool: Pool | None = None
        self.options = options
        atexit.register(self.close)

    def make_drawn_team(self) -> Team:
        """A team in this process whose door draws."""
        return self._make_team(drawn=True)

    def rehearse(self, episodes: int, seed: int) -> None:
        """Play whole episodes of random actions, in a process that prints where this one does.

        Raises :class:`EnvError` for a promise that is not kept.
        """
        ask = functools.partial(rehearse, self._make_team, episodes, seed)
        in_own_process(ask, self.options.timeout, shows=True)

    @property
    def limit_is_the_end(self) -> bool:
        """Whether running out of time counts as a true end."""
        return self.options.time_limit == "terminal"

    def pool(self, num_envs: int) -> Pool:
        """Workers with ``num_envs`` environments: those that run, if there are as many."""
        if self._pool is None or self._pool.num_envs != num_envs:
            self.close()
            own = self.options
            workers = own.workers or len(os.sched_getaffinity(0))
            self._pool = Pool(self._make_team, self._sizes, num_envs, workers, own.timeout, own.restarts, _warn)
        return self._pool

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.close()


def need(key: str, value: str, words: str) -> None:
    """Raise :class:`ConfigError` where a text is missing."""
    if not value or value == "???":
        raise ConfigError(f"{key}: missing; give {words}")


def hosted_env(door: type[Door], arguments: tuple[Any, ...], options: Options, told: str) -> Env:
    """The environment that ``door(*arguments)`` is one of.

    Raises :class:`ConfigError`, beginning with ``told``, if it cannot be made, or if an episode of random play shows
    that it does not keep its promises.
    """
    check_choice("env.reward", options.reward, TEAM_REWARDS)
    check_choice("env.time_limit", options.time_limit, TIME_LIMITS)
    for name, least in (("workers", 1), ("episode_limit", 1), ("timeout", 0.1), ("restarts", 0)):
        value = getattr(options, name)
        if value is not None:
            check_at_least(f"env.{name}", value, least)
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    find_module(told, "gymnasium")
    try:
        # Apart: it may end its process, and must not change this one.
        with _told_when_slow(told):
            ask = functools.partial(try_out, door, arguments, options.reward, options.episode_limit, told)
            found = in_own_process(ask, options.timeout)
    except EnvError as error:
        raise ConfigError(f"{told}: {error}") from error
    spec, limit, won = found
    if options.episode_limit is not None and limit < options.episode_limit:
        say(f"note: env.episode_limit={options.episode_limit}: {told} tells a limit of {limit} itself, which stays")
    same = len(set(spec.obs_sizes)) == 1
    state_size = sum(spec.obs_sizes) if spec.state_size is None else spec.state_size
    individual = options.reward == "individual"
    sizes = (len(spec.agents), max(spec.num_actions), max(spec.obs_sizes), state_size, individual)
    maker = functools.partial(make_team, door, arguments, options.reward, found)
    return Env(
        name=spec.name,
        num_agents=sizes[0],
        num_actions=sizes[1],
        obs_size=sizes[2],
        state_size=sizes[3],
        episode_limit=limit,
        reset=_not_here,
        step=_not_here,
        has_win_rate=won,
        state_from_obs=same and spec.state_size is None,
        render=draw_frames,
        drawn_as=(".gif",),
        hosted=Hosted(maker, sizes, options),
        individual_reward=individual,
        image_shape=spec.image_shape,
        byte_scale=255.0 if spec.bytes else None,
    )


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _told_when_slow(told: str) -> Iterator[None]:
    words = f"{told}: making it and playing a first episode takes longer than {SLOW:g} seconds; Ctrl-C gives up"
    timer = threading.Timer(SLOW, _warn, [words])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _not_here(*_: Any) -> NoReturn:
    raise TypeError("a hosted environment is stepped by worker processes (Env.hosted), not by its reset and step")
