"""One-shot matrix games for two agents (Claus & Boutilier 1998; Son et al. 2019)."""

from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from qmix_jax.envs.base import Env, Episode
from qmix_jax.envs.render import write_table
from qmix_jax.envs.settings import check_kind
from qmix_jax.errors import ConfigError
from qmix_jax.types import Outcome, TimeStep


def make_climbing() -> Env:
    """The climbing game: ``[[11, -30, 0], [-30, 7, 6], [0, 0, 5]]`` (rows: agent 1, columns: agent 2).

    The best joint action (0, 0) pays 11, but an agent that chooses it alone loses 30, so independent learners
    settle for 5 or 7.
    """
    return make_matrix("climbing", [[11, -30, 0], [-30, 7, 6], [0, 0, 5]])


def make_penalty(k: float = -100.0) -> Env:
    """The penalty game: ``[[10, 0, k], [0, 2, 0], [k, 0, 10]]`` with a penalty ``k`` of at most 0.

    The two best joint actions, (0, 0) and (2, 2), pay 10 each. If the agents choose different ones they pay the
    penalty, so the safe action 1 looks better the more negative ``k`` is.
    """
    check_kind("env.k", k, 0.0)
    if k > 0:
        raise ConfigError(f"env.k={k}: must be at most 0 (it is a penalty)")
    return make_matrix("penalty", [[10, 0, k], [0, 2, 0], [k, 0, 10]])


def make_qtran_game() -> Env:
    """The game of the QTRAN paper (Son et al. 2019, table 1): ``[[8, -12, -12], [-12, 0, 0], [-12, 0, 0]]``.

    The best joint action (0, 0) pays 8. No monotone function of the agents' values represents the table.
    """
    return make_matrix("qtran_game", [[8, -12, -12], [-12, 0, 0], [-12, 0, 0]])


def make_matrix(name: str, payoff: Float[Array, "A A"] | list[list[float]]) -> Env:
    """A one-shot game of two agents that pays the team ``payoff[action 1, action 2]``.

    Observations [1] and state [1] are the constant 1. The only transition is a termination (discount 0).
    """
    table = np.asarray(payoff, np.float32)
    num_actions = table.shape[0]

    def see() -> TimeStep:
        return TimeStep(
            obs=jnp.ones((2, 1), jnp.float32),
            avail_actions=jnp.ones((2, num_actions), bool),
            state=jnp.ones(1, jnp.float32),
        )

    def reset(key: Key[Array, ""]) -> tuple[Int[Array, ""], TimeStep]:
        return jnp.zeros((), jnp.int32), see()

    def step(
        key: Key[Array, ""], env_state: Int[Array, ""], action: Int[Array, " N"]
    ) -> tuple[Int[Array, ""], TimeStep, Outcome]:
        outcome = Outcome(
            reward=jnp.asarray(table)[action[0], action[1]],
            discount=jnp.zeros((), jnp.float32),
            last=jnp.ones((), bool),
            won=jnp.zeros((), bool),
        )
        return env_state + 1, see(), outcome

    return Env(
        name=name,
        num_agents=2,
        num_actions=num_actions,
        obs_size=1,
        state_size=1,
        episode_limit=1,
        reset=reset,
        step=step,
        max_return=float(np.abs(table).max()),
        render=partial(render, name, table),
    )


def render(name: str, table: np.ndarray, episode: Episode, path: Path) -> None:
    """Write the payoff table with the played entry in square brackets."""
    row, column = (int(action) for action in episode.actions[0])
    cells = [[f"{payoff:g}" for payoff in payoffs] for payoffs in table]
    cells[row][column] = f"[{cells[row][column]}]"
    rows = [(f"agent 1: {index}", *values) for index, values in enumerate(cells)]
    title = f"{name}: joint action ({row}, {column}) paid {float(episode.rewards[0]):g}"
    write_table(title, ("", *(f"agent 2: {index}" for index in range(len(table)))), rows, path)
