"""Terminations, wins, rewards, states and renderers of JaxMARL's own classes."""

import copy
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from qmix_jax.envs.adapter import Transition
from qmix_jax.envs.base import Episode
from qmix_jax.envs.render import render_mpe, render_smax


class ByAgent:
    """A storm game that returns arrays ``[N, ...]``, with JaxMARL's dicts by agent.

    The inventories that all agents see are a part of each observation.
    """

    def __init__(self, env: Any) -> None:
        self.env = env
        self.agents = [f"agent_{place}" for place in range(env.num_agents)]

    def action_space(self, agent: str) -> Any:
        """As in the game."""
        return self.env.action_space(self.env.agents[self.agents.index(agent)])

    def reset(self, key: Any) -> tuple[dict[str, Any], Any]:
        """Start an episode."""
        obs, state = self.env.reset(key)
        return self._obs(obs), state

    def step_env(self, key: Any, state: Any, actions: Mapping[str, Any]) -> tuple[Any, ...]:
        """Play one joint action."""
        chosen = dict(zip(self.env.agents, actions.values(), strict=True))
        obs, state, rewards, dones, infos = self.env.step_env(key, state, chosen)
        return self._obs(obs), state, dict(zip(self.agents, rewards, strict=True)), dones, infos

    def _obs(self, obs: Any) -> dict[str, Any]:
        own, shared = (obs["observations"], obs["inventory"]) if isinstance(obs, Mapping) else (obs, None)
        return {agent: (own[place], shared) for place, agent in enumerate(self.agents)}


def mended(env: Any) -> Any:
    """One of JaxMARL's environments as its own interface says; most keep to it."""
    if type(env).__name__ in ("InTheGrid", "InTheMatrix"):
        return ByAgent(env)
    if type(env).__name__ == "JaxNav":
        env = copy.copy(env)
        env.get_avail_actions = None  # It has two entries, for the two numbers of a continuous action, not one of 15.
    return env


def known_of(env: Any, team: str | None = None) -> dict[str, Any]:
    """The arguments of :func:`from_jaxmarl` for JaxMARL's own classes, with ``team`` for one of two sides alone.

    None for other environments.
    """
    known: dict[str, Callable[[Any], dict[str, Any]]] = {
        "SMAX": functools.partial(_two_armies, team=team),
        "HeuristicEnemySMAX": _smax,
        "LearnedPolicyEnemySMAX": _smax,
        "SimpleMPE": _mpe,
        "SwitchRiddle": _switch_riddle,
        "HanabiEnv": _hanabi,
        "Overcooked": _overcooked,
        "OvercookedV2": _overcooked,
        "CoinGame": _rounds,
        "InTheGrid": _rounds,
        "InTheGrid_2p": _rounds,
        "InTheMatrix": _rounds,
    }
    # By name, because looking up the classes would import all environments.
    kinds = [kind.__name__ for kind in type(env).__mro__ if kind.__module__.startswith("jaxmarl.")]
    return next((known[kind](env) for kind in kinds if kind in known), {})


def _two_armies(env: Any, team: str | None, battle: Callable[[Any], Any] = lambda state: state) -> dict[str, Any]:
    """SMAX, where ``battle`` tells the battle's own state. Without a team both sides are one, which cannot win."""

    def any_alive(transition: Transition) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
        alive = battle(transition.after).unit_alive
        return jnp.any(alive[: env.num_allies]), jnp.any(alive[env.num_allies :])

    def terminated(transition: Transition) -> Bool[Array, ""]:
        allies, enemies = any_alive(transition)
        return ~allies | ~enemies

    def won(transition: Transition) -> Bool[Array, ""]:
        allies, enemies = any_alive(transition)
        return (enemies & ~allies) if team == "enemies" else (allies & ~enemies)

    num_units = env.num_allies + env.num_enemies
    unit_scale = [1.0, 1.0 / env.map_width, 1.0 / env.map_height, 1.0] + [1.0] * env.unit_type_bits
    type_scale = 1.0 / max(env.unit_type_bits - 1, 1)
    scale = np.asarray(unit_scale * num_units + [1.0] * num_units + [type_scale] * num_units, np.float32)
    known = {
        "episode_limit": env.max_steps + 1,
        # All features are at least 0 except cooldowns, which keep counting down, to -50 in an episode.
        "state": lambda obs, env_state: jnp.maximum(obs["world_state"] * scale, 0.0),
        "terminated": terminated,
    }
    max_return = float(abs(env.won_battle_bonus) + (not env.use_self_play_reward))
    return known if team is None else {**known, "reward": "first", "won": won, "max_return": max_return}


def _smax(env: Any) -> dict[str, Any]:
    return {**_two_armies(env, "allies", lambda state: state.state), "render": _render_smax}


def _mpe(env: Any) -> dict[str, Any]:
    return {
        "episode_limit": env.max_steps + 1,
        "reward": "sum",
        "terminated": lambda transition: jnp.zeros((), bool),
        "render": _render_mpe,
    }


def _switch_riddle(env: Any) -> dict[str, Any]:
    def told(transition: Transition) -> Bool[Array, ""]:
        return transition.action[transition.before.agent_in_room] == env.game_actions["TELL"]

    return {
        "reward": "first",
        "terminated": told,
        "won": lambda transition: told(transition) & jnp.all(transition.after.has_been == 1),
        "max_return": float(max(abs(env.reward_all_live), abs(env.reward_all_die))),
    }


def _hanabi(env: Any) -> dict[str, Any]:
    # A turn either spends an information token or uses up a card of the deck, and only the latter can return a token.
    # So an episode never has more turns than this, and every end is a termination.
    return {
        "episode_limit": int(env.max_info_tokens + 2 * env.deck_size),
        "reward": "first",
        "terminated": lambda transition: transition.done,
    }


def _overcooked(env: Any) -> dict[str, Any]:
    return {"reward": "first"}


def _rounds(env: Any) -> dict[str, Any]:
    # The published episode has num_outer_steps rounds of num_inner_steps each. The step that ends the last round also
    # resets the game: its observation belongs to the next episode, so nothing may be bootstrapped from it.
    return {
        "episode_limit": int(env.num_inner_steps * env.num_outer_steps),
        "terminated": lambda transition: transition.done,
    }


def _render_smax(env: Any, episode: Episode, path: Path) -> None:
    from jaxmarl.viz.visualizer import SMAXVisualizer

    render_smax(SMAXVisualizer, env, episode, path)


def _render_mpe(env: Any, episode: Episode, path: Path) -> None:
    from jaxmarl.environments.mpe import MPEVisualizer

    render_mpe(MPEVisualizer, env, episode, path)
