"""Sequences that continue: environments, hidden states and last actions are carried from one iteration to the next.

A sequence begins in the very slot that the one before ended in, which was only looked at there: so every transition of
an episode is played and stored once, however long the episode is. What the agents remembered at its first slot is
stored with it (Kapturowski et al. 2019, "stored state").

A sequence may also begin with the last slots of the one before (its window): the learner then unrolls over them first
(``learner.burn_in``), or learns from them once more (``replay.memory_window``).
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from qmix_jax.acting.explore import Exploration, epsilon_greedy
from qmix_jax.acting.preferences import NONE, Preferences
from qmix_jax.acting.rollout import Actors, Play, RolloutStats, draw_all, memory, number_of_starts, start
from qmix_jax.envs.base import Env
from qmix_jax.networks.agents import AnyAgent
from qmix_jax.types import Slot, Start, empty_slots


class Continuing(NamedTuple):
    """Where B environments are between two iterations."""

    actors: Actors
    window: Slot | None = None
    """The last slots ``[B, W]`` before ``actors``; None where there is no window."""
    start: Start | None = None
    """What the agents remembered at the first slot of ``window``."""


def begin(
    env: Env, agent: AnyAgent, keys: Key[Array, " B"], window: int, preferences: Preferences = NONE
) -> Continuing:
    """Fresh episodes, one per key, with a window of padding before them."""
    actors = start(env, agent, keys, preferences)
    if not window:
        return Continuing(actors)
    padding = empty_slots(env, keys.shape[0], window)
    step = padding.step._replace(avail_actions=jnp.ones_like(padding.step.avail_actions))
    return Continuing(actors, padding._replace(step=step), memory(actors))


def collect_on(
    env: Env,
    agent: AnyAgent,
    agent_params: Any,
    key: Key[Array, ""],
    level: Float[Array, ""],
    before: Continuing,
    length: int,
    explore: Exploration = epsilon_greedy,
    preferences: Preferences = NONE,
) -> tuple[Continuing, Slot, Start, RolloutStats]:
    """Play on for ``length - 1`` steps.

    Returns where the environments are then, sequences ``[B, W + length]`` that begin with the window of ``before``,
    what their agents remembered at the first slot, and statistics of the episodes that ended. The other arguments are
    those of :func:`qmix_jax.acting.rollout.collect`.
    """
    num_envs = before.actors.over.shape[0]
    random = draw_all(env, key, num_envs, length, number_of_starts(length), preferences)
    play = Play(env, agent, agent_params, level, explore, auto_reset=True)
    episode = jnp.full(num_envs, -1, jnp.int32)  # the first that starts here takes start state 0
    if before.window is None:
        played = play.on(before.actors, episode, random)
        return Continuing(played.actors), played.slots, memory(before.actors), played.stats
    size = before.window.mask.shape[1]
    played = play.on(before.actors, episode, random, mark=length - 1 - size)
    # The last slot is not part of the window: it is the first of the next sequence.
    window = jax.tree.map(lambda x: x[:, length - 1 - size : length - 1], played.slots)
    slots = jax.tree.map(lambda old, new: jnp.concatenate([old, new], axis=1), before.window, played.slots)
    return Continuing(played.actors, window, played.marked), slots, cast(Start, before.start), played.stats
