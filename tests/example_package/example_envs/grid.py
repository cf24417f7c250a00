"""Two agents on a line meet in the middle: an environment written directly to :class:`Env`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from qmix_jax.envs.base import Env
from qmix_jax.errors import ConfigError
from qmix_jax.types import Outcome, TimeStep

LEFT, STAY, RIGHT = range(3)


class GridState(NamedTuple):
    """The agents' positions, and the number of transitions played."""

    position: Int[Array, " N"]
    played: Int[Array, ""]


def make_env(size: int = 5, episode_limit: int = 10) -> Env:
    """Two agents start on random cells of a line of ``size`` cells and get a reward of 1 for standing on the same
    one.

    An agent observes its own and the other's position; the state has both. Meeting is a termination, the episode limit
    is not. Moves off the line are not available.
    """
    if size < 2:
        raise ConfigError(f"env.size={size}: must be at least 2")

    def see(position: Int[Array, " N"]) -> TimeStep:
        scaled = position.astype(jnp.float32) / (size - 1)
        can_move = jnp.stack([position > 0, jnp.ones(2, bool), position < size - 1], axis=-1)
        return TimeStep(obs=jnp.stack([scaled, scaled[::-1]]), avail_actions=can_move, state=scaled)

    def reset(key: Key[Array, ""]) -> tuple[GridState, TimeStep]:
        cells = jax.random.choice(key, size, (2,), replace=False).astype(jnp.int32)
        return GridState(position=cells, played=jnp.zeros((), jnp.int32)), see(cells)

    def step(
        key: Key[Array, ""], env_state: GridState, action: Int[Array, " N"]
    ) -> tuple[GridState, TimeStep, Outcome]:
        position = jnp.clip(env_state.position + action - STAY, 0, size - 1)
        played = env_state.played + 1
        met = position[0] == position[1]
        outcome = Outcome(
            reward=met.astype(jnp.float32),
            discount=1.0 - met.astype(jnp.float32),
            last=met | (played >= episode_limit),
            won=met,
        )
        return GridState(position=position, played=played), see(position), outcome

    return Env(
        name="grid",
        num_agents=2,
        num_actions=3,
        obs_size=2,
        state_size=2,
        episode_limit=episode_limit,
        reset=reset,
        step=step,
        has_win_rate=True,
        max_return=1.0,
    )
