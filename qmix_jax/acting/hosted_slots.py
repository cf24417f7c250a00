"""What worker processes play, in the host's memory: slots, statistics, and where sequences that continue are."""

from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from qmix_jax.acting.rollout import RolloutStats
from qmix_jax.envs.base import Env
from qmix_jax.envs.hosted.pool import Moment
from qmix_jax.networks.agents import AnyAgent
from qmix_jax.types import Slot, Start, empty_slots


class Policy(NamedTuple):
    """How actions are chosen while sequences are collected."""

    agent_params: Any
    levels: tuple[Any, Any]
    """Of exploration, and the chance of preferences."""
    key: Key[Array, ""]


class Place(NamedTuple):
    """B environments in the middle of their episodes."""

    now: Moment
    hidden: Float[Array, "B N H"]
    action: np.ndarray
    preference: Float[Array, "B A"] | None
    first: np.ndarray
    over: np.ndarray
    returns: np.ndarray
    lengths: np.ndarray

    @property
    def memory(self) -> Start:
        """What the agents remember."""
        return Start(self.hidden, cast(Array, self.action))


class Continued(NamedTuple):
    """What the next sequences continue: see :class:`qmix_jax.acting.continuing.Continuing`."""

    place: Place
    window: Slot
    """The last slots ``[B, W]`` before ``place``."""
    start: Start
    """What the agents remembered at the first slot of ``window``."""


def padding(env: Env, count: int, length: int) -> Slot:
    """Slots before the first ones: nothing is learned from them."""
    slots = empty_slots(env, count, length, xp=np)
    cast(Any, slots.step.avail_actions)[:] = True
    return slots


class Sums:
    """:class:`RolloutStats`, added up step by step from ``place`` on."""

    def __init__(self, env: Env, place: Place) -> None:
        self._env = env
        self.returns, self.lengths = place.returns.copy(), place.lengths.copy()
        self.stats = _no_stats()

    def add(self, acted: np.ndarray, now: Moment) -> None:
        """One step of the environments that acted."""
        self.returns += np.where(acted, self._env.team_reward(now.reward), 0.0).astype(np.float32)
        self.lengths += acted
        ended = acted & now.over.astype(bool)
        old = cast(Any, self.stats)
        self.stats = RolloutStats(
            env_steps=old.env_steps + acted.sum(dtype=np.int32),
            episodes=old.episodes + ended.sum(dtype=np.int32),
            episode_return=old.episode_return + self.returns[ended].sum(dtype=np.float32),
            episode_length=old.episode_length + self.lengths[ended].sum().astype(np.float32),
            wins=old.wins + (ended & now.won.astype(bool)).sum().astype(np.float32),
        )
        self.returns[ended], self.lengths[ended] = 0.0, 0


def _no_stats() -> RolloutStats:
    return RolloutStats(*cast(Any, (np.int32(0), np.int32(0), np.float32(0), np.float32(0), np.float32(0))))


def zero_batch(
    env: Env, agent: AnyAgent, count: int, length: int, window: int | None = None
) -> tuple[Slot, RolloutStats, Start | None]:
    """Shapes and dtypes of what is collected; ``window`` is None where sequences do not continue."""
    slots = empty_slots(env, count, length + (window or 0), xp=np)
    if window is None:
        return slots, _no_stats(), None
    action = np.zeros((count, env.num_agents), np.int32)
    return slots, _no_stats(), Start(jax.tree.map(np.asarray, agent.initial_hidden(count)), cast(Array, action))
