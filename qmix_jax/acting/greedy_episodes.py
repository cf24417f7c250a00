"""Greedy episodes of the decentralised policy: each agent acts on its own observation and history, without a mixer."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from qmix_jax.acting.explore import masked_argmax
from qmix_jax.acting.rollout import Actors, start
from qmix_jax.envs.base import Env
from qmix_jax.networks.agents import AnyAgent, act
from qmix_jax.types import Evaluation


class Episodes(NamedTuple):
    """The first episode of each of E parallel environments."""

    episode_return: Float[Array, " E"]
    episode_length: Int[Array, " E"]
    won: Bool[Array, " E"]


def greedy_episodes(env: Env, agent: AnyAgent, agent_params: dict, key: Key[Array, ""], episodes: int) -> Episodes:
    """Play ``episodes`` environments in parallel until the first episode of each has ended.

    Only first episodes count: counting all that finish within a fixed number of steps would favour short episodes.
    """
    reset_key, step_key = jax.random.split(key)
    actors = start(env, agent, jax.random.split(reset_key, episodes))

    def running(carry: tuple[Actors, Bool[Array, " E"], Int[Array, ""]]) -> Bool[Array, ""]:
        actors, _, time = carry
        return ~actors.over.all() & (time < env.episode_limit)

    def tick(carry: tuple[Actors, Bool[Array, " E"], Int[Array, ""]]):
        actors, won, time = carry
        hidden, q = act(agent, agent_params, actors.hidden, actors.step.obs, actors.last_action)
        action = masked_argmax(q, actors.step.avail_actions).astype(jnp.int32)
        env_keys = jax.random.split(jax.random.fold_in(step_key, time), episodes)
        env_state, step, outcome = jax.vmap(env.step)(env_keys, actors.env_state, action)
        counts, paid = ~actors.over, env.team_reward(outcome.reward)
        following = actors._replace(
            env_state=env_state,
            step=step,
            hidden=hidden,
            last_action=action,
            over=actors.over | outcome.last,
            episode_return=actors.episode_return + jnp.where(counts, paid, 0.0),
            episode_length=actors.episode_length + counts,
        )
        return following, jnp.where(counts & outcome.last, outcome.won, won), time + 1

    carry = (actors, jnp.zeros(episodes, bool), jnp.zeros((), jnp.int32))
    actors, won, _ = jax.lax.while_loop(running, tick, carry)
    return Episodes(actors.episode_return, actors.episode_length, won)


def summarize(env: Env, episodes: Episodes) -> Evaluation:
    """Means over the episodes."""
    return Evaluation(
        episode_return=episodes.episode_return.mean(),
        win_rate=episodes.won.mean(dtype=jnp.float32) if env.has_win_rate else jnp.asarray(jnp.nan, jnp.float32),
        episode_length=episodes.episode_length.mean(dtype=jnp.float32),
    )
