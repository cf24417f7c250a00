"""The two-step game of the QMIX paper (Rashid et al. 2018, section 5)."""

from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from qmix_jax.envs.base import Env, Episode
from qmix_jax.envs.render import write_table
from qmix_jax.types import Outcome, TimeStep

FIRST, STATE_2A, STATE_2B, END = range(4)
NODE_NAMES = ("1", "2A", "2B", "end")
PAYOFF = np.zeros((3, 2, 2), np.float32)
PAYOFF[STATE_2A] = 7.0
PAYOFF[STATE_2B] = [[0.0, 1.0], [1.0, 8.0]]


class TwoStepState(NamedTuple):
    """The current node of the game: ``FIRST``, ``STATE_2A``, ``STATE_2B`` or ``END``."""

    node: Int[Array, ""]


def make_two_step() -> Env:
    """The two-step game: 2 agents, 2 actions, always 2 transitions.

    The first agent's first action picks the second state, 2A or 2B, and pays nothing. Then every joint action pays 7
    in 2A, and ``[[0, 1], [1, 8]]`` in 2B. So the best return is 8. A team whose value function cannot represent how the
    payoff depends on both actions prefers the certain 7.

    Every agent observes the game's state as a one-hot vector [3], and the global state is the same vector. After the
    last action it is all zeros: nothing bootstraps from there (the discount is 0), so it needs no feature of its own.
    Every episode ends in a termination; there is no time limit. The game is deterministic.
    """
    return Env(
        name="two_step",
        num_agents=2,
        num_actions=2,
        obs_size=3,
        state_size=3,
        episode_limit=2,
        reset=reset,
        step=step,
        max_return=8.0,
        render=render,
    )


def reset(key: Key[Array, ""]) -> tuple[TwoStepState, TimeStep]:
    """Start in the first state."""
    node = jnp.asarray(FIRST, jnp.int32)
    return TwoStepState(node=node), _see(node)


def step(
    key: Key[Array, ""], env_state: TwoStepState, action: Int[Array, " N"]
) -> tuple[TwoStepState, TimeStep, Outcome]:
    """Play one joint action."""
    node = env_state.node
    first = node == FIRST
    next_node = jnp.where(first, STATE_2A + action[0], END).astype(jnp.int32)
    outcome = Outcome(
        reward=jnp.asarray(PAYOFF)[node, action[0], action[1]],
        discount=first.astype(jnp.float32),
        last=~first,
        won=jnp.zeros((), bool),
    )
    return TwoStepState(node=next_node), _see(next_node), outcome


def _see(node: Int[Array, ""]) -> TimeStep:
    one_hot = (jnp.arange(3) == node).astype(jnp.float32)
    return TimeStep(obs=jnp.stack([one_hot, one_hot]), avail_actions=jnp.ones((2, 2), bool), state=one_hot)


def render(episode: Episode, path: Path) -> None:
    """Write the episode as a table, one row per transition."""
    rows = [
        (NODE_NAMES[int(before.node)], int(action[0]), int(action[1]), float(reward), NODE_NAMES[int(after.node)])
        for before, after, action, reward in zip(
            episode.env_states[:-1], episode.env_states[1:], episode.actions, episode.rewards, strict=True
        )
    ]
    write_table("Two-step game", ("state", "agent 1", "agent 2", "reward", "next state"), rows, path)
