"""Play greedy episodes with saved policies and report the results.

Each agent acts on its own observation and history; no mixer is loaded.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from qmix_jax.acting.explore import masked_argmax
from qmix_jax.acting.greedy_episodes import Episodes, greedy_episodes
from qmix_jax.acting.hosted_rollout import HostedActor
from qmix_jax.envs.base import Env, Episode
from qmix_jax.networks.agents import NO_ACTION, AnyAgent
from qmix_jax.results.confidence import CONFIDENCE, Interval, mean_interval, rate_interval
from qmix_jax.results.team import Team
from qmix_jax.types import EnvState, Outcome, TimeStep

HOSTED_PARALLEL = 16
"""Environments in worker processes, at most; which episodes are played does not depend on it."""
RESULTS = ("return", "win_rate", "episode_length")

Row = Mapping[str, Any]
"""``seed``, ``episodes`` and an :class:`Interval`, or None, for each of ``RESULTS``."""


class Plan(NamedTuple):
    """How many episodes to play with each policy, and the evaluation seed."""

    episodes: int
    most_parallel: int = 256
    """The largest number of parallel environments; it does not affect which episodes count."""
    evaluation_seed: int = 1

    @property
    def batch_size(self) -> int:
        """The size of the batches: as few equal ones as hold all episodes."""
        return math.ceil(self.episodes / math.ceil(self.episodes / self.most_parallel))

    def keys(self, seed: int) -> Key[Array, " batches"]:
        """One key per batch. Keys differ between training seeds, so that pooled episodes are independent."""
        key = jax.random.fold_in(jax.random.key(self.evaluation_seed), seed)
        return jax.random.split(key, math.ceil(self.episodes / self.batch_size))


Run = Callable[[Any, Key[Array, ""]], Episodes]
"""Plays one batch of episodes with the given parameters and key."""


def compile_episodes(team: Team, plan: Plan) -> Run:
    """Compile the program that plays one batch of episodes."""
    if team.env.hosted is not None:
        actor = HostedActor(team.env, team.agent, min(plan.batch_size, HOSTED_PARALLEL))
        return lambda params, key: actor.greedy_episodes(params, int(jax.random.bits(key)), plan.batch_size)
    params = next(iter(team.policies.values()))
    return _greedy_episodes.lower(team.env, team.agent, params, jax.random.key(0), plan.batch_size).compile()


def play_team(team: Team, run: Run, plan: Plan) -> dict[int, Episodes]:
    """Play the episodes of every policy, by training seed. Worker processes, where the environment has some, end."""
    try:
        return {seed: play(run, params, plan.keys(seed), plan.episodes) for seed, params in team.policies.items()}
    finally:
        if team.env.hosted is not None:
            team.env.hosted.close()


def play(run: Run, params: Any, keys: Key[Array, " batches"], episodes: int) -> Episodes:
    """Play batches with ``run`` and return the first ``episodes`` episodes."""
    return _join([jax.device_get(run(params, key)) for key in keys], episodes)


def first_episode(team: Team, plan: Plan) -> Episode:
    """Record the first episode that :func:`play_team` plays, with the first policy."""
    seed, params = next(iter(team.policies.items()))
    if team.env.hosted is not None:
        actor = HostedActor(team.env, team.agent, min(plan.batch_size, HOSTED_PARALLEL))
        return actor.draw_episode(params, int(jax.random.bits(plan.keys(seed)[0])))
    return record(team.env, team.agent, params, plan.keys(seed)[0], plan.batch_size)


class Moment(NamedTuple):
    """One transition of an episode, and what was computed for it."""

    key: Key[Array, ""]
    env_state: EnvState
    step: TimeStep
    """What was seen."""
    hidden: Float[Array, "N H"]
    """After the step."""
    q: Float[Array, "N A"]
    action: Int[Array, " N"]
    outcome: Outcome
    next_env_state: EnvState


def record(env: Env, agent: AnyAgent, agent_params: Any, key: Key[Array, ""], episodes: int) -> Episode:
    """Record the first of the episodes that ``greedy_episodes`` plays with these arguments."""
    return as_episode(list(walk(env, agent, agent_params, key, episodes)))


def as_episode(moments: Sequence[Moment]) -> Episode:
    """What a renderer draws of an episode."""
    return Episode(
        env_states=[moments[0].env_state, *(moment.next_env_state for moment in moments)],
        keys=[moment.key for moment in moments],
        actions=cast(Any, [np.asarray(moment.action) for moment in moments]),
        rewards=[float(np.sum(moment.outcome.reward)) for moment in moments],
    )


def walk(env: Env, agent: AnyAgent, agent_params: Any, key: Key[Array, ""], episodes: int) -> Iterator[Moment]:
    """The transitions of the episode that :func:`record` returns."""
    reset_key, step_key = jax.random.split(key)
    env_state, step = jax.jit(env.reset)(jax.random.split(reset_key, episodes)[0])
    hidden = agent.initial_hidden()
    action = jnp.full(env.num_agents, NO_ACTION, jnp.int32)
    for time in range(env.episode_limit):
        env_key = jax.random.split(jax.random.fold_in(step_key, time), episodes)[0]
        hidden, q, action, next_state, next_step, outcome = _greedy_step(
            env, agent, agent_params, env_key, hidden, action, env_state, step
        )
        yield Moment(env_key, env_state, step, hidden, q, action, outcome, next_state)
        if outcome.last:
            break
        env_state, step = next_state, next_step


def result_rows(played: Mapping[int, Episodes], has_win_rate: bool) -> list[Row]:
    """One row per policy, and one for all their episodes pooled."""
    return [
        {
            "seed": seed,
            "episodes": len(episodes.won),
            "return": mean_interval(np.asarray(episodes.episode_return)),
            "win_rate": rate_interval(np.asarray(episodes.won)) if has_win_rate else None,
            "episode_length": mean_interval(np.asarray(episodes.episode_length)),
        }
        for seed, episodes in [*played.items(), ("pooled", _join(list(played.values())))]
    ]


def report(team: Team, plan: Plan, rows: Sequence[Row]) -> dict[str, Any]:
    """The results, ready for JSON."""
    content = [
        {name: value._asdict() if isinstance(value, Interval) else value for name, value in row.items()} for row in rows
    ]
    return {
        "env": team.env.name,
        "env_settings": team.env_settings,
        "episodes": plan.episodes,
        "evaluation_seed": plan.evaluation_seed,
        "confidence": CONFIDENCE,
        "policies": content[:-1],
        "pooled": content[-1],
    }


def result_line(row: Row) -> str:
    """One row as ``name=value`` pairs, without missing values."""
    pairs = {"seed": str(row["seed"]), "episodes": str(row["episodes"])}
    for name in RESULTS:
        if row[name] is not None:
            mean, low, high = row[name]
            numbers = {name: mean, f"{name}_low": low, f"{name}_high": high}
            pairs |= {key: f"{value:.6g}" for key, value in numbers.items() if not math.isnan(value)}
    return " ".join(f"{name}={value}" for name, value in pairs.items())


def _join(parts: Sequence[Episodes], episodes: int | None = None) -> Episodes:
    return jax.tree.map(lambda *values: np.concatenate(values)[:episodes], *parts)


_greedy_episodes = jax.jit(greedy_episodes, static_argnums=(0, 1, 4))


def _step(
    env: Env,
    agent: AnyAgent,
    agent_params: Any,
    key: Key[Array, ""],
    hidden: Float[Array, "N H"],
    last_action: Int[Array, " N"],
    env_state: EnvState,
    step: TimeStep,
) -> tuple[Float[Array, "N H"], Float[Array, "N A"], Int[Array, " N"], EnvState, TimeStep, Outcome]:
    hidden, q = cast(Any, agent.apply(agent_params, hidden, step.obs, last_action))
    action = masked_argmax(q, step.avail_actions).astype(jnp.int32)
    return hidden, q, action, *env.step(key, env_state, action)


_greedy_step = jax.jit(_step, static_argnums=(0, 1))
