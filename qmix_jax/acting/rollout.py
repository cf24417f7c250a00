"""Rollouts: play the policy in parallel environments and record slots."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from qmix_jax.acting.explore import Exploration, draw, epsilon_greedy
from qmix_jax.acting.preferences import NONE, Drawn, Preferences, held, preferred
from qmix_jax.envs.base import Env
from qmix_jax.networks.agents import NO_ACTION, AnyAgent, act
from qmix_jax.types import EnvState, Outcome, Slot, Start, TimeStep

STARTS = 16
"""Start states drawn per sequence; fewer if it cannot hold that many episodes."""


class Actors(NamedTuple):
    """B environments in the middle of their episodes, with their agents' hidden states and last actions."""

    env_state: EnvState
    step: TimeStep
    hidden: Float[Array, "B N H"]
    last_action: Int[Array, "B N"]
    first: Bool[Array, " B"]
    over: Bool[Array, " B"]
    """``step`` is the final observation of its episode."""
    episode_return: Float[Array, " B"]
    episode_length: Int[Array, " B"]
    preference: Float[Array, "B A"] | None
    """Of the step before; None where teams have none."""


class RolloutStats(NamedTuple):
    """Sums over the episodes that ended during a rollout."""

    env_steps: Int[Array, ""]
    episodes: Int[Array, ""]
    episode_return: Float[Array, ""]
    episode_length: Float[Array, ""]
    wins: Float[Array, ""]


def collect(
    env: Env,
    agent: AnyAgent,
    agent_params: dict,
    key: Key[Array, ""],
    level: Float[Array, ""],
    num_envs: int,
    length: int,
    auto_reset: bool,
    explore: Exploration = epsilon_greedy,
    preferences: Preferences = NONE,
) -> tuple[Slot, RolloutStats]:
    """Play ``num_envs`` sequences ``[B, T]`` of ``length`` slots, each from the start of an episode.

    With ``auto_reset`` a new episode follows in the slot after a final observation; without it the rest of the
    sequence is padding (``mask`` 0). The last slot is only looked at, never acted in.
    ``level`` is the epsilon or temperature of ``explore``.

    Start states are drawn in advance, :data:`STARTS` per sequence. A sequence with more episodes reuses them in order,
    with new randomness in the steps.
    """
    starts = number_of_starts(length) if auto_reset else 1
    random = draw_all(env, key, num_envs, length, starts, preferences)
    play = Play(env, agent, agent_params, level, explore, auto_reset)
    preference = preferences.none_yet(num_envs, env.num_actions)
    env_state, step = jax.tree.map(lambda x: x[0], random.begin)
    fresh = _fresh(agent, env.num_agents, env_state, step, preference)
    played = play.on(fresh, jnp.zeros(num_envs, jnp.int32), random)
    return played.slots, played.stats


class Played(NamedTuple):
    """What :meth:`Play.on` returns."""

    actors: Actors
    """Where they are at the end."""
    slots: Slot
    """``[B, T]``"""
    stats: RolloutStats
    marked: Start | None
    """What the agents remembered at the marked slot."""


class Random(NamedTuple):
    """All that is random in the sequences of one iteration."""

    begin: tuple[EnvState, TimeStep]
    """Start states ``[S, B]``."""
    env_keys: Key[Array, "T-1 B"]
    noise: Float[Array, "T-1 B N A"]
    """Standard Gumbel noise, to draw actions with."""
    preference: Drawn | None
    """Of teams; None where they have none."""


def number_of_starts(length: int) -> int:
    """Start states to draw for a sequence: an episode takes at least two slots."""
    return min(STARTS, math.ceil(length / 2))


def draw_all(
    env: Env, key: Key[Array, ""], num_envs: int, length: int, starts: int, preferences: Preferences = NONE
) -> Random:
    """The random numbers of all steps at once: one at a time they take longer than a small environment's step."""
    # Split all keys in one call: each split is another loop to compile.
    keys = jax.random.split(key, (starts + length, num_envs))
    reset_keys, env_keys, act_key = keys[:starts], keys[starts:-1], keys[-1, 0]
    begin = jax.vmap(jax.vmap(env.reset))(reset_keys)
    noise = jax.random.gumbel(act_key, (length - 1, num_envs, env.num_agents, env.num_actions))
    return Random(begin, env_keys, noise, preferences.draw(act_key, length - 1, num_envs, env.num_actions))


class Play(NamedTuple):
    """A policy in an environment, as :func:`collect` is told about them."""

    env: Env
    agent: AnyAgent
    agent_params: Any
    level: Float[Array, ""]
    explore: Exploration
    auto_reset: bool

    def on(self, actors: Actors, episode: Int[Array, " B"], random: Random, mark: int | None = None) -> Played:
        """Play on from ``actors``.

        ``episode`` is the number of the start state that each environment is at; it takes the next one where an
        episode is over. ``mark`` is the slot to return the agents' memory of.
        """
        env, agent, begin = self.env, self.agent, random.begin
        env_state, step = jax.tree.map(lambda x: x[0], begin)
        fresh = _fresh(agent, env.num_agents, env_state, step, actors.preference)

        def tick(carry: Any, random: Any) -> tuple[Any, tuple[Slot, RolloutStats]]:
            (actors, episode, marked), (env_key, noise, drawn, here) = carry, random
            if here is not None:
                marked = jax.tree.map(lambda new, old: jnp.where(here, new, old), memory(actors), marked)
            hidden, q = act(agent, self.agent_params, actors.hidden, actors.step.obs, actors.last_action)
            preference = held(actors.preference, drawn, actors.first)
            action = draw(noise, self.explore(preferred(q, preference), actors.step.avail_actions, self.level))
            env_state, step, outcome = jax.vmap(env.step)(env_key, actors.env_state, action)
            slot = _slot(env, actors, action, outcome)
            paid = env.team_reward(outcome.reward)
            following = _advance(actors, env_state, step, hidden, action, outcome._replace(reward=paid), preference)
            episode = episode + actors.over
            restarted = _restarted(fresh, begin, episode) if self.auto_reset else actors
            following_stats = _stats(actors, following, outcome)
            return (_where(actors.over, restarted, following), episode, marked), (slot, following_stats)

        carry = (actors, episode, None if mark is None else memory(actors))
        here = None if mark is None else jnp.arange(random.noise.shape[0]) == mark
        given = (random.env_keys, random.noise, random.preference, here)
        (actors, _, marked), (slots, stats) = jax.lax.scan(tick, carry, given)
        ending = _slot(env, actors, jnp.zeros_like(actors.last_action), None)
        slots = jax.tree.map(lambda x, end: jnp.concatenate([x, end[None]]), slots, ending)
        slots = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), slots)
        return Played(actors, slots, jax.tree.map(lambda x: x.sum(axis=0), stats), marked)


def memory(actors: Actors) -> Start:
    """What agents remember from one slot to the next."""
    return Start(actors.hidden, actors.last_action)


def no_memory(agent: AnyAgent, num_agents: int, num_envs: int) -> Start:
    """What they remember before an episode: nothing."""
    return Start(agent.initial_hidden(num_envs), jnp.full((num_envs, num_agents), NO_ACTION, jnp.int32))


def start(env: Env, agent: AnyAgent, keys: Key[Array, " B"], preferences: Preferences = NONE) -> Actors:
    """Fresh episodes, one per key."""
    preference = preferences.none_yet(keys.shape[0], env.num_actions)
    return _fresh(agent, env.num_agents, *jax.vmap(env.reset)(keys), preference)


def _fresh(
    agent: AnyAgent, num_agents: int, env_state: EnvState, step: TimeStep, preference: Float[Array, "B A"] | None
) -> Actors:
    """Actors at the start of their episodes."""
    num_envs = step.obs.shape[0]
    nothing = no_memory(agent, num_agents, num_envs)
    return Actors(
        env_state=env_state,
        step=step,
        hidden=nothing.hidden,
        last_action=nothing.last_action,
        first=jnp.ones(num_envs, bool),
        over=jnp.zeros(num_envs, bool),
        episode_return=jnp.zeros(num_envs),
        episode_length=jnp.zeros(num_envs, jnp.int32),
        preference=preference,
    )


def _restarted(fresh: Actors, begin: tuple[EnvState, TimeStep], episode: Int[Array, " B"]) -> Actors:
    """``fresh``, with start state number ``episode`` (modulo S) of ``begin`` ``[S, B]`` in each environment."""
    starts = begin[1].obs.shape[0]
    if starts == 1:
        return fresh
    pick = jax.vmap(lambda x, number: x[number], in_axes=(1, 0))
    env_state, step = jax.tree.map(lambda x: pick(x, episode % starts), begin)
    return fresh._replace(env_state=env_state, step=step)


def _slot(env: Env, actors: Actors, action: Int[Array, "B N"], outcome: Outcome | None) -> Slot:
    """The slot to store; without an outcome, or after the end of an episode, it holds only the observation."""
    nothing = jnp.zeros_like(actors.episode_return)
    acted = ~actors.over
    paid = jnp.zeros((*nothing.shape, *env.reward_shape), nothing.dtype)
    if outcome is not None:
        paid = jnp.where(acted.reshape(-1, *(1 for _ in env.reward_shape)), outcome.reward, 0.0)
    return Slot(
        step=actors.step,
        action=action,
        reward=paid,
        discount=nothing if outcome is None else jnp.where(acted, outcome.discount, 0.0),
        mask=nothing if outcome is None else acted.astype(nothing.dtype),
        first=actors.first,
    )


def _advance(
    actors: Actors,
    env_state: EnvState,
    step: TimeStep,
    hidden: Float[Array, "B N H"],
    action: Int[Array, "B N"],
    outcome: Outcome,
    preference: Float[Array, "B A"] | None,
) -> Actors:
    return Actors(
        env_state=env_state,
        step=step,
        hidden=hidden,
        last_action=action,
        first=jnp.zeros_like(actors.first),
        over=outcome.last,
        episode_return=actors.episode_return + outcome.reward,
        episode_length=actors.episode_length + 1,
        preference=preference,
    )


def _stats(actors: Actors, following: Actors, outcome: Outcome) -> RolloutStats:
    ended = outcome.last & ~actors.over
    return RolloutStats(
        env_steps=(~actors.over).sum(dtype=jnp.int32),
        episodes=ended.sum(dtype=jnp.int32),
        episode_return=jnp.where(ended, following.episode_return, 0.0).sum(),
        episode_length=jnp.where(ended, following.episode_length, 0).sum().astype(jnp.float32),
        wins=(ended & outcome.won).sum().astype(jnp.float32),
    )


def _where(condition: Bool[Array, " B"], yes: Actors, no: Actors) -> Actors:
    def choose(x: Array, y: Array) -> Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (x.ndim - 1)), x, y)

    return jax.tree.map(choose, yes, no)
