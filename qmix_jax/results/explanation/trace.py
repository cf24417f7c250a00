"""One greedy episode with everything that was computed on the way."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qmix_jax.envs.base import Env, Episode
from qmix_jax.learning.values import chosen_values
from qmix_jax.mixers.base import MixerInput
from qmix_jax.results.explanation.mixers import Mixer
from qmix_jax.results.play import Moment, Plan, as_episode, walk
from qmix_jax.results.team import Team

MOST_ACTIONS = 8
"""Tables of joint actions are made for two agents with at most so many actions each."""
MOST_TABLES = 4


class Table(NamedTuple):
    """Two agents in one state: every joint action."""

    time: int
    q_tot: np.ndarray | None
    """[A, A]: the mixer's value; None without a mixer."""
    q: np.ndarray
    """[2, A]: the agents' own values."""
    reward: np.ndarray
    """[A, A]: what the environment gives for it; NaN where an action is not available."""
    action: np.ndarray
    """[2]: what was chosen."""


class Trace(NamedTuple):
    """An episode of L transitions with N agents of A actions."""

    episode: Episode
    q: np.ndarray
    """[L, N, A]"""
    avail_actions: np.ndarray
    """[L, N, A]"""
    action: np.ndarray
    """[L, N]"""
    hidden: np.ndarray
    """[L, N, H]: after the step."""
    returns: np.ndarray
    """[L]: the discounted return that came, in the units of ``q_tot``."""
    q_tot: np.ndarray | None
    """[L]; None without a mixer, as is the next."""
    slope: np.ndarray | None
    """[L, N]: ``d q_tot / d q_a``."""
    tables: list[Table]
    """Of the first states, where there are two agents with few actions."""


def trace(team: Team, plan: Plan, mixer: Mixer | None) -> Trace:
    """Play the first episode of the first policy, as ``evaluate`` plays it, and keep what was computed."""
    seed, params = next(iter(team.policies.items()))
    moments = list(walk(team.env, team.agent, params, plan.keys(seed)[0], plan.batch_size))
    rewards = np.array([float(np.sum(moment.outcome.reward)) for moment in moments])
    gamma, scale = (mixer.gamma, mixer.reward_scale) if mixer else (1.0, 1.0)
    few = team.env.num_agents == 2 and team.env.num_actions <= MOST_ACTIONS
    values = None if mixer is None else jax.device_get(_mixed(mixer, moments))
    return Trace(
        episode=as_episode(moments),
        q=_stack([moment.q for moment in moments]),
        avail_actions=_stack([moment.step.avail_actions for moment in moments]),
        action=_stack([moment.action for moment in moments]),
        hidden=_stack([moment.hidden for moment in moments]),
        returns=discounted(rewards * scale, gamma),
        q_tot=None if values is None else values[0],
        slope=None if values is None else values[1],
        tables=[_table(team.env, mixer, moment, time) for time, moment in enumerate(moments[:MOST_TABLES])]
        if few
        else [],
    )


def discounted(rewards: np.ndarray, gamma: float) -> np.ndarray:
    """The return from every step on, ``[L] -> [L]``."""
    returns, total = np.zeros(len(rewards)), 0.0
    for time in reversed(range(len(rewards))):
        total = rewards[time] + gamma * total
        returns[time] = total
    return returns


def _stack(arrays: list[Any]) -> np.ndarray:
    return np.stack([np.asarray(array) for array in arrays])


def _inputs(moment: Moment, action: Any) -> MixerInput:
    num_actions = moment.q.shape[-1]
    return MixerInput(
        q=moment.q,
        chosen=chosen_values(moment.q, action, num_actions),
        greedy=chosen_values(moment.q, moment.action, num_actions),  # what was chosen is greedy
        action=action,
        avail_actions=moment.step.avail_actions,
        state=moment.step.state,
    )


def _mixed(mixer: Mixer, moments: list[Moment]) -> Any:
    inputs = jax.tree.map(lambda *each: jnp.stack(each), *[_inputs(moment, moment.action) for moment in moments])
    return jax.vmap(mixer.q_tot)(inputs), jax.vmap(mixer.slope)(inputs)


def _table(env: Env, mixer: Mixer | None, moment: Moment, time: int) -> Table:
    count = env.num_actions
    joint = jnp.stack(jnp.meshgrid(jnp.arange(count), jnp.arange(count), indexing="ij"), axis=-1).reshape(-1, 2)
    avail = np.asarray(moment.step.avail_actions)
    _, _, outcome = jax.vmap(lambda action: env.step(moment.key, moment.env_state, action))(joint)
    allowed = avail[0][:, None] & avail[1][None, :]
    rewards = np.where(allowed, np.asarray(env.team_reward(outcome.reward), np.float64).reshape(count, count), np.nan)
    values = None
    if mixer is not None:
        q_tot = jax.vmap(lambda action: mixer.q_tot(_inputs(moment, action)))(joint)
        values = np.where(allowed, np.asarray(q_tot).reshape(count, count), np.nan)
    return Table(time, values, np.asarray(moment.q), rewards, np.asarray(moment.action))
