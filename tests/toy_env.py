"""A small counting environment whose every value can be predicted by hand.

The reset key draws one of several kinds of episodes; the kind sets the number of transitions and how the episode ends.
An agent observes ``[time, kind, agent]`` and the state is ``[time, kind]``, so a stored slot tells where it comes from.
An unavailable action, or a step after the end, gives a reward that no test can overlook.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from qmix_jax.envs.base import Env
from qmix_jax.types import Outcome, TimeStep

ILLEGAL = -1000.0
BEYOND = 5000.0


class Kind(NamedTuple):
    """One kind of episode: ``length`` transitions, then a termination (``terminal``) or a time limit."""

    length: int
    terminal: bool


class ToyState(NamedTuple):
    time: Int[Array, ""]
    kind: Int[Array, ""]


def make_toy(
    kinds: Sequence[Kind] = (Kind(3, True), Kind(2, False)),
    num_agents: int = 2,
    num_actions: int = 3,
    has_win_rate: bool = True,
) -> Env:
    lengths = jnp.array([kind.length for kind in kinds])
    terminals = jnp.array([kind.terminal for kind in kinds])
    agents, actions = jnp.arange(num_agents), jnp.arange(num_actions)

    def see(state: ToyState) -> TimeStep:
        shared = jnp.stack([state.time, state.kind]).astype(jnp.float32)
        obs = jnp.concatenate([jnp.tile(shared[None], (num_agents, 1)), agents[:, None].astype(jnp.float32)], axis=1)
        avail = (actions[None] + agents[:, None] + state.time) % num_actions != 0
        return TimeStep(obs=obs, avail_actions=avail, state=shared)

    def reset(key):
        state = ToyState(time=jnp.int32(0), kind=jax.random.randint(key, (), 0, len(kinds)))
        return state, see(state)

    def step(key, state, action):
        legal = jnp.take_along_axis(see(state).avail_actions, action[:, None], axis=1).all()
        reward = 1.0 + state.time + 0.25 * (action * (1 + agents)).sum()
        beyond = state.time >= lengths[state.kind]
        following = state._replace(time=state.time + 1)
        last = following.time >= lengths[state.kind]
        terminal = last & terminals[state.kind]
        outcome = Outcome(
            reward=jnp.where(beyond, BEYOND, jnp.where(legal, reward, ILLEGAL)).astype(jnp.float32),
            discount=1.0 - terminal.astype(jnp.float32),
            last=last,
            won=beyond | (terminal & (action.sum() % 2 == 0)),
        )
        return following, see(following), outcome

    return Env(
        name="toy",
        num_agents=num_agents,
        num_actions=num_actions,
        obs_size=3,
        state_size=2,
        episode_limit=max(kind.length for kind in kinds),
        reset=reset,
        step=step,
        has_win_rate=has_win_rate,
    )


def expected_avail(time: int, num_agents: int = 2, num_actions: int = 3) -> np.ndarray:
    """At every time step each agent lacks one action."""
    return (np.arange(num_actions)[None] + np.arange(num_agents)[:, None] + time) % num_actions != 0


def expected_reward(time: int, action: np.ndarray) -> float:
    return 1.0 + time + 0.25 * float((action * np.arange(1, len(action) + 1)).sum())


def expected_win(kind: Kind, last_action: np.ndarray) -> bool:
    return kind.terminal and int(last_action.sum()) % 2 == 0
