"""Linear recurrences against plain Python, and the agents made of them: unrolling equals stepping."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmix_jax.errors import ConfigError
from qmix_jax.networks.agents import last_actions, unroll
from qmix_jax.networks.linear_recurrence import Pair, linear_recurrence, rotating_recurrence
from qmix_jax.networks.parallel_agents import LRUAgent, MinGRUAgent
from qmix_jax.networks.separate import SeparateAgents

LENGTH, ROWS, HIDDEN = 13, 4, 3
AGENTS, ACTIONS, OBS, MINIBATCH = 3, 4, 5, 2
KINDS = [MinGRUAgent, LRUAgent]
both_forms = pytest.mark.parametrize("platform", ["cpu", "gpu"])
"""Step by step as on CPUs, and the associative scan of accelerators."""


class Case(NamedTuple):
    """A recurrence: the function, its arguments, and what it computes in terms of plain (complex) numbers."""

    solve: Callable[..., Any]
    arguments: tuple
    a: np.ndarray
    b: np.ndarray
    start: np.ndarray


def case(kind: str) -> Case:
    """Random numbers; some factors are zero (new episodes)."""
    numbers = np.random.default_rng(0)
    keep = (numbers.uniform(size=(LENGTH, ROWS, 1)) < 0.8).astype(float)
    shapes = (LENGTH, ROWS, HIDDEN), (LENGTH, ROWS, HIDDEN), (ROWS, HIDDEN)
    a, b, start = (numbers.normal(size=shape) for shape in shapes)
    if kind == "real":
        return Case(linear_recurrence, (a * keep, b, start), a * keep, b, start)
    b, start = b + 1j * numbers.normal(size=b.shape), start + 1j * numbers.normal(size=start.shape)
    factor = numbers.normal(size=HIDDEN) + 1j * numbers.normal(size=HIDDEN)
    pairs = [Pair(x.real, x.imag) for x in (factor, b, start)]
    return Case(rotating_recurrence, (pairs[0], keep, *pairs[1:]), factor * keep, b, start)


def as_numbers(hidden) -> Any:
    return hidden.real + 1j * hidden.imag if isinstance(hidden, Pair) else hidden


@both_forms
@pytest.mark.parametrize("kind", ["real", "complex"])
def test_a_recurrence_equals_plain_python(kind, platform, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    own = case(kind)
    with jax.enable_x64(True):
        found = as_numbers(jax.jit(functools.partial(own.solve))(*own.arguments))
    hidden = own.start
    for t in range(LENGTH):
        hidden = own.a[t] * hidden + own.b[t]
        np.testing.assert_allclose(found[t], hidden, rtol=1e-10, atol=1e-12)


def plain_scan(*arguments):
    """The same recurrence as a scan of (complex) numbers, which JAX differentiates by itself."""
    if len(arguments) == 3:
        a, b, start = arguments
    else:
        factor, keep, b, start = (as_numbers(x) for x in arguments)
        a = factor[None, None] * keep

    def step(hidden, slot):
        hidden = slot[0] * hidden + slot[1]
        return hidden, hidden

    return jax.lax.scan(step, start, (a, b))[1]


@both_forms
@pytest.mark.parametrize("kind", ["real", "complex"])
def test_the_gradient_equals_that_of_a_plain_scan(kind, platform, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    own = case(kind)
    of_output = np.random.default_rng(1).normal(size=(2, LENGTH, ROWS, HIDDEN))

    def total(solve, *arguments):
        hidden = as_numbers(solve(*arguments))
        return (jnp.real(hidden) * of_output[0] + jnp.imag(hidden) * of_output[1]).sum()

    places = (0, 1, 2) if kind == "real" else (0, 2, 3)
    with jax.enable_x64(True):
        found, expected = (
            jax.jit(jax.grad(functools.partial(total, solve), argnums=places))(*own.arguments)
            for solve in (own.solve, plain_scan)
        )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12), found, expected)


def make_agent(kind: type, num_agents: int = AGENTS, **options):
    return kind(obs_size=OBS, num_agents=num_agents, num_actions=ACTIONS, hidden_size=HIDDEN, **options)


@functools.cache
def init(agent):
    arguments = agent.initial_hidden(1), np.zeros((1, AGENTS, OBS), np.float32), np.zeros((1, AGENTS), np.int32)
    params = jax.jit(agent.init)(jax.random.key(0, impl="rbg"), *arguments)
    return jax.tree.map(np.asarray, params)


def in_float64(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def random_sequence(dtype=np.float32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Observations, last actions and episode starts ``[T, M, ...]`` with new episodes in mid-sequence."""
    numbers = np.random.default_rng(2)
    obs = numbers.normal(size=(LENGTH, MINIBATCH, AGENTS, OBS)).astype(dtype)
    action = numbers.integers(0, ACTIONS, size=(LENGTH, MINIBATCH, AGENTS)).astype(np.int32)
    first = np.zeros((LENGTH, MINIBATCH), bool)
    first[0], first[3, 0], first[5, 1] = True, True, True
    return obs, np.asarray(last_actions(action, first)), first


def check_unroll(agent, dtype, tolerance) -> None:
    obs, last_action, first = random_sequence(dtype)
    with jax.enable_x64(dtype == np.float64):
        params = in_float64(init(agent)) if dtype == np.float64 else init(agent)
        unrolled = jax.jit(functools.partial(unroll, agent))
        step = jax.jit(agent.apply)
        q = np.asarray(unrolled(params, obs, last_action, first))
        hidden = np.asarray(agent.initial_hidden(MINIBATCH), dtype)
        for t in range(LENGTH):
            hidden = np.where(first[t][:, None, None], dtype(0), hidden)
            hidden, q_t = step(params, hidden, obs[t], last_action[t])
            assert q_t.dtype == dtype
            np.testing.assert_allclose(q[t], q_t, rtol=tolerance, atol=tolerance)


@both_forms
@pytest.mark.parametrize("kind", KINDS)
def test_unrolling_equals_stepping_with_resets(kind, platform, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    check_unroll(make_agent(kind), np.float64, 1e-10)
    check_unroll(make_agent(kind, layer_norm=True), np.float32, 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_unrolling_separate_agents_equals_stepping_them(kind):
    check_unroll(SeparateAgents(make_agent(kind, num_agents=1), AGENTS), np.float32, 1e-5)


@both_forms
@pytest.mark.parametrize("kind", KINDS)
def test_a_given_hidden_state_counts_until_the_first_new_episode(kind, platform, monkeypatch):
    """A sequence in two halves, the second from the hidden state at the end of the first, equals the whole."""
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    agent, half = make_agent(kind), 5
    numbers = np.random.default_rng(3)
    x = numbers.normal(size=(LENGTH, ROWS, HIDDEN))
    keep = np.ones((LENGTH, ROWS, 1))
    keep[8, 1] = 0
    with jax.enable_x64(True):
        params = in_float64(init(agent))
        unroll = jax.jit(functools.partial(agent.apply, method="unroll_cell"))
        hidden = np.zeros((ROWS, agent.carry_size))
        whole = np.asarray(unroll(params, x, keep, hidden))
        for t in range(half):
            hidden, _ = agent.apply(params, x[t], hidden, method="step_cell")
        second = np.asarray(unroll(params, x[half:], keep[half:], hidden))
        other = np.asarray(unroll(params, x[half:], keep[half:], hidden + 1.0))
    np.testing.assert_allclose(second, whole[half:], rtol=1e-10, atol=1e-12)
    differs = (np.abs(other - second) > 1e-9).any(axis=-1)
    assert differs[:3].all()
    assert not differs[8 - half :, 1].any()


def test_the_min_gru_equals_plain_numpy():
    agent = make_agent(MinGRUAgent)
    p = in_float64(init(agent)["params"])
    numbers = np.random.default_rng(4)
    x, hidden = numbers.normal(size=(ROWS, HIDDEN)), numbers.normal(size=(ROWS, HIDDEN))
    with jax.enable_x64(True):
        new, output = agent.apply({"params": p}, x, hidden, method="step_cell")
    for row in range(ROWS):
        for unit in range(HIDDEN):
            gate = 1 / (1 + np.exp(-(x[row] @ p["gate_kernel"][:, unit] + p["gate_bias"][unit])))
            candidate = x[row] @ p["candidate_kernel"][:, unit] + p["candidate_bias"][unit]
            assert new[row, unit] == pytest.approx((1 - gate) * hidden[row, unit] + gate * candidate, rel=1e-12)
    np.testing.assert_array_equal(new, output)


def test_the_lru_equals_plain_numpy():
    agent = make_agent(LRUAgent)
    p = in_float64(init(agent)["params"])
    numbers = np.random.default_rng(4)
    x, carry = numbers.normal(size=(ROWS, HIDDEN)), numbers.normal(size=(ROWS, 2 * HIDDEN))
    with jax.enable_x64(True):
        new, output = agent.apply({"params": p}, x, carry, method="step_cell")
    factor = np.exp(-np.exp(p["lru_nu"]) + 1j * np.exp(p["lru_theta"]))
    hidden = carry[:, :HIDDEN] + 1j * carry[:, HIDDEN:]
    hidden = factor * hidden + np.exp(p["lru_gamma"]) * (x @ (p["lru_b_real"] + 1j * p["lru_b_imag"]))
    y = (hidden @ (p["lru_c_real"] + 1j * p["lru_c_imag"])).real + p["lru_d"] * x
    gelu = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
    np.testing.assert_allclose(new, np.concatenate([hidden.real, hidden.imag], axis=1), rtol=1e-10)
    np.testing.assert_allclose(output, x + gelu, rtol=1e-10)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.99), (0.9, 0.999)])
def test_the_lru_starts_with_the_radii_and_angles_asked_for(low, high):
    agent = LRUAgent(OBS, AGENTS, ACTIONS, 256, min_radius=low, max_radius=high, max_phase=3.0)
    p = init(agent)["params"]
    radius, angle = np.exp(-np.exp(p["lru_nu"])), np.exp(p["lru_theta"])
    assert low - 1e-5 <= radius.min() < low + 0.15
    assert high - 0.02 < radius.max() <= high + 1e-5
    assert 0 <= angle.min() < 0.1
    assert 2.9 < angle.max() <= 3.0
    # The variance of the hidden state is that of its input, whatever the radius.
    np.testing.assert_allclose(np.exp(2 * p["lru_gamma"]), 1 - radius**2, rtol=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_radius": 1.0}, r"agent\.max_radius=1\.0: must be below 1"),
        ({"min_radius": 0.995}, r"agent\.min_radius=0\.995: must be at least 0 and below agent\.max_radius=0\.99"),
        ({"max_phase": 0.0}, r"agent\.max_phase=0\.0: must be above 0 and at most 2 pi"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        make_agent(LRUAgent, **settings)
