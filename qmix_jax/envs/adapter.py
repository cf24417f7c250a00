"""Adapt JaxMARL's ``MultiAgentEnv`` interface to :class:`Env`. Only here do dicts of agents become arrays.

Nothing in this file depends on a particular environment. What differs between environments (the state, what terminates
an episode, when it is won) is passed in as small functions.
"""

import contextlib
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from qmix_jax.envs.actions import count_actions, find_avail_actions, own_method, pad, size_of
from qmix_jax.envs.base import Env, Episode
from qmix_jax.envs.images import image_shape_of
from qmix_jax.envs.settings import check_at_least, check_choice
from qmix_jax.errors import ConfigError
from qmix_jax.types import EnvState, Outcome, TimeStep

TIME_LIMITS = ("terminal", "bootstrap")
"""Whether reaching the time limit is a termination (discount 0) or not (discount 1)."""

TEAM_REWARDS: dict[str, Callable[[Float[Array, " N"]], Float[Array, "*N"]]] = {
    "sum": jnp.sum,
    "mean": jnp.mean,
    "first": lambda rewards: rewards[0],
    "individual": lambda rewards: rewards,
}
"""The team reward from the agents' rewards [N]; ``first`` is for environments that give all agents the same reward, and
``individual`` keeps each agent's own [N]."""

LIMIT_ATTRIBUTES = ("max_steps", "max_episode_steps", "episode_limit")


class AdapterState(NamedTuple):
    """The environment's own state, and the number of transitions played in the episode."""

    env_state: Any
    played: Int[Array, ""]


class Transition(NamedTuple):
    """The inputs of a rule that decides how an episode ended."""

    before: Any
    """The environment's own state before the action."""
    action: Int[Array, " N"]
    after: Any
    """The environment's own state after it."""
    done: Bool[Array, ""]
    """The environment's own ``dones["__all__"]``."""
    in_time: Bool[Array, ""]
    """Whether the time limit allows further transitions."""


Rule = Callable[[Transition], Bool[Array, ""]]


def from_jaxmarl(
    env: Any,
    *,
    name: str | None = None,
    time_limit: str = "bootstrap",
    reward: str = "sum",
    episode_limit: int | None = None,
    state: Callable[[Mapping[str, Any], Any], Array] | None = None,
    terminated: Rule | None = None,
    won: Rule | None = None,
    max_return: float | None = None,
    render: Callable[[Any, Episode, Path], None] | None = None,
) -> Env:
    """Adapt an environment with JaxMARL's ``MultiAgentEnv`` interface.

    It needs ``agents``, ``action_space(agent)`` (discrete), ``reset(key)`` and ``step_env(key, state, actions)``. Its
    automatic reset (``step``) is never used. Observations of any shape are flattened. Agents with smaller
    observations or fewer actions than the others are padded with zeros and with actions that are never available.

    - Available actions: ``get_avail_actions(state)`` or ``get_legal_moves(state)`` if implemented, else all of an
      agent's own actions.
    - State [G]: ``state(obs, env_state)`` if given, else ``obs["world_state"]``, else ``get_world_state(env_state)``,
      else all agents' unpadded observations, concatenated.
    - Team reward: the agents' rewards combined by ``reward``.
    - ``episode_limit``: the maximum number of transitions, enforced here by counting. By default the environment's
      ``max_steps``, ``max_episode_steps`` or ``episode_limit`` attribute.
    - ``terminated(transition)`` says which ends are terminations. By default: the environment is done before the
      limit's last transition. All other ends are the time limit, whose discount is 1 with ``time_limit`` ``bootstrap``
      and 0 with ``terminal``.
    - ``won(transition)``, if given, makes ``has_win_rate`` true.
    - ``render(env, episode, path)``, if given, draws an episode; the states it gets are the environment's own.

    Raises :class:`ConfigError` if the environment's actions are not discrete, it has no episode limit, or
    ``time_limit`` or ``reward`` are not among the choices.
    """
    check_choice("env.time_limit", time_limit, TIME_LIMITS)
    check_choice("env.reward", reward, TEAM_REWARDS)
    name = type(env).__name__ if name is None else name
    agents = tuple(env.agents)
    own_limit = _own_limit(env)
    limit = _episode_limit(name, episode_limit, own_limit)
    time_is_up = limit if own_limit is None else min(limit, own_limit)
    num_actions = [count_actions(env, agent) for agent in agents]
    with foreign_code():
        obs_like, env_state_like = jax.eval_shape(env.reset, jax.random.key(0))
        obs_sizes = [size_of(obs_like[agent]) for agent in agents]
        leaves = [leaf for agent in agents for leaf in jax.tree.leaves(obs_like[agent])]
        see_state = state or _find_state(env, obs_like, env_state_like)
        own_state = see_state is not None
        see_state = see_state or _observations_in_a_row(agents)
        see_avail = find_avail_actions(env, agents, num_actions, env_state_like)
        state_like = jax.eval_shape(see_state, obs_like, env_state_like)
    if own_state and not size_of(state_like):
        raise ConfigError(
            f"env: {name}: its state (get_world_state, or 'world_state' of the observations) has no numbers; return an "
            "array, or leave it out"
        )

    def see(obs: Mapping[str, Any], env_state: Any) -> TimeStep:
        padded = [pad(_flatten(obs[agent]), max(obs_sizes)) for agent in agents]
        return TimeStep(
            obs=jnp.stack(padded), avail_actions=see_avail(env_state), state=_flatten(see_state(obs, env_state))
        )

    def reset(key: Key[Array, ""]) -> tuple[EnvState, TimeStep]:
        with foreign_code():
            obs, env_state = env.reset(key)
            env_state = _fix_types(env_state, env_state_like)
            return AdapterState(env_state=env_state, played=jnp.zeros((), jnp.int32)), see(obs, env_state)

    def step(key: Key[Array, ""], env_state: EnvState, action: Int[Array, " N"]) -> tuple[EnvState, TimeStep, Outcome]:
        actions = {agent: action[index] for index, agent in enumerate(agents)}
        with foreign_code():
            obs, after, rewards, dones, _ = env.step_env(key, env_state.env_state, actions)
            after = _fix_types(after, env_state_like)
            played = env_state.played + 1
            done = jnp.asarray(dones["__all__"], bool).reshape(())
            transition = Transition(
                before=env_state.env_state, action=action, after=after, done=done, in_time=played < time_is_up
            )
            true_end = terminated(transition) if terminated else done & transition.in_time
            last = done | true_end | (played >= limit)
            paid = TEAM_REWARDS[reward](jnp.stack([_scalar(rewards[agent]) for agent in agents]))
            outcome = outcome_of(time_limit, paid, true_end, last, won(transition) if won else False)
            return AdapterState(env_state=after, played=played), see(obs, after), outcome

    return Env(
        name=name,
        num_agents=len(agents),
        num_actions=max(num_actions),
        obs_size=max(obs_sizes),
        state_size=size_of(state_like),
        episode_limit=limit,
        reset=reset,
        step=step,
        has_win_rate=won is not None,
        max_return=max_return,
        # Padded observations would differ from the state.
        state_from_obs=not own_state and len(set(obs_sizes)) == 1,
        render=None if render is None else partial(_render, render, env),
        drawn_as=(".gif",),
        individual_reward=reward == "individual",
        image_shape=image_shape_of([leaf.shape for leaf in leaves]) if len(leaves) == len(agents) else None,
        byte_scale=1.0 if all(leaf.dtype == np.uint8 for leaf in leaves) else None,
    )


def outcome_of(
    time_limit: str, reward: Float[Array, "*N"], over: Bool[Array, ""], last: Bool[Array, ""], won: Any
) -> Outcome:
    """The outcome of a transition that terminated the episode (``over``), or ended it for any reason (``last``)."""
    no_more = last if time_limit == "terminal" else over
    return Outcome(reward=reward, discount=1.0 - no_more.astype(jnp.float32), last=last, won=last & won)


@contextlib.contextmanager
def foreign_code() -> Iterator[None]:
    """Relax our strict JAX settings for third-party code."""
    with jax.numpy_rank_promotion("allow"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _own_limit(env: Any) -> int | None:
    for attribute in LIMIT_ATTRIBUTES:
        with contextlib.suppress(TypeError):  # None, and what else is not a whole number.
            return operator.index(cast(Any, getattr(env, attribute, None)))
    return None


def _episode_limit(name: str, asked: int | None, own: int | None) -> int:
    if asked is not None:
        check_at_least("env.episode_limit", asked, 1)
        return asked
    if own is None:
        raise ConfigError(
            f"env.episode_limit: missing; {name} has no {' or '.join(LIMIT_ATTRIBUTES)}, so give the largest number of "
            "transitions in an episode (with a plus for env=custom: +env.episode_limit=N)"
        )
    return own


def _find_state(
    env: Any, obs_like: Mapping[str, Any], env_state_like: Any
) -> Callable[[Mapping[str, Any], Any], Array] | None:
    """The environment's own global state, if it has one."""
    if "world_state" in obs_like:
        return lambda obs, env_state: _flatten(obs["world_state"])
    found = own_method(env, "get_world_state", env_state_like)
    return None if found is None else lambda obs, env_state: _flatten(found[0](env_state))


def _observations_in_a_row(agents: Sequence[str]) -> Callable[[Mapping[str, Any], Any], Array]:
    return lambda obs, env_state: jnp.concatenate([_flatten(obs[agent]) for agent in agents])


def _flatten(values: Any) -> Float[Array, " features"]:
    leaves = [jnp.ravel(leaf).astype(jnp.float32) for leaf in jax.tree.leaves(values)]
    return leaves[0] if len(leaves) == 1 else jnp.concatenate(leaves or [jnp.zeros(0)])


def _scalar(reward: Any) -> Float[Array, ""]:
    return jnp.asarray(reward, jnp.float32).reshape(())


def _fix_types(env_state: Any, like: Any) -> Any:
    """Convert to the dtypes of a fresh episode, without weak types, so that a scan can carry the state."""

    def fix(value: Any, like: jax.ShapeDtypeStruct) -> Array:
        if jnp.issubdtype(like.dtype, jax.dtypes.extended):
            return value
        return jax.lax.convert_element_type(value, like.dtype)

    return jax.tree.map(fix, env_state, like)


def _render(draw: Callable[[Any, Episode, Path], None], env: Any, episode: Episode, path: Path) -> None:
    own_states = [env_state.env_state for env_state in episode.env_states]
    with foreign_code():
        draw(env, episode._replace(env_states=own_states), path)
