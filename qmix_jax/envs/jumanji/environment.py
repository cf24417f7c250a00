"""Adapt jumanji's interface to :class:`Env`: ``env=jumanji env.id=LevelBasedForaging-v0``.

Jumanji is imported inside functions, after the settings are checked, and only the part that is used.
"""

import importlib
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from qmix_jax.envs.adapter import TEAM_REWARDS, TIME_LIMITS, foreign_code, outcome_of
from qmix_jax.envs.base import Env
from qmix_jax.envs.jumanji.games import GAMES, Game
from qmix_jax.envs.lazy_package import make_lazy
from qmix_jax.envs.render import render_jumanji
from qmix_jax.envs.settings import check_at_least, check_choice, check_kind, check_known
from qmix_jax.errors import ConfigError
from qmix_jax.types import EnvState, Outcome, TimeStep


def make_jumanji(
    id: str = "LevelBasedForaging-v0",
    time_limit: str = "bootstrap",
    reward: str = "sum",
    episode_limit: int | None = None,
    **settings: Any,
) -> Env:
    """One of jumanji's cooperative games; ``settings`` are those of its generator and of the game.

    - Reward: the agents' (foraging, Connector) combined by ``reward``; the warehouse and Cleaner pay the team once.
    - State [G]: the board without its agents' point of view (Connector, Cleaner), else the observations in a row.
    - Won: all food eaten, all connected, all clean; the warehouse has no end to win.
    - Terminations are told from the time limit of ``episode_limit`` transitions (jumanji's own by default), whose
      discount is 1 with ``time_limit`` ``bootstrap`` and 0 with ``terminal``.

    Raises :class:`ConfigError` for other games, unknown settings, and where jumanji is not installed.
    """
    check_choice("env.id", id, GAMES)
    check_choice("env.time_limit", time_limit, TIME_LIMITS)
    check_choice("env.reward", reward, TEAM_REWARDS)
    if episode_limit is not None:
        check_at_least("env.episode_limit", episode_limit, 1)
    game = GAMES[id]
    check_known(settings, (*game.made_with, *game.own))
    for name, value in settings.items():
        check_kind(f"env.{name}", value, game.made_with.get(name))
    env = _construct(id, game, settings, episode_limit)
    with foreign_code():
        _, like = jax.eval_shape(env.reset, jax.random.key(0))
        obs_like, board_like = jax.eval_shape(partial(game.see, env), like.observation)
    if reward == "individual" and not like.reward.ndim:
        raise ConfigError(f"env.reward=individual: {id} pays the team one reward; use env.reward=sum")
    num_agents, obs_size = obs_like.shape
    size = num_agents * obs_size if board_like is None else board_like.size

    return Env(
        name=id,
        num_agents=num_agents,
        num_actions=like.observation.action_mask.shape[-1],
        obs_size=obs_size,
        state_size=size,
        episode_limit=int(env.time_limit),
        reset=partial(_reset, env, game),
        step=partial(_step, env, game, reward, time_limit),
        has_win_rate=game.won is not None,
        state_from_obs=board_like is None,
        render=partial(render_jumanji, env),
        drawn_as=(".gif",),
        individual_reward=reward == "individual",
    )


def _see(env: Any, game: Game, observation: Any) -> TimeStep:
    obs, board = game.see(env, observation)
    state = obs.reshape(-1) if board is None else board
    return TimeStep(obs=obs, avail_actions=observation.action_mask.astype(bool), state=state)


def _reset(env: Any, game: Game, key: Key[Array, ""]) -> tuple[EnvState, TimeStep]:
    with foreign_code():
        state, timestep = env.reset(key)
        return state, _see(env, game, timestep.observation)


def _step(
    env: Any, game: Game, reward: str, time_limit: str, key: Key[Array, ""], env_state: EnvState, action: Array
) -> tuple[EnvState, TimeStep, Outcome]:
    with foreign_code():
        # The game would go on with random numbers of its start, which rollouts use more than once.
        state, timestep = env.step(env_state.replace(key=key), action)
        last = timestep.last()
        ended = last & game.ended(env, state, timestep)
        paid = TEAM_REWARDS[reward](timestep.reward) if timestep.reward.ndim else timestep.reward
        won = game.won(env, state) if game.won else False
        outcome = outcome_of(time_limit, paid.astype(jnp.float32), ended, last, won)
        return state, _see(env, game, timestep.observation), outcome


def _construct(id: str, game: Game, settings: Mapping[str, Any], episode_limit: int | None) -> Any:
    made_with = {name: settings.get(name, value) for name, value in game.made_with.items()}
    if "fov" in made_with:
        made_with["fov"] = settings.get("fov", made_with["grid_size"])
    own = {name: settings[name] for name in game.own if name in settings}
    if episode_limit is not None:
        own["time_limit"] = episode_limit
    make_lazy("jumanji", "jumanji.environments", "jumanji.environments.routing")
    package = f"jumanji.environments.routing.{game.package}"
    module, _, name = game.generator.rpartition(".")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            generator = getattr(importlib.import_module(f"{package}.{module}"), name)
            kind = getattr(importlib.import_module(f"{package}.env"), game.kind)
    except ImportError as error:
        raise ConfigError(f"env.id={id}: {error}; pip install 'qmix_jax[jumanji]'") from error
    try:
        return kind(generator=generator(**made_with), **own)
    except (ValueError, AssertionError, TypeError) as error:
        raise ConfigError(f"env.id={id}: {' '.join(str(error).split())}") from error
