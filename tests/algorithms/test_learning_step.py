"""The whole loop on the counting environment: iterations, updates, runs, seeds side by side, best and saved policy."""

import functools
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy_env import Kind, make_toy

from qmix_jax.algorithms import loop as qmix
from qmix_jax.algorithms import pieces
from qmix_jax.algorithms.base import Algorithm, Sizes, TargetUpdate
from qmix_jax.algorithms.gradient_step import learn, loss
from qmix_jax.algorithms.metrics import better, target_lag
from qmix_jax.algorithms.value_decomposition import ValueDecomposition
from qmix_jax.errors import ConfigError
from qmix_jax.learning import optimizers, targets
from qmix_jax.learning.values import action_values
from qmix_jax.mixers.independent import IndependentMixer
from qmix_jax.mixers.qmix import QMIXMixer
from qmix_jax.mixers.vdn import VDNMixer
from qmix_jax.networks.agents import RecurrentAgent
from qmix_jax.replay.packing import unpack
from qmix_jax.replay.sequences import Minibatch
from qmix_jax.results.policies import load_policy, save_policy
from qmix_jax.running.waves import Waves
from qmix_jax.types import Best, Evaluation, HyperParams, Learner, TrainState

ENV = make_toy((Kind(3, True), Kind(2, False)))
SIZES = Sizes(
    num_envs=2,
    length=6,
    auto_reset=True,
    capacity=5,
    batch_size=3,
    updates_per_iteration=2,
    warmup_iterations=2,
    iterations_per_epoch=2,
    evaluation_episodes=4,
    evaluation_seed=7,
)
ALGORITHM = Algorithm(
    method=ValueDecomposition(),
    env=ENV,
    agent=RecurrentAgent(obs_size=3, num_agents=2, num_actions=3, hidden_size=4),
    mixer=QMIXMixer(num_agents=2, state_size=2, embed_size=3),
    target=targets.td_lambda,
    optimizer=optimizers.adam(),
    sizes=SIZES,
)
HYPER = HyperParams(
    learning_rate=jnp.float32(0.1),
    learning_rate_end=jnp.float32(0.1),
    learning_rate_steps=jnp.float32(1),
    gamma=jnp.float32(0.9),
    td_lambda=jnp.float32(0.5),
    exploration_start=jnp.float32(1.0),
    exploration_end=jnp.float32(0.2),
    exploration_steps=jnp.float32(20.0),
    target_update_interval=jnp.int32(3),
    target_tau=jnp.float32(0.25),
    max_grad_norm=jnp.float32(10.0),
    reward_scale=jnp.float32(1.0),
    priority_alpha=jnp.float32(0.0),
    priority_beta=jnp.float32(0.0),
    priority_beta_steps=jnp.float32(1.0),
)
SEED, OTHER_SEED = 3, 4
ITERATIONS, EPOCHS = 4, 4
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}
"""How far the same seed may be from itself in another program: products of matrices are rounded in another order."""


def plain(x: Any) -> np.ndarray:
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if is_key else x)


def assert_equal(one: Any, other: Any) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(plain(x), plain(y)), one, other)


def assert_close(one: Any, other: Any) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(plain(x), plain(y), **TOLERANCE), one, other)


def differ(one: Any, other: Any) -> bool:
    return any((plain(x) != plain(y)).any() for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def seeds_of(tree: Any, k: int) -> Any:
    return jax.tree.map(lambda x: x[k], tree)


@pytest.fixture(scope="module")
def step() -> Any:
    return jax.jit(functools.partial(qmix.iterate, ALGORITHM))


@pytest.fixture(scope="module")
def history(step) -> list[tuple[TrainState, dict]]:
    """The state before training and after each of some iterations, with the iteration's metrics."""
    states = [(jax.jit(functools.partial(qmix.init, ALGORITHM))(jax.random.key(SEED)), {})]
    for iteration in range(ITERATIONS):
        states.append(step(HYPER, states[-1][0], jnp.int32(iteration)))
    return states


@pytest.fixture(scope="module")
def whole_run():
    """``train`` as one program, by seed."""
    program = jax.jit(functools.partial(qmix.train, ALGORITHM), static_argnames="num_epochs")
    return lambda seed: program(HYPER, jax.random.key(seed), num_epochs=EPOCHS)


def compiled_waves(seeds: list[int], *layout: Any) -> Waves:
    waves = Waves(ALGORITHM, HYPER, seeds, *layout)
    waves.compile()
    return waves


class Epochs:
    """What a user of ``Waves`` sees of one seed after each epoch."""

    def __init__(self) -> None:
        waves = compiled_waves([SEED], None, jax.devices()[:1])
        self.metrics, self.agents, self.best = [], [], []
        for _ in range(EPOCHS):
            self.metrics.append(seeds_of(waves.epoch(), 0))
            agent, best = waves.online().agent, waves.best()
            self.agents.append(seeds_of(agent, 0))
            self.best.append(seeds_of(best, 0))


@pytest.fixture(scope="module")
def epochs() -> Epochs:
    return Epochs()


# One iteration


def test_a_fresh_state_has_equal_networks_and_nothing_stored(history):
    state, _ = history[0]
    assert_equal(state.learner.target, state.learner.online)
    assert (state.replay.size, state.env_steps, state.episodes, state.learner.updates) == (0, 0, 0, 0)


def test_every_iteration_stores_its_sequences(history):
    for count, (state, _) in enumerate(history):
        assert state.replay.size == min(count * SIZES.num_envs, SIZES.capacity)
    # While nothing has been overwritten, the transitions in the replay are the steps that were made.
    assert [int(state.env_steps) for state, _ in history[:3]] == [
        int(unpack(ALGORITHM.storage, s.replay.slots).mask.sum()) for s, _ in history[:3]
    ]
    assert history[-1][0].env_steps > history[2][0].env_steps > 0


def test_warm_up_makes_no_updates(history):
    for iteration in range(ITERATIONS):
        (before, _), (after, metrics) = history[iteration : iteration + 2]
        warm = iteration >= SIZES.warmup_iterations
        assert differ(after.learner.online, before.learner.online) == warm
        assert int(after.learner.updates - before.learner.updates) == (SIZES.updates_per_iteration if warm else 0)
        assert np.isfinite(metrics["loss"]) == warm


def test_epsilon_falls_with_the_environment_steps(history):
    expected = [1.0 - 0.8 * min(int(state.env_steps) / 20, 1) for state, _ in history[:-1]]
    np.testing.assert_allclose([float(metrics["epsilon"]) for _, metrics in history[1:]], expected, rtol=1e-5)
    assert expected[0] == 1.0
    assert expected[1] > expected[2]
    assert expected[-1] == pytest.approx(0.2)


def test_the_learning_rate_falls_with_the_environment_steps(history, step):
    last = jnp.int32(ITERATIONS - 1)
    before, after = history[-2][0], history[-1][0]
    halfway = HYPER._replace(learning_rate_end=jnp.float32(0.05), learning_rate_steps=2.0 * after.env_steps)
    state, metrics = step(halfway, before, last)
    assert float(metrics["learning_rate"]) == pytest.approx(0.075)
    assert differ(state.learner.online, after.learner.online)

    over = HYPER._replace(learning_rate_end=jnp.float32(0.0))
    state, metrics = step(over, before, last)
    assert float(metrics["learning_rate"]) == 0.0
    assert_equal(state.learner.online, before.learner.online)
    assert float(history[-1][1]["learning_rate"]) == pytest.approx(0.1)


def test_every_iteration_uses_new_keys(history):
    keys = [tuple(plain(state.key).tolist()) for state, _ in history]
    assert len(set(keys)) == len(keys)


def test_an_iteration_for_one_seed_does_not_change_when_another_seed_is_added(history):
    """Two seeds in a ``vmap`` against one alone, over warm-up and learning; ``TOLERANCE`` apart."""
    step = jax.jit(jax.vmap(functools.partial(qmix.iterate, ALGORITHM), in_axes=(None, 0, None)))
    keys = jax.vmap(jax.random.key)(jnp.array([OTHER_SEED, SEED], jnp.uint32))
    both = jax.jit(jax.vmap(functools.partial(qmix.init, ALGORITHM)))(keys)
    for iteration in range(ITERATIONS):
        both, metrics = step(HYPER, both, jnp.int32(iteration))
        assert_close((seeds_of(both, 1), seeds_of(metrics, 1)), history[iteration + 1])
    assert differ(seeds_of(both, 0).learner.online, seeds_of(both, 1).learner.online)


# Runs


def test_the_same_seed_gives_the_same_run_bit_for_bit(whole_run):
    state, metrics = whole_run(SEED)
    assert_equal((state, metrics), whole_run(SEED))
    assert differ(state.learner.online, whole_run(OTHER_SEED)[0].learner.online)


def test_train_as_one_function_equals_epoch_by_epoch(whole_run, epochs):
    state, metrics = whole_run(SEED)
    assert metrics["loss"].shape == (EPOCHS,)
    for number in range(EPOCHS):
        assert_close(seeds_of(metrics, number), epochs.metrics[number])
    assert_close((state.learner.online.agent, state.best), (epochs.agents[-1], epochs.best[-1]))


def test_the_best_policy_is_that_of_the_best_evaluation_so_far(epochs):
    scores = [(m["eval_win_rate"], m["eval_return"]) for m in epochs.metrics]
    assert len(set(scores)) > 1
    for number, best in enumerate(epochs.best):
        winner = max(range(number + 1), key=lambda epoch: (scores[epoch], -epoch))
        assert_equal(best.agent, epochs.agents[winner])
        assert (best.evaluation.win_rate, best.evaluation.episode_return) == scores[winner]
        assert best.env_steps == epochs.metrics[winner]["env_steps"]


@pytest.mark.parametrize(
    ("has_win_rate", "old", "new", "is_better"),
    [
        (True, (0.5, 9.0), (0.6, 1.0), True),
        (True, (0.5, 9.0), (0.5, 9.5), True),
        (True, (0.5, 9.0), (0.4, 9.5), False),
        (True, (0.5, 9.0), (0.5, 9.0), False),
        (False, (np.nan, 9.0), (np.nan, 9.5), True),
        (False, (np.nan, 9.0), (np.nan, 8.5), False),
    ],
)
def test_better_is_a_higher_win_rate_and_then_a_higher_return(has_win_rate, old, new, is_better):
    def evaluation(win_rate: float, episode_return: float) -> Evaluation:
        return Evaluation(*(jnp.float32(x) for x in (episode_return, win_rate, 1.0)))

    state = SimpleNamespace(
        best=Best(agent=jnp.array(0), evaluation=evaluation(*old), env_steps=jnp.array(10)),
        learner=SimpleNamespace(online=SimpleNamespace(agent=jnp.array(1))),
        env_steps=jnp.array(20),
    )
    best = better(ENV._replace(has_win_rate=has_win_rate), state, evaluation(*new))
    assert (int(best.agent), int(best.env_steps)) == ((1, 20) if is_better else (0, 10))


SEEDS_IN_WAVES = """
import jax
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
import sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/algorithms"]
from test_learning_step import *

def run(seeds, devices, seeds_per_device):
    waves = compiled_waves(seeds, seeds_per_device, jax.devices()[:devices])
    return [waves.epoch() for _ in range(2)], (waves.online().agent, waves.best())

alone = run([SEED], 1, None)
for seeds, devices, seeds_per_device, at in [
    ([OTHER_SEED, SEED], 2, None, 1),  # a device each
    ([OTHER_SEED, SEED], 1, 2, 1),  # side by side on one device
    ([OTHER_SEED, 8, SEED], 2, None, 2),  # in the second wave, beside padding
]:
    together = run(seeds, devices, seeds_per_device)
    assert all(x.shape[0] == len(seeds) for x in jax.tree.leaves(together))
    assert_close(jax.tree.map(lambda x: x[at], together), jax.tree.map(lambda x: x[0], alone))
    assert differ(jax.tree.map(lambda x: x[0], together), jax.tree.map(lambda x: x[at], together))
"""


@pytest.mark.slow
def test_a_seed_does_not_depend_on_its_wave_or_device():
    """One seed alone against the same seed beside others, ``TOLERANCE`` apart; in a process with two CPU devices."""
    done = subprocess.run(
        [sys.executable, "-c", SEEDS_IN_WAVES, str(Path(__file__).parents[1])],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# One update


@pytest.fixture(scope="module")
def batch(history) -> Minibatch:
    return qmix.sample(ALGORITHM, HYPER, history[-1][0].replay, jax.random.key(0))


@pytest.fixture(scope="module")
def learner(history) -> Learner:
    """Two different random networks, and an optimiser that passes gradients on as they are."""
    numbers = np.random.default_rng(0)
    shapes = history[0][0].learner.online
    online, target = (jax.tree.map(lambda x: jnp.float32(numbers.normal(size=x.shape)), shapes) for _ in range(2))
    return history[0][0].learner._replace(online=online, target=target, opt_state=optax.EmptyState())


@pytest.fixture(scope="module")
def descend():
    algorithm = ALGORITHM._replace(optimizer=optax.identity())
    return jax.jit(functools.partial(learn, algorithm))


def test_hard_updates_copy_the_online_network_every_interval(descend, learner, batch):
    for count in range(1, 7):
        before = learner.target
        learner, _, _ = descend(HYPER, learner, batch)
        assert learner.updates == count
        assert_equal(learner.target, learner.online if count % 3 == 0 else before)
        assert differ(learner.online, before)


def test_soft_updates_move_the_target_network_by_tau_every_time(learner, batch):
    algorithm = ALGORITHM._replace(optimizer=optax.identity(), target_update=TargetUpdate.SOFT)
    after, _, _ = jax.jit(functools.partial(learn, algorithm))(HYPER, learner, batch)
    expected = jax.tree.map(lambda new, old: 0.25 * new + 0.75 * old, after.online, learner.target)
    assert_close(after.target, expected)
    assert differ(after.target, learner.target)


def test_gradients_are_clipped_together_and_their_norm_is_reported_before(descend, learner, batch):
    def change(max_norm: float) -> tuple[Any, float]:
        after, metrics, _ = descend(HYPER._replace(max_grad_norm=jnp.float32(max_norm)), learner, batch)
        steps = jax.tree.map(lambda new, old: (old - new) / HYPER.learning_rate, after.online, learner.online)
        return steps, float(metrics["grad_norm"])

    free, norm = change(1e6)
    assert norm > 0
    assert float(optax.tree.norm(free)) == pytest.approx(norm, rel=1e-4)
    clipped, norm_before = change(norm / 4)
    assert norm_before == norm
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y / 4, rtol=1e-3, atol=1e-4 * norm), clipped, free)


def with_reward(batch: Minibatch, reward: float) -> Minibatch:
    return batch._replace(slots=batch.slots._replace(reward=jnp.full_like(batch.slots.reward, reward)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_no_number_freezes_the_learner_for_good(descend, learner, batch, bad):
    first, _, _ = descend(HYPER, learner, batch)
    frozen, metrics, priority = descend(HYPER, first, with_reward(batch, bad))
    assert not np.isfinite(metrics["loss"])
    np.testing.assert_array_equal(priority, np.zeros_like(priority))
    assert (first.nonfinite_update, frozen.nonfinite_update) == (-1, 2)
    later, metrics, _ = descend(HYPER, frozen, batch)
    assert np.isfinite(metrics["loss"])
    assert (later.nonfinite_update, later.updates) == (2, 3)
    for after in (frozen, later):
        counts = {"updates": first.updates, "nonfinite_update": first.nonfinite_update}
        assert_equal(after._replace(**counts), first)


def test_a_step_to_parameters_that_are_no_numbers_is_not_taken(descend, learner, batch):
    frozen, metrics, _ = descend(HYPER._replace(learning_rate=jnp.float32(1e38)), learner, batch)
    assert np.isfinite(metrics["loss"])
    assert frozen.nonfinite_update == 1
    assert_equal(frozen.online, learner.online)


def test_other_seeds_go_on_unchanged_beside_a_frozen_one(learner, batch):
    algorithm = ALGORITHM._replace(optimizer=optax.identity())
    both = jax.jit(jax.vmap(functools.partial(learn, algorithm), in_axes=(None, None, 0)))
    batches = [jax.tree.map(lambda *x: jnp.stack(x), batch, other) for other in (batch, with_reward(batch, np.nan))]
    healthy, beside_frozen = (jax.tree.map(lambda x: x[0], both(HYPER, learner, pair)[0]) for pair in batches)
    assert_equal(beside_frozen, healthy)


class TestWarningSigns:
    @pytest.fixture(scope="class")
    @staticmethod
    def signs(learner, batch):
        def compute(learner: Learner) -> dict[str, jax.Array]:
            signs = ALGORITHM.method.warning_signs(ALGORITHM, HYPER, learner, batch.slots)
            return {**signs, "target_lag": target_lag(learner)}

        program = jax.jit(compute)
        return lambda **changes: {k: float(x) for k, x in program(learner._replace(**changes)).items()}

    def test_target_lag_is_the_relative_distance(self, signs, learner):
        assert signs(target=learner.online)["target_lag"] == 0
        nothing = jax.tree.map(jnp.zeros_like, learner.online)
        assert signs(target=nothing)["target_lag"] == pytest.approx(1)

    def test_a_dead_mixer_has_no_slope(self, signs, learner):
        assert signs()["mixer_slope"] > 0
        dead = learner.online._replace(mixer=jax.tree.map(jnp.zeros_like, learner.online.mixer))
        assert signs(online=dead)["mixer_slope"] == 0

    def test_excess_is_against_what_reward_and_discount_allow(self, signs):
        one, ten = (signs(max_reward=jnp.float32(reward))["q_tot_excess"] for reward in (1.0, 10.0))
        assert one == pytest.approx(10 * ten)
        # Before the first update, and as long as all rewards are 0, it is not known.
        assert np.isnan(signs(max_reward=jnp.float32(0.0))["q_tot_excess"])

    def test_the_environment_s_own_limit_counts_unless_rewards_are_standardised(self, learner):
        algorithm = ALGORITHM._replace(env=ALGORITHM.env._replace(max_return=2.0))
        learner = learner._replace(max_reward=jnp.float32(1000.0))
        assert pieces.excess(jnp.float32(3.0), algorithm, HYPER, learner) == pytest.approx(1.5 / HYPER.reward_scale)
        standardised = algorithm._replace(standardise_rewards=True)
        assert pieces.excess(jnp.float32(3.0), standardised, HYPER, learner) < 0.1

    def test_values_within_reach_show_no_excess_after_learning(self, history):
        assert 0 < history[-1][0].learner.max_reward < 100


@functools.cache
def forward(double_q: bool):
    """Loss, targets and values of a minibatch, with the sum as the mixer."""
    recorded = {}

    def target(sequence: targets.Sequence, gamma, td_lambda):
        recorded["value"], recorded["y"] = sequence.value, targets.one_step(sequence, gamma, td_lambda)
        return recorded["y"]

    algorithm = ALGORITHM._replace(mixer=VDNMixer(2, 2), target=target, double_q=double_q)

    def run(learner: Learner, minibatch: Minibatch):
        value, _ = loss(algorithm, HYPER, learner.online, learner, minibatch)
        batch = minibatch.slots
        q = [action_values(algorithm.agent, params.agent, batch, None) for params in (learner.online, learner.target)]
        return {"loss": value, "online_q": q[0], "target_q": q[1], **recorded}

    program = jax.jit(run)

    def compute(learner: Learner, minibatch: Minibatch) -> dict[str, np.ndarray]:
        online, target = (p._replace(mixer={}) for p in (learner.online, learner.target))
        return jax.tree.map(np.asarray, program(learner._replace(online=online, target=target), minibatch))

    return compute


@pytest.mark.parametrize("double_q", [True, False])
def test_double_q_lets_the_online_network_decide_and_the_target_network_value(double_q, learner, batch):
    seen = forward(double_q)(learner, batch)
    avail = np.asarray(batch.slots.step.avail_actions)
    choices = {
        decides: np.where(avail, seen[decides], -np.inf).argmax(axis=-1)[..., None]
        for decides in ("online_q", "target_q")
    }
    assert (choices["online_q"] != choices["target_q"]).any()
    deciding = choices["online_q" if double_q else "target_q"]
    expected = np.take_along_axis(seen["target_q"], deciding, axis=-1)[..., 0].sum(axis=-1)
    np.testing.assert_allclose(seen["value"], expected, rtol=1e-5)


def test_the_loss_is_the_mean_squared_error_over_transitions(learner, batch):
    seen = forward(True)(learner, batch)
    mask, action = np.asarray(batch.slots.mask), np.asarray(batch.slots.action)[..., None]
    q_tot = np.take_along_axis(seen["online_q"], action, axis=-1)[..., 0].sum(axis=-1)
    assert 0 < mask.mean() < 1
    assert seen["loss"] == pytest.approx((mask * (q_tot - seen["y"]) ** 2).sum() / mask.sum(), rel=1e-5)


def test_what_is_not_a_transition_does_not_count(learner, batch):
    """Final observations and the ends of sequences: only what was seen there matters, as a bootstrap."""
    slots = batch.slots
    ends = slots.mask == 0
    slots = slots._replace(
        reward=jnp.where(ends, 1e6, slots.reward),
        discount=jnp.where(ends, 1e6, slots.discount),
        action=jnp.where(ends[..., None], (slots.action + 1) % 3, slots.action),
    )
    other = batch._replace(slots=slots)
    assert differ(other, batch)
    assert forward(True)(learner, other)["loss"] == forward(True)(learner, batch)["loss"]


# Options of learning


@functools.cache
def learning(**options: Any):
    algorithm = ALGORITHM._replace(optimizer=optax.identity(), **options)
    return jax.jit(functools.partial(learn, algorithm))


def test_half_the_loss_has_half_the_gradient(descend, learner, batch):
    unclipped = HYPER._replace(max_grad_norm=jnp.float32(jnp.inf))
    whole, metrics, priority = descend(unclipped, learner, batch)
    half, half_metrics, same_priority = learning(half_loss=True)(unclipped, learner, batch)
    assert float(half_metrics["loss"]) == pytest.approx(float(metrics["loss"]) / 2, rel=1e-5)
    assert float(half_metrics["grad_norm"]) == pytest.approx(float(metrics["grad_norm"]) / 2, rel=1e-5)
    np.testing.assert_allclose(priority, same_priority, rtol=1e-5)
    assert differ(whole.online, half.online)


def test_weights_multiply_the_squared_errors_of_their_sequences(learner, batch):
    one_hot = jnp.eye(SIZES.batch_size)
    program = jax.jit(
        lambda weights: loss(ALGORITHM, HYPER, learner.online, learner, batch._replace(weights=weights))[0]
    )
    each = np.array([program(w) for w in one_hot])
    weights = np.random.default_rng(0).uniform(size=SIZES.batch_size).astype(np.float32)
    assert (each > 0).all()
    assert float(program(jnp.asarray(weights))) == pytest.approx((weights * each).sum(), rel=1e-4)


def test_scaled_rewards_scale_the_targets(learner, batch):
    target = jax.jit(lambda hyper: loss(ALGORITHM, hyper, learner.online, learner, batch)[1].metrics["target_mean"])
    # Targets are linear in the rewards.
    zero, one, three = (float(target(HYPER._replace(reward_scale=jnp.float32(scale)))) for scale in (0.0, 1.0, 3.0))
    assert one != zero
    assert three - zero == pytest.approx(3 * (one - zero), rel=1e-3)


@pytest.mark.parametrize("mixer", [ALGORITHM.mixer, IndependentMixer(num_agents=2, state_size=2)], ids=["qmix", "iql"])
def test_a_minibatch_in_parts_teaches_what_it_does_as_a_whole(mixer, learner, batch):
    """Though its parts have different numbers of transitions."""
    batch = batch._replace(slots=batch.slots._replace(mask=batch.slots.mask.at[1, 0].set(0.0)))
    assert len(set(np.asarray(batch.slots.mask).sum(axis=0))) > 1
    if isinstance(mixer, IndependentMixer):
        learner = learner._replace(online=learner.online._replace(mixer={}), target=learner.target._replace(mixer={}))
    unclipped = HYPER._replace(max_grad_norm=jnp.float32(jnp.inf))
    whole, parts = (
        learning(mixer=mixer, standardise_rewards=True, sizes=SIZES._replace(minibatch_parts=count))
        for count in (1, SIZES.batch_size)
    )
    learned = whole(unclipped, learner, batch)
    assert differ(learned[0].online.agent, learner.online.agent)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TOLERANCE), learned, parts(unclipped, learner, batch))


def test_standardised_rewards_have_the_statistics_of_all_that_was_learned_from(learner, batch):
    mask = np.asarray(batch.slots.mask) > 0
    after, metrics, _ = learning(standardise_rewards=True)(HYPER, learner, batch)
    rewards = np.asarray(batch.slots.reward)[mask]
    np.testing.assert_allclose([after.rewards.mean, after.rewards.seen], [rewards.mean(), len(rewards)], rtol=1e-3)
    assert after.rewards.variance == pytest.approx(rewards.var(), rel=1e-3)
    plain = learning()(HYPER, learner, batch)[1]
    assert float(metrics["target_mean"]) != float(plain["target_mean"])


def test_standardised_returns_are_what_the_network_learns(learner, batch):
    after, metrics, _ = learning(standardise_returns=True)(HYPER, learner, batch)
    # Only this minibatch was seen, so its own targets have mean 0; before, the statistics were mean 0 and variance 1.
    assert float(metrics["target_mean"]) == pytest.approx(0.0, abs=1e-3)
    plain = learning()(HYPER, learner, batch)[1]
    assert after.returns.mean == pytest.approx(float(plain["target_mean"]), rel=1e-3)


def test_target_networks_are_copied_after_so_many_episodes():
    algorithm = ALGORITHM._replace(target_update=TargetUpdate.EPISODES)
    step = jax.jit(functools.partial(qmix.iterate, algorithm))
    state = jax.jit(functools.partial(qmix.init, algorithm))(jax.random.key(SEED))
    hyper, copies = HYPER._replace(target_update_interval=jnp.int32(8)), 0
    for iteration in range(6):
        before = state.learner
        state, _ = step(hyper, state, jnp.int32(iteration))
        due = state.episodes - before.target_episodes >= 8
        assert_equal(state.learner.target, state.learner.online if due else before.target)
        assert state.learner.target_episodes == (state.episodes if due else before.target_episodes)
        copies += int(due)
    assert 1 <= copies < 6


def test_prioritised_replay_learns_its_priorities():
    algorithm = ALGORITHM._replace(prioritised=True)
    step = jax.jit(functools.partial(qmix.iterate, algorithm))
    state = jax.jit(functools.partial(qmix.init, algorithm))(jax.random.key(SEED))
    hyper = HYPER._replace(priority_alpha=jnp.float32(0.6), priority_beta=jnp.float32(0.4))
    for iteration in range(SIZES.warmup_iterations + 1):
        state, metrics = step(hyper, state, jnp.int32(iteration))
    priority = np.asarray(state.replay.priority)[: int(state.replay.size)]
    assert np.isfinite(metrics["loss"])
    assert (priority > 0).all()
    assert (priority != 1).any()
    assert float(state.replay.max_priority) >= priority.max()


# Saved policies


def test_a_saved_policy_comes_back(tmp_path, history):
    params = jax.tree.map(np.asarray, history[-1][0].learner.online.agent)
    description = {"algorithm": "qmix", "sizes": {"num_agents": 2}, "evaluation": {"return": 1.5, "win_rate": None}}
    save_policy(tmp_path / "policies/seed-3", params, description)
    policy = load_policy(tmp_path / "policies/seed-3")
    assert_equal(policy.params, params)
    assert {key: policy.description[key] for key in description} == description
    assert sorted(path.name for path in (tmp_path / "policies").iterdir()) == ["seed-3.json", "seed-3.safetensors"]


@pytest.mark.parametrize("damage", ["missing", "cut", "not json", "another format"])
def test_a_file_that_is_no_policy_is_refused_by_name(tmp_path, history, damage):
    path = tmp_path / "policy"
    save_policy(path, history[0][0].learner.online.agent, {})
    arrays, text = path.with_suffix(".safetensors"), path.with_suffix(".json")
    {
        "missing": arrays.unlink,
        "cut": lambda: arrays.write_bytes(arrays.read_bytes()[:50]),
        "not json": lambda: text.write_text("{"),
        "another format": lambda: text.write_text('{"format": "pickle"}'),
    }[damage]()
    with pytest.raises(ConfigError, match="policy"):
        load_policy(path)
