"""Masked argmax, epsilon-greedy frequencies and epsilon schedules."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmix_jax.acting.explore import draw, epsilon_greedy, exponential_schedule, linear_schedule, masked_argmax
from qmix_jax.acting.softmax import softmax

DRAWS = 20_000


def explored(key, q, avail_actions, epsilon):
    """Epsilon-greedy actions, one for every row."""
    return draw(jax.random.gumbel(key, q.shape), epsilon_greedy(q, avail_actions, epsilon))


def test_the_best_action_is_the_best_available_one():
    q = jnp.array([[9.0, -5.0, -7.0], [-1.0, 2.0, 3.0]])
    avail = jnp.array([[False, True, True], [True, True, False]])
    assert masked_argmax(q, avail).tolist() == [1, 1]


def test_ties_go_to_the_lowest_available_index():
    q = jnp.zeros((3, 4))
    avail = jnp.array([[True] * 4, [False, True, True, True], [False, False, False, True]])
    assert masked_argmax(q, avail).tolist() == [0, 1, 3]


def test_unavailable_actions_lose_to_very_low_values():
    q = jnp.array([[0.0, -3e38, jnp.finfo(jnp.float32).min]])
    assert masked_argmax(q, jnp.array([[False, False, True]])).tolist() == [2]


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0])
def test_unavailable_actions_are_never_chosen(epsilon):
    numbers = np.random.default_rng(0)
    q = jnp.asarray(numbers.normal(size=(DRAWS // 4, 4, 6)), jnp.float32)
    avail = numbers.uniform(size=q.shape) < 0.4
    avail[..., 2] |= ~avail.any(axis=-1)
    action = explored(jax.random.key(0), q, jnp.asarray(avail), jnp.float32(epsilon))
    assert np.take_along_axis(avail, np.asarray(action)[..., None], axis=-1).all()
    if epsilon == 0.0:
        np.testing.assert_array_equal(action, masked_argmax(q, avail))


def test_action_frequencies_are_those_of_epsilon_greedy():
    epsilon = 0.3
    q = jnp.tile(jnp.array([5.0, 1.0, 4.0, 3.0]), (DRAWS, 1))
    avail = jnp.tile(jnp.array([False, True, True, True]), (DRAWS, 1))
    action = explored(jax.random.key(1), q, avail, jnp.float32(epsilon))
    expected = np.array([0.0, epsilon / 3, 1 - epsilon + epsilon / 3, epsilon / 3])
    frequencies = np.bincount(action, minlength=4) / DRAWS
    assert (np.abs(frequencies - expected) <= 4 * np.sqrt(expected * (1 - expected) / DRAWS)).all()


@pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.7, 1.0])
def test_the_policy_equals_distrax_s_over_available_actions(epsilon):
    numbers = np.random.default_rng(1)
    q = jnp.asarray(numbers.normal(size=(20, 6)), jnp.float32)
    avail = numbers.uniform(size=q.shape) < 0.5
    avail[:, 3] |= ~avail.any(axis=1)
    avail[0] = True
    ours = np.exp(np.asarray(epsilon_greedy(q, jnp.asarray(avail), jnp.float32(epsilon))))
    for row, values, may in zip(ours, q, avail, strict=True):
        expected = distrax.EpsilonGreedy(values[may], epsilon).probs
        np.testing.assert_allclose(row[may], expected, rtol=1e-5)
        assert (row[~may] == 0).all()


def test_agents_and_environments_explore_independently():
    """An agent explores if it does not take the best of many actions; two agents must not do so together."""
    epsilon, actions, envs, agents = 0.5, 50, 5000, 2
    q = jnp.tile(jax.nn.one_hot(7, actions)[None, None], (envs, agents, 1))
    action = explored(jax.random.key(2), q, jnp.ones(q.shape, bool), jnp.float32(epsilon))
    explores = np.asarray(action) != 7
    p = epsilon * (1 - 1 / actions)
    chance = np.array([[(1 - p) ** 2, p * (1 - p)], [p * (1 - p), p * p]])
    for one, other in [(explores[:, 0], explores[:, 1]), (explores[:-1, 0], explores[1:, 0])]:
        joint = np.array([[np.mean((one == a) & (other == b)) for b in (False, True)] for a in (False, True)])
        assert (np.abs(joint - chance) <= 4 * np.sqrt(chance * (1 - chance) / envs)).all()


def test_random_actions_of_two_agents_are_independent():
    actions = 3
    action = np.asarray(
        explored(jax.random.key(3), jnp.zeros((DRAWS, 2, actions)), jnp.ones((DRAWS, 2, actions), bool), 1.0)
    )
    joint = np.bincount(action[:, 0] * actions + action[:, 1], minlength=actions**2) / DRAWS
    assert (np.abs(joint - 1 / 9) <= 4 * np.sqrt(1 / 9 * 8 / 9 / DRAWS)).all()


def test_the_schedule_is_linear_and_then_constant():
    at = [0, 25, 50, 100, 1000]
    epsilons = [float(linear_schedule(1.0, 0.2, 100.0, jnp.int32(t))) for t in at]
    np.testing.assert_allclose(epsilons, [1.0, 0.8, 0.6, 0.2, 0.2], rtol=1e-6)


@pytest.mark.parametrize("schedule", [linear_schedule, exponential_schedule])
def test_a_schedule_of_zero_steps_starts_at_its_end(schedule):
    for env_steps in (0, 1):
        assert schedule(1.0, 0.25, 0.0, jnp.int32(env_steps)) == 0.25
    assert schedule(1.0, 0.25, 1.0, jnp.int32(0)) == 1


@pytest.mark.parametrize("temperature", [0.1, 1.0, 30.0])
def test_softmax_is_boltzmanns_distribution_over_the_available_actions(temperature):
    numbers = np.random.default_rng(2)
    q = numbers.normal(size=(20, 6)).astype(np.float32)
    avail = numbers.uniform(size=q.shape) < 0.5
    avail[:, 3] |= ~avail.any(axis=1)
    weights = np.where(avail, np.exp(q.astype(np.float64) / temperature), 0.0)
    probabilities = np.exp(np.asarray(softmax(jnp.asarray(q), jnp.asarray(avail), jnp.float32(temperature))))
    np.testing.assert_allclose(probabilities, weights / weights.sum(axis=1, keepdims=True), rtol=2e-5, atol=1e-9)
    assert (probabilities[~avail] == 0).all()


def test_a_cold_softmax_is_greedy_and_finite():
    q = jnp.array([[1e4, 1e4 + 1, -1e4], [3.0, 1.0, 2.0]])
    avail = jnp.array([[True, True, True], [False, True, True]])
    for temperature in (0.0, 1e-9, 1e-3):
        np.testing.assert_array_equal(np.exp(softmax(q, avail, jnp.float32(temperature))), [[0, 1, 0], [0, 0, 1]])


def test_softmax_draws_as_often_as_it_says():
    q = jnp.tile(jnp.array([1.0, 2.0, 0.0, 9.0]), (DRAWS, 1))
    avail = jnp.tile(jnp.array([True, True, True, False]), (DRAWS, 1))
    action = draw(jax.random.gumbel(jax.random.key(4), q.shape), softmax(q, avail, jnp.float32(1.0)))
    expected = np.append(np.exp([1.0, 2.0, 0.0]) / np.exp([1.0, 2.0, 0.0]).sum(), 0.0)
    frequencies = np.bincount(action, minlength=4) / DRAWS
    assert (np.abs(frequencies - expected) <= 4 * np.sqrt(expected * (1 - expected) / DRAWS)).all()
