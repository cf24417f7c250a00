"""Targets compared with numbers computed by hand and with sums over n-step returns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmix_jax.learning.targets import Sequence, n_step, one_step, pymarl2_q_lambda, q_lambda, td_lambda

LENGTH = 10
ANYTHING = 1e6
"""A value that must never be read: reward and discount of slots with mask 0."""

TARGETS = (one_step, n_step, td_lambda, q_lambda, pymarl2_q_lambda)
jitted = {function: jax.jit(function, static_argnames="n" if function is n_step else ()) for function in TARGETS}


def by_hand(discount_at_end: float) -> Sequence:
    """Two transitions and a final observation, then an episode cut by the end of the sequence after two transitions."""
    return Sequence(
        reward=np.array([1.0, 2.0, ANYTHING, 4.0, 8.0, ANYTHING]),
        discount=np.array([1.0, discount_at_end, ANYTHING, 1.0, 1.0, ANYTHING]),
        mask=np.array([1.0, 1.0, 0.0, 1.0, 1.0, 0.0]),
        value=np.array([10.0, 20.0, 30.0, 40.0, 50.0, 60.0]),
        taken_value=np.array([9.0, 16.0, ANYTHING, 36.0, 42.0, ANYTHING]),
    )


def test_one_step_by_hand_with_a_terminal_end():
    #              1 + 20/2  2  -  4 + 50/2  8 + 60/2  -
    assert_counted(one_step, by_hand(0.0), [11.0, 2.0, None, 29.0, 38.0, None])


def test_one_step_by_hand_with_a_truncated_end():
    #              1 + 20/2  2 + 30/2  -  4 + 50/2  8 + 60/2  -
    assert_counted(one_step, by_hand(1.0), [11.0, 17.0, None, 29.0, 38.0, None])


def test_td_lambda_by_hand_with_a_terminal_end():
    # G1 = 2                     G0 = 1 + (20/2 + 2/2) / 2
    # G4 = 8 + 60/2 = 38         G3 = 4 + (50/2 + 38/2) / 2
    assert_counted(td_lambda, by_hand(0.0), [6.5, 2.0, None, 26.0, 38.0, None])


def test_td_lambda_by_hand_with_a_truncated_end():
    # G1 = 2 + 30/2 = 17         G0 = 1 + (20/2 + 17/2) / 2
    assert_counted(td_lambda, by_hand(1.0), [10.25, 17.0, None, 26.0, 38.0, None])


def assert_counted(function, sequence: Sequence, expected: list[float | None]) -> None:
    """Targets with gamma and lambda 1/2; ``None`` is not compared."""
    targets = jitted[function](Sequence(*(jnp.asarray(x, jnp.float32) for x in sequence)), 0.5, 0.5)
    counted = [t for t, number in enumerate(expected) if number is not None]
    assert counted == list(np.flatnonzero(sequence.mask))
    np.testing.assert_allclose(targets[np.array(counted)], [expected[t] for t in counted], rtol=1e-6)


@st.composite
def sequences(draw) -> Sequence:
    """Episodes of any length and end, one after the other, as many as fit; then padding, if any."""
    numbers = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    reward, value, taken_value = numbers.normal(size=(3, LENGTH))
    discount, mask = np.ones(LENGTH), np.ones(LENGTH)
    end = 0
    for length, terminal in draw(st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=5)):
        end += length
        if end >= LENGTH:
            break
        discount[end - 1] = 0.0 if terminal else 1.0
        mask[end] = 0.0
        end += 1
    if draw(st.booleans()):
        mask[end:] = 0.0
    mask[-1] = 0.0
    for x in (reward, discount, taken_value):
        x[mask == 0] = ANYTHING
    return Sequence(reward, discount, mask, value, taken_value)


def n_step_return(sequence: Sequence, start: int, n: int, gamma: float) -> float:
    total, weight = 0.0, 1.0
    for t in range(start, start + n):
        total += weight * sequence.reward[t]
        weight *= gamma * sequence.discount[t]
    return total + weight * sequence.value[start + n]


def lambda_return(sequence: Sequence, start: int, gamma: float, lambda_: float) -> float:
    """Sutton & Barto 2018, equation 12.3: a weighted mean of the n-step returns within the episode."""
    steps = int(np.argmin(sequence.mask[start:]))
    shorter = sum(lambda_ ** (n - 1) * n_step_return(sequence, start, n, gamma) for n in range(1, steps))
    return (1 - lambda_) * shorter + lambda_ ** (steps - 1) * n_step_return(sequence, start, steps, gamma)


unit = st.floats(0.0, 1.0, width=16)


@given(sequences(), unit, unit)
def test_td_lambda_is_the_mean_of_n_step_returns(sequence, gamma, lambda_):
    targets = in_double(td_lambda, sequence, gamma, lambda_)
    for t in np.flatnonzero(sequence.mask):
        np.testing.assert_allclose(targets[t], lambda_return(sequence, t, gamma, lambda_), rtol=1e-9, atol=1e-9)


@given(sequences(), unit, unit)
def test_one_step_ignores_lambda(sequence, gamma, lambda_):
    targets = in_double(one_step, sequence, gamma, lambda_)
    for t in np.flatnonzero(sequence.mask):
        np.testing.assert_allclose(targets[t], n_step_return(sequence, t, 1, gamma), rtol=1e-9, atol=1e-9)


@given(sequences(), unit, st.integers(1, LENGTH + 2))
def test_n_step_sums_n_rewards_or_all_to_the_end_of_the_episode(sequence, gamma, n):
    targets = in_double(n_step, sequence, gamma, 0.0, n=n)
    for t in np.flatnonzero(sequence.mask):
        steps = min(n, int(np.argmin(sequence.mask[t:])))
        np.testing.assert_allclose(targets[t], n_step_return(sequence, t, steps, gamma), rtol=1e-9, atol=1e-9)


def corrected_return(sequence: Sequence, start: int, gamma: float, lambda_: float) -> float:
    """Harutyunyan et al. 2016, equation 4: the taken value plus all discounted errors, weighted by lambda^k."""
    total, weight = sequence.taken_value[start], 1.0
    for t in range(start, start + int(np.argmin(sequence.mask[start:]))):
        after = sequence.reward[t] + gamma * sequence.discount[t] * sequence.value[t + 1]
        total += weight * (after - sequence.taken_value[t])
        weight *= gamma * lambda_ * sequence.discount[t]
    return total


@given(sequences(), unit, unit)
def test_q_lambda_is_the_sum_of_corrected_errors(sequence, gamma, lambda_):
    targets = in_double(q_lambda, sequence, gamma, lambda_)
    for t in np.flatnonzero(sequence.mask):
        np.testing.assert_allclose(targets[t], corrected_return(sequence, t, gamma, lambda_), rtol=1e-9, atol=1e-9)


@given(sequences(), unit, unit)
def test_pymarl2_q_lambda_adds_the_correction_of_its_own_slot(sequence, gamma, lambda_):
    targets = in_double(pymarl2_q_lambda, sequence, gamma, lambda_)
    for t in np.flatnonzero(sequence.mask):
        expected = corrected_return(sequence, t, gamma, lambda_) + sequence.value[t] - sequence.taken_value[t]
        np.testing.assert_allclose(targets[t], expected, rtol=1e-9, atol=1e-9)


def test_q_lambda_by_hand_with_a_terminal_end():
    # G1 = 2                     G0 = 1 + (20 + (2 - 16) / 2) / 2
    # G4 = 8 + 60/2 = 38         G3 = 4 + (50 + (38 - 42) / 2) / 2
    assert_counted(q_lambda, by_hand(0.0), [7.5, 2.0, None, 28.0, 38.0, None])


@given(sequences(), unit)
def test_q_lambda_of_greedy_actions_is_td_lambda(sequence, gamma):
    greedy = sequence._replace(taken_value=sequence.value)
    counted = sequence.mask > 0
    corrected, plain = (in_double(function, greedy, gamma, 0.75) for function in (q_lambda, td_lambda))
    np.testing.assert_allclose(corrected[counted], plain[counted], rtol=1e-9, atol=1e-9)


@given(sequences(), unit)
def test_lambda_0_is_one_step(sequence, gamma):
    counted = sequence.mask > 0
    one, zero = in_double(one_step, sequence, gamma, 0.0), in_double(td_lambda, sequence, gamma, 0.0)
    np.testing.assert_allclose(zero[counted], one[counted], rtol=1e-12)


@given(sequences(), unit)
def test_lambda_1_is_monte_carlo_with_a_bootstrap_at_truncations(sequence, gamma):
    targets = in_double(td_lambda, sequence, gamma, 1.0)
    for t in np.flatnonzero(sequence.mask):
        steps = int(np.argmin(sequence.mask[t:]))
        np.testing.assert_allclose(targets[t], n_step_return(sequence, t, steps, gamma), rtol=1e-9, atol=1e-9)


def in_double(function, sequence: Sequence, gamma: float, lambda_: float, **settings: int) -> np.ndarray:
    with jax.enable_x64(True):
        return np.asarray(jitted[function](sequence, gamma, lambda_, **settings))


@pytest.mark.parametrize("function", TARGETS)
def test_batch_axes_are_independent(function):
    numbers = np.random.default_rng(0)
    length, minibatch, agents = 6, 3, 2
    reward = numbers.normal(size=(length, minibatch)).astype(np.float32)
    discount, mask = numbers.integers(0, 2, size=(2, length, minibatch)).astype(np.float32)
    value, taken = numbers.normal(size=(2, length, minibatch, agents)).astype(np.float32)

    team = [x[..., None] for x in (reward, discount, mask)]
    of_agents = function(Sequence(*team, value, taken), 0.9, 0.7)
    assert of_agents.shape == (length, minibatch, agents)
    for agent in range(agents):
        of_team = function(Sequence(reward, discount, mask, value[..., agent], taken[..., agent]), 0.9, 0.7)
        np.testing.assert_allclose(of_agents[..., agent], of_team, rtol=1e-6, atol=1e-7)
        for m in range(minibatch):
            one = Sequence(*(x[:, m] for x in (reward, discount, mask, value[..., agent], taken[..., agent])))
            np.testing.assert_allclose(of_team[:, m], function(one, 0.9, 0.7), rtol=1e-6, atol=1e-7)
