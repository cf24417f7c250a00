"""Predator-prey as an :class:`Env`."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from qmix_jax.envs.adapter import TIME_LIMITS, outcome_of
from qmix_jax.envs.base import Env
from qmix_jax.envs.predator_prey import drawing
from qmix_jax.envs.predator_prey.hunt import (
    CATCH,
    DIRECTIONS,
    GONE,
    OUTSIDE,
    STEPS,
    Draws,
    Hunt,
    Rules,
    among,
    hunt_prey,
    move_agents,
    neighbours,
)
from qmix_jax.envs.settings import check_at_least, check_choice, check_kind
from qmix_jax.errors import require
from qmix_jax.types import Outcome, TimeStep

NUM_ACTIONS = len(STEPS)


class PredatorPreyState(NamedTuple):
    """Where everybody is, and how many transitions were played."""

    hunt: Hunt
    played: Int[Array, ""]


class Settings(NamedTuple):
    """The settings under ``env.``, checked."""

    rules: Rules
    num_agents: int
    num_prey: int
    sight: int
    max_steps: int
    time_limit: str

    @property
    def most_captures(self) -> int:
        """How many prey can be caught at most: those who caught one leave the grid."""
        if not self.rules.capture_leaves:
            return self.num_prey
        return min(self.num_prey, self.num_agents // self.rules.capture_agents)


def make_predator_prey(
    penalty: float = -2.0,
    size: int = 10,
    num_agents: int = 8,
    num_prey: int = 8,
    sight: int = 2,
    capture_agents: int = 2,
    capture_reward: float = 10.0,
    capture_leaves: bool = True,
    prey_rest: float = 0.0,
    max_steps: int = 200,
    time_limit: str = "bootstrap",
) -> Env:
    """Predator-prey with a penalty for hunting alone (Böhmer et al. 2020), as in the paper of weighted QMIX.

    Agents move on a grid (right, down, left, up, stay), one after another in random order; a cell holds at most one
    agent or prey. The sixth action, catch, is available beside a prey. If two agents beside a prey catch, the prey is
    caught and pays 10, and these agents leave the grid. If only one does, the team pays ``penalty``, once for each such
    prey. Prey that is not caught moves to a random free cell beside it, if there is one.

    With eight agents four prey can be caught, so the best return is 40. A team that learns from random actions expects
    that a catch pays less than nothing: relative overgeneralisation.

    - Observations [(2 sight + 1)², 2]: agents and prey in the square around the agent, itself included; nothing beyond
      the edge. An agent that left sees zeros and can only stay.
    - State [size², 2]: agents and prey on the grid.
    - True termination: all prey are caught or all agents have left. Won: as many prey are caught as can be.
    - Time limit: ``max_steps`` transitions, discount 1 with ``time_limit`` ``bootstrap`` (as published) and 0 with
      ``terminal``.

    Raises :class:`ConfigError` for settings that cannot be used.
    """
    for key, value, least in (
        ("size", size, 2),
        ("num_agents", num_agents, 1),
        ("num_prey", num_prey, 1),
        ("sight", sight, 0),
        ("capture_agents", capture_agents, 1),
        ("max_steps", max_steps, 1),
    ):
        check_at_least(f"env.{key}", value, least)
    for key, value in (("penalty", penalty), ("capture_reward", capture_reward), ("prey_rest", prey_rest)):
        check_kind(f"env.{key}", value, 0.0)
        require(bool(np.isfinite(value)), f"env.{key}", value, "finite")
    require(penalty <= 0, "env.penalty", penalty, "at most 0")
    require(0 <= prey_rest <= 1, "env.prey_rest", prey_rest, "between 0 and 1")
    most = min(num_agents, DIRECTIONS)
    require(
        capture_agents <= most, "env.capture_agents", capture_agents, f"at most {most}: so many can be beside a prey"
    )
    places = size * size
    fits = num_agents + num_prey <= places
    require(fits, "env.size", size, f"large enough for {num_agents} agents and {num_prey} prey; it has {places} cells")
    check_choice("env.time_limit", time_limit, TIME_LIMITS)
    rules = Rules(size, capture_agents, float(capture_reward), float(penalty), capture_leaves, float(prey_rest))
    return _make_env(Settings(rules, num_agents, num_prey, sight, max_steps, time_limit))


def _make_env(settings: Settings) -> Env:
    rules = settings.rules
    return Env(
        name=f"predator_prey{rules.penalty:+g}" if rules.penalty else "predator_prey",
        num_agents=settings.num_agents,
        num_actions=NUM_ACTIONS,
        obs_size=2 * (2 * settings.sight + 1) ** 2,
        state_size=2 * rules.size**2,
        episode_limit=settings.max_steps,
        reset=partial(reset, settings),
        step=partial(step, settings),
        has_win_rate=True,
        # With a penalty there is no useful bound.
        max_return=None if rules.penalty else abs(rules.capture_reward) * settings.most_captures,
        render=partial(drawing.render, rules, settings.sight),
        drawn_as=(".gif",),
    )


def reset(settings: Settings, key: Key[Array, ""]) -> tuple[PredatorPreyState, TimeStep]:
    """Start an episode: everybody in a random cell of their own."""
    cells = jax.random.permutation(key, settings.rules.size**2)[: settings.num_agents + settings.num_prey]
    cells = cells.astype(jnp.int32)
    hunt = Hunt(agents=cells[: settings.num_agents], prey=cells[settings.num_agents :])
    return PredatorPreyState(hunt=hunt, played=jnp.zeros((), jnp.int32)), see(settings, hunt)


def step(
    settings: Settings, key: Key[Array, ""], env_state: PredatorPreyState, action: Int[Array, " N"]
) -> tuple[PredatorPreyState, TimeStep, Outcome]:
    """Play one joint action."""
    agents, prey = settings.num_agents, settings.num_prey
    uniform = jax.random.uniform(key, (agents + 3 * prey,))
    order, prey_order, move, rest = jnp.split(uniform, np.cumsum([agents, prey, prey]))
    return play(settings, Draws(agents=order, prey=prey_order, move=move, rest=rest), env_state, action)


def play(
    settings: Settings, draws: Draws, env_state: PredatorPreyState, action: Int[Array, " N"]
) -> tuple[PredatorPreyState, TimeStep, Outcome]:
    """:func:`step` with all randomness given."""
    action = action.astype(jnp.int32)
    moved = Hunt(move_agents(settings.rules, env_state.hunt, action, draws.agents), env_state.hunt.prey)
    hunt, reward = hunt_prey(settings.rules, moved, action == CATCH, draws)
    played = env_state.played + 1
    left = jnp.sum(hunt.prey != GONE)
    over = (left == 0) | jnp.all(hunt.agents == GONE)
    last = over | (played >= settings.max_steps)
    outcome = outcome_of(settings.time_limit, reward, over, last, settings.num_prey - left >= settings.most_captures)
    return PredatorPreyState(hunt=hunt, played=played), see(settings, hunt), outcome


def see(settings: Settings, hunt: Hunt) -> TimeStep:
    """What the agents see."""
    size = settings.rules.size
    cells = jnp.arange(size * size, dtype=jnp.int32)
    windows = window(size, settings.sight, hunt.agents)
    return TimeStep(
        obs=_seen(windows, hunt).reshape(settings.num_agents, -1),
        avail_actions=available(size, hunt),
        state=_seen(cells, hunt).reshape(-1),
    )


def _seen(cells: Int[Array, "*rows"], hunt: Hunt) -> Float[Array, "*rows 2"]:
    return jnp.stack([among(cells, hunt.agents), among(cells, hunt.prey)], axis=-1).astype(jnp.float32)


def window(size: int, sight: int, agents: Int[Array, " N"]) -> Int[Array, "N cells"]:
    """The cells around each agent, row by row; ``OUTSIDE`` beyond the edge and for agents that have left."""
    shifts = np.arange(-sight, sight + 1, dtype=np.int32)
    rows = (agents // size)[:, None, None] + shifts[None, :, None]
    columns = (agents % size)[:, None, None] + shifts[None, None, :]
    inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size) & (agents != GONE)[:, None, None]
    return jnp.where(inside, rows * size + columns, OUTSIDE).reshape(agents.shape[0], -1)


def available(size: int, hunt: Hunt) -> Bool[Array, "N A"]:
    """Moves within the grid (taken cells included), staying, and catching beside a prey."""
    near = neighbours(size, hunt.agents)
    catch = jnp.any(among(near, hunt.prey), axis=1, keepdims=True)
    return jnp.concatenate([near != OUTSIDE, jnp.ones_like(catch), catch], axis=1)
