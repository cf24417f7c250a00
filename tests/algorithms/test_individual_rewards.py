"""``env.reward=individual``: every independent learner is trained by its own reward, and the return is the team's."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmix_jax.acting.rollout import collect
from qmix_jax.algorithms import gradient_step, loop
from qmix_jax.algorithms.loop import evaluate, init, train
from qmix_jax.errors import ConfigError
from qmix_jax.learning.values import action_values
from qmix_jax.library import make_algorithm
from qmix_jax.types import Slot

SMALL = [
    "agent.hidden_size=4",
    "rollout.num_envs=2",
    "rollout.length=7",
    "replay.batch_size=2",
    "learner.updates_per_iteration=1",
    "learner.warmup_env_steps=0",
    "evaluation.interval_env_steps=24",
    "evaluation.episodes=3",
]
SPREAD = ["env=mpe", "env.task=simple_spread", "env.max_steps=3"]
COUNTING = ["env=custom", "env._target_=broken_envs.make_env", "+env.fault=each"]
"""Agents are paid 1 and 10 times their actions."""


@pytest.fixture(autouse=True)
def broken_envs(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "envs"))
    yield
    sys.modules.pop("broken_envs", None)


def built(*arguments: str):
    return make_algorithm([*SMALL, *arguments])


def played(algorithm) -> tuple[Slot, object]:
    state = jax.jit(lambda key: init(algorithm, key))(jax.random.key(0))
    policy = (algorithm.env, algorithm.agent, state.learner.online.agent, jax.random.key(1), jnp.float32(1))
    return jax.jit(lambda: collect(*policy, 4, 7, True))()


@pytest.mark.parametrize("environment", [SPREAD, COUNTING], ids=["jaxmarl", "custom"])
def test_the_rewards_are_the_agents_own_and_nothing_else_differs(environment):
    prefix = "" if environment is SPREAD else "+"
    own, own_stats = played(built(*environment, f"{prefix}env.reward=individual", "algorithm=iql")[0])
    team, team_stats = played(built(*environment, f"{prefix}env.reward=sum", "algorithm=iql")[0])
    num_agents = own.action.shape[-1]
    assert own.reward.shape == (*team.reward.shape, num_agents)
    np.testing.assert_allclose(own.reward.sum(axis=-1), team.reward, rtol=1e-6)
    np.testing.assert_allclose(own_stats.episode_return, team_stats.episode_return, rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, own._replace(reward=0), team._replace(reward=0))
    if environment is COUNTING:
        paid = np.asarray(own.action) * np.array([1, 10]) * np.asarray(own.mask)[..., None]
        np.testing.assert_array_equal(own.reward, paid)


def lambda_returns(reward, discount, mask, value, gamma, lam):
    """One agent in one sequence, backwards, as the equation is written."""
    target = np.array(value, np.float64)
    for t in reversed(range(len(reward) - 1)):
        if mask[t]:
            target[t] = reward[t] + gamma * discount[t] * ((1 - lam) * value[t + 1] + lam * target[t + 1])
    return target


@pytest.mark.parametrize("lam", [0.0, 0.7])
def test_each_agent_learns_from_the_lambda_returns_of_its_own_rewards(lam):
    """The loss of a minibatch, against loops over agents and sequences."""
    arguments = [*COUNTING, "+env.reward=individual", "algorithm=iql", f"target.td_lambda={lam}"]
    algorithm, hyper = built(
        *arguments, "replay.capacity=6", "learner.minibatch_parts=1", "optimizer.learning_rate=0.1"
    )
    state = jax.jit(lambda key: init(algorithm, key))(jax.random.key(3))
    slots, _ = played(algorithm)
    state = jax.jit(
        lambda state: loop.collect_and_store(algorithm, hyper, state, jax.random.key(1), (slots, zero_stats(), None))[0]
    )(state)
    learner = state.learner._replace(target=jax.tree.map(lambda x: x * 0.5, state.learner.online))
    minibatch = loop.sample(algorithm, hyper, state.replay, jax.random.key(2))
    loss, info = jax.jit(lambda: gradient_step.loss(algorithm, hyper, learner.online, learner, minibatch))()

    batch = jax.device_get(minibatch.slots)
    online = np.asarray(action_values(algorithm.agent, learner.online.agent, minibatch.slots, None), np.float64)
    target = np.asarray(action_values(algorithm.agent, learner.target.agent, minibatch.slots, None), np.float64)
    total, errors = 0.0, 0.0
    for m in range(batch.mask.shape[1]):
        for agent in range(2):
            taken = [online[t, m, agent, batch.action[t, m, agent]] for t in range(7)]
            value = [target[t, m, agent, online[t, m, agent].argmax()] for t in range(7)]
            y = lambda_returns(
                batch.reward[:, m, agent], batch.discount[:, m], batch.mask[:, m], value, float(hyper.gamma), lam
            )
            error = (np.array(taken) - y) * batch.mask[:, m]
            total, errors = total + (error**2).sum(), errors + abs(error).sum()
    count = batch.mask.sum() * 2
    np.testing.assert_allclose(loss, total / count, rtol=1e-5)
    np.testing.assert_allclose(info.metrics["td_error"], errors / count, rtol=1e-5)
    assert info.max_reward == batch.reward.max() > 2, "of one agent, not of the team"


def zero_stats():
    from qmix_jax.acting.rollout import RolloutStats

    return RolloutStats(*(jnp.zeros((), jnp.int32),) * 2, *(jnp.zeros(()),) * 3)


@pytest.mark.parametrize(
    "more",
    [
        ["algorithm=iql"],
        ["algorithm=iql", "rollout.sequences=continue", "learner.burn_in=2"],
        ["algorithm=iql", "reward.standardise=true", "reward.standardise_returns=true"],
        ["algorithm=iql", "replay=prioritised", "replay.batch_size=2"],
        ["algorithm=pqn_iql", "replay.memory_window=0"],
    ],
    ids=lambda more: more[-1],
)
def test_whole_programs_train(more):
    algorithm, hyper = built(*COUNTING, "+env.reward=individual", *more)
    state, metrics = jax.jit(lambda key: train(algorithm, hyper, key, 2))(jax.random.key(0))
    assert np.isfinite(np.asarray(metrics["loss"])[1:]).all()
    greedy = evaluate(algorithm, state.learner.online.agent)
    assert greedy.episode_length == 3
    assert greedy.episode_return in [3 * (a + 10 * b) for a in range(3) for b in range(3)] or greedy.episode_return > 0


@pytest.mark.parametrize("algorithm", ["qmix", "vdn", "qplex", "pqn_vdn", "ow_qmix", "qtran"])
def test_a_mixer_is_refused_in_one_line(algorithm):
    with pytest.raises(
        ConfigError, match=r"^env.reward=individual: qmix_jax.mixers.* learns one value .*algorithm=iql"
    ):
        make_algorithm([*SPREAD, "env.reward=individual", f"algorithm={algorithm}", "agent.hidden_size=4"])


def test_a_game_that_pays_the_team_is_refused():
    with pytest.raises(ConfigError, match=r"^env.reward=individual: unknown; .* returns one team reward already"):
        built("env=custom", "env._target_=broken_envs.make_env", "+env.reward=individual", "algorithm=iql")
