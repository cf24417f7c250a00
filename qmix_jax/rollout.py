"""Policy and environment make slots."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from qmix_jax.agents import NO_ACTION, AnyAgent, act
from qmix_jax.envs.base import Env
from qmix_jax.explore import epsilon_greedy
from qmix_jax.types import EnvState, Outcome, Slot, TimeStep


class Actors(NamedTuple):
    """B environments in the middle of their episodes, and what their agents remember."""

    env_state: EnvState
    step: TimeStep
    hidden: Float[Array, "B N H"]
    last_action: Int[Array, "B N"]
    first: Bool[Array, " B"]
    over: Bool[Array, " B"]
    """``step`` is the final observation of its episode."""
    episode_return: Float[Array, " B"]
    episode_length: Int[Array, " B"]


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
    epsilon: Float[Array, ""],
    num_envs: int,
    length: int,
    auto_reset: bool,
) -> tuple[Slot, RolloutStats]:
    """Play ``num_envs`` sequences ``[B, T]`` of ``length`` slots, each from the start of an episode.

    With ``auto_reset`` a new episode follows in the slot after a final observation; without it the rest of the
    sequence is padding (``mask`` 0). The last slot is only looked at, never acted in.
    """
    reset_key, rollout_key = jax.random.split(key)
    actors = start(env, agent, jax.random.split(reset_key, num_envs))

    def tick(actors: Actors, key: Key[Array, ""]) -> tuple[Actors, tuple[Slot, RolloutStats]]:
        act_key, env_key, reset_key = jax.random.split(key, 3)
        hidden, q = act(agent, agent_params, actors.hidden, actors.step.obs, actors.last_action)
        action = epsilon_greedy(act_key, q, actors.step.avail_actions, epsilon)
        env_state, step, outcome = jax.vmap(env.step)(jax.random.split(env_key, num_envs), actors.env_state, action)
        slot = _slot(actors, action, outcome)
        following = _advance(actors, env_state, step, hidden, action, outcome)
        restarted = start(env, agent, jax.random.split(reset_key, num_envs)) if auto_reset else actors
        return _where(actors.over, restarted, following), (slot, _stats(actors, following, outcome))

    actors, (slots, stats) = jax.lax.scan(tick, actors, jax.random.split(rollout_key, length - 1))
    ending = _slot(actors, jnp.zeros_like(actors.last_action), None)
    slots = jax.tree.map(lambda x, end: jnp.concatenate([x, end[None]]), slots, ending)
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), slots), jax.tree.map(lambda x: x.sum(axis=0), stats)


def start(env: Env, agent: AnyAgent, keys: Key[Array, " B"]) -> Actors:
    """Fresh episodes, one per key."""
    num_envs = keys.shape[0]
    env_state, step = jax.vmap(env.reset)(keys)
    return Actors(
        env_state=env_state,
        step=step,
        hidden=agent.initial_hidden(num_envs),
        last_action=jnp.full((num_envs, env.num_agents), NO_ACTION, jnp.int32),
        first=jnp.ones(num_envs, bool),
        over=jnp.zeros(num_envs, bool),
        episode_return=jnp.zeros(num_envs),
        episode_length=jnp.zeros(num_envs, jnp.int32),
    )


def _slot(actors: Actors, action: Int[Array, "B N"], outcome: Outcome | None) -> Slot:
    """What is stored of this moment; final observations and the end of a sequence have no outcome."""
    nothing = jnp.zeros_like(actors.episode_return)
    acted = ~actors.over
    return Slot(
        step=actors.step,
        action=action,
        reward=nothing if outcome is None else jnp.where(acted, outcome.reward, 0.0),
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
