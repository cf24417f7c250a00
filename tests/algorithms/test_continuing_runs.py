"""Runs whose sequences continue learn what fresh ones never see; devices, seeds and resuming change nothing."""

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from qmix_jax import library
from qmix_jax.acting.rollout import draw_all
from qmix_jax.algorithms import loop as qmix
from qmix_jax.algorithms.base import Algorithm, Sizes
from qmix_jax.algorithms.value_decomposition import ValueDecomposition
from qmix_jax.envs.base import Env
from qmix_jax.learning import optimizers, targets
from qmix_jax.mixers.vdn import VDNMixer
from qmix_jax.networks.agents import RecurrentAgent
from qmix_jax.running.waves import Waves
from qmix_jax.types import HyperParams, Outcome, TimeStep

STEPS, LATE = 16, 6


class LateState(NamedTuple):
    time: Int[Array, ""]


def make_late() -> Env:
    """Episodes of ``STEPS`` steps; in each of the last ``LATE`` both agents must choose 0 and 1 in turn, for 1 each."""

    def see(time: Int[Array, ""]) -> TimeStep:
        now = (jnp.arange(STEPS) == time).astype(jnp.float32)
        return TimeStep(obs=jnp.stack([now, now]), avail_actions=jnp.ones((2, 2), bool), state=now)

    def reset(key):
        return LateState(jnp.int32(0)), see(jnp.int32(0))

    def step(key, state, action):
        right = (action == state.time % 2).all() & (state.time >= STEPS - LATE)
        following = state.time + 1
        last = following >= STEPS
        outcome = Outcome(
            reward=right.astype(jnp.float32),
            discount=1.0 - last.astype(jnp.float32),
            last=last,
            won=jnp.zeros((), bool),
        )
        return LateState(following), see(following), outcome

    return Env("late", 2, 2, STEPS, STEPS, STEPS, reset, step, max_return=float(LATE))


SIZES = Sizes(
    num_envs=8,
    length=7,
    auto_reset=True,
    capacity=64,
    batch_size=16,
    updates_per_iteration=2,
    warmup_iterations=2,
    iterations_per_epoch=75,
    evaluation_episodes=1,
    evaluation_seed=0,
    continues=True,
    burn_in=2,
)
ALGORITHM = Algorithm(
    method=ValueDecomposition(),
    env=make_late(),
    agent=RecurrentAgent(obs_size=STEPS, num_agents=2, num_actions=2, hidden_size=16),
    mixer=VDNMixer(num_agents=2, state_size=STEPS),
    target=targets.td_lambda,
    optimizer=optimizers.adam(),
    sizes=SIZES,
)
HYPER = HyperParams(
    learning_rate=jnp.float32(0.01),
    learning_rate_end=jnp.float32(0.01),
    learning_rate_steps=jnp.float32(1),
    gamma=jnp.float32(0.9),
    td_lambda=jnp.float32(0.5),
    exploration_start=jnp.float32(1.0),
    exploration_end=jnp.float32(0.1),
    exploration_steps=jnp.float32(3000.0),
    target_update_interval=jnp.int32(20),
    target_tau=jnp.float32(0.25),
    max_grad_norm=jnp.float32(10.0),
    reward_scale=jnp.float32(1.0),
    priority_alpha=jnp.float32(0.0),
    priority_beta=jnp.float32(0.0),
    priority_beta_steps=jnp.float32(1.0),
)


def returns(sizes: Sizes) -> np.ndarray:
    """Greedy returns of two seeds after one epoch."""
    train = functools.partial(qmix.train, ALGORITHM._replace(sizes=sizes), HYPER, num_epochs=1)
    keys = jax.vmap(jax.random.key)(jnp.arange(2))
    return np.asarray(jax.jit(jax.vmap(train))(keys)[1]["eval_return"])[:, 0]


def test_continuing_sequences_learn_what_fresh_ones_never_see():
    """Fresh sequences see the first 6 steps of an episode, and rewards come in the last 6 of 16."""
    np.testing.assert_array_equal(returns(SIZES), LATE)
    assert (returns(SIZES._replace(continues=False, burn_in=0)) < LATE - 1).all()


def test_the_first_two_episodes_of_an_environment_start_differently():
    """``fold_in(key, 0)`` is ``split(key)[0]``: actors and the first iteration must not share a key."""

    def reset(key):
        state, step = ALGORITHM.env.reset(key)
        return state, step._replace(state=jnp.full(STEPS, jax.random.uniform(key)))

    algorithm = ALGORITHM._replace(env=ALGORITHM.env._replace(reset=reset))
    state = jax.jit(functools.partial(qmix.init, algorithm))(jax.random.key(0))
    collect_key = jax.random.split(state.key, 2 + SIZES.updates_per_iteration)[0]
    following = draw_all(algorithm.env, collect_key, SIZES.num_envs, SIZES.length, 2).begin[1].state[..., 0]
    assert state.actors is not None
    begun = np.append(state.actors.actors.step.state[:, 0], following)
    assert len(np.unique(begun)) == begun.size


LONG, LAST = 1000, 100


def make_long() -> Env:
    """1000 steps; in each of the last 100 both agents must choose 0 and 1 in turn, for 1 each.

    They see a clock: whether the time has come, and whether the step is odd.
    """

    def see(time: Int[Array, ""]) -> TimeStep:
        late = (time >= LONG - LAST).astype(jnp.float32)
        now = jnp.stack([late, late * (time % 2), 1.0 - late])
        return TimeStep(obs=jnp.stack([now, now]), avail_actions=jnp.ones((2, 2), bool), state=now)

    def reset(key):
        return LateState(jnp.int32(0)), see(jnp.int32(0))

    def step(key, state, action):
        right = (action == state.time % 2).all() & (state.time >= LONG - LAST)
        last = state.time + 1 >= LONG
        outcome = Outcome(
            reward=right.astype(jnp.float32),
            discount=1.0 - last.astype(jnp.float32),
            last=last,
            won=jnp.zeros((), bool),
        )
        return LateState(state.time + 1), see(state.time + 1), outcome

    return Env("long", 2, 2, 3, 3, LONG, reset, step, max_return=float(LAST))


def test_episodes_of_1000_steps_that_are_paid_at_their_end_are_learned_by_continuing_sequences_alone():
    """Sequences of 101 slots. Fresh ones never see a reward, so their values stay at nothing."""
    sizes = SIZES._replace(
        num_envs=4, length=101, capacity=80, batch_size=8, iterations_per_epoch=60, updates_per_iteration=8
    )
    env = make_long()
    algorithm = ALGORITHM._replace(
        env=env,
        agent=RecurrentAgent(obs_size=3, num_agents=2, num_actions=2, hidden_size=16),
        mixer=VDNMixer(num_agents=2, state_size=3),
    )
    hyper = HYPER._replace(exploration_steps=jnp.float32(10_000))

    def learned(sizes: Sizes) -> tuple[float, float]:
        train = functools.partial(qmix.train, algorithm._replace(sizes=sizes), hyper, num_epochs=1)
        metrics = jax.jit(train)(jax.random.key(0))[1]
        return float(metrics["eval_return"][0]), float(metrics["target_mean"][0])

    assert learned(sizes)[0] >= 0.9 * LAST
    found, target = learned(sizes._replace(continues=False, burn_in=0))
    assert found <= LAST / 2, "a rule that does not know the turns is right half of the time at most"
    assert abs(target) < 0.05


def compiled_waves(seeds: list[int], devices: list, **sizes: int) -> Waves:
    algorithm = ALGORITHM._replace(sizes=SIZES._replace(iterations_per_epoch=4, **sizes), prioritised=True)
    waves = Waves(algorithm, HYPER, seeds, None, devices)
    waves.compile()
    return waves


ON_DEVICES = """
import jax
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
import sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/algorithms"]
from test_continuing_runs import *

def states(waves, epochs=2):
    metrics = [waves.epoch() for _ in range(epochs)]
    return metrics, waves.snapshot()

def compare(one, other, **tolerance):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, **(tolerance or {"rtol": 0, "atol": 0}))

one = compiled_waves([1, 2], jax.devices()[:1])
metrics, after = states(one)
assert after.actors.actors.env_state.time.any() and after.actors.actors.hidden.any()
assert (after.learner.updates > 0).all()
compare((metrics, after), states(compiled_waves([1, 2], jax.devices())))

# From a snapshot, actors included, the rest is the same bit for bit.
again = compiled_waves([1, 2], jax.devices()[:1])
first = [again.epoch()]
saved = again.snapshot()
again.epoch()
again.restore(saved, epochs=1)
compare((metrics, after), (first + [again.epoch()], again.snapshot()))
fresh = saved.actors.actors
shifted = saved.actors._replace(actors=fresh._replace(hidden=fresh.hidden + 1))
again.restore(saved._replace(actors=shifted), epochs=1)
again.epoch()
assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (after.replay, again.snapshot().replay))))

# One seed alone is that seed beside another, and so it is where two devices share it, up to rounding.
both = compiled_waves([2], jax.devices(), minibatch_parts=2)
assert both.algorithm.sizes.devices_per_seed == 2
alone = states(both)[1].learner.online
compare(jax.tree.map(lambda x: x[1:], after.learner.online), alone, rtol=1e-4, atol=1e-5)
"""


def test_devices_seeds_and_snapshots_change_nothing():
    done = subprocess.run(
        [sys.executable, "-c", ON_DEVICES, str(Path(__file__).parents[1])],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_resumed_run_is_the_run_that_was_not_interrupted(tmp_path):
    """Sequences of five slots in episodes of three: they end in mid-episode."""
    settings = [
        "env=two_step",
        "rollout.sequences=continue",
        "rollout.length=5",
        "learner.burn_in=3",
        "rollout.num_envs=5",
        "replay.batch_size=8",
        "replay.capacity=40",
        "agent.hidden_size=8",
        "optimizer.learning_rate_end=null",
        "exploration.epsilon_steps=100",
        "learner.warmup_env_steps=0",
        "evaluation.interval_env_steps=60",
        "evaluation.episodes=1",
        "checkpoint.every_minutes=0",
        "logger.wandb.mode=disabled",
        "logger.plot=false",
        "logger.progress=false",
    ]

    def rows(name: str) -> list[str]:
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        return [line[: line.index('"seconds"')] + line[line.index(",", line.index('"seconds"')) :] for line in lines]

    library.run([*settings, "total_env_steps=180", f"run_dir={tmp_path / 'whole'}"])
    library.run([*settings, "total_env_steps=60", f"run_dir={tmp_path / 'half'}"])
    library.run([f"resume={tmp_path / 'half'}", "total_env_steps=180"])
    assert len(rows("whole")) >= 3
    assert rows("half") == rows("whole")
    name = Path("policies/seed_0/final.safetensors")
    assert (tmp_path / "half" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
