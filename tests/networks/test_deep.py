"""Recurrent agents with several dense layers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmix_jax.errors import ConfigError
from qmix_jax.networks.agents import RecurrentAgent, unroll
from qmix_jax.networks.deep import DeepRecurrentAgent

SIZES = {"obs_size": 4, "num_agents": 2, "num_actions": 3, "hidden_size": 5}
LENGTH, BATCH = 6, 2


def inputs() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    numbers = np.random.default_rng(0)
    obs = numbers.normal(size=(LENGTH, BATCH, 2, 4)).astype(np.float32)
    last_action = numbers.integers(-1, 3, (LENGTH, BATCH, 2)).astype(np.int32)
    first = numbers.uniform(size=(LENGTH, BATCH)) < 0.2
    return obs, last_action, first, numbers.normal(size=(BATCH, 2, 5)).astype(np.float32)


def random_params(agent, *arguments):
    shapes = jax.eval_shape(functools.partial(agent.init, method="outputs_and_values"), jax.random.key(0), *arguments)
    numbers = np.random.default_rng(1)
    return jax.tree.map(lambda x: numbers.normal(size=x.shape).astype(x.dtype), shapes)


def dense(x, kernel, bias, norm):
    x = x @ kernel + bias
    x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
    return np.maximum(x * norm["scale"] + norm["bias"], 0)


@pytest.mark.parametrize("layers", [1, 3])
def test_the_unroll_equals_plain_layers_before_a_plain_gru(layers):
    """The dense layers in NumPy, and a :class:`RecurrentAgent` whose first layer passes their output on."""
    obs, last_action, first, start = inputs()
    agent = DeepRecurrentAgent(**SIZES, layers=layers, layer_norm=True, last_action=False, agent_id=False)
    params = random_params(agent, obs, last_action, first, start)
    own = params["params"]
    x = dense(obs, own["obs_kernel"], own["first_bias"], own["norm"])
    for i in range(1, layers):
        x = dense(x, own[f"layer_{i}_kernel"], own[f"layer_{i}_bias"], own[f"layer_norms_{i - 1}"])
    plain = RecurrentAgent(**(SIZES | {"obs_size": 5}), last_action=False, agent_id=False)
    names = ("gru_input_kernel", "gru_input_bias", "gru_hidden_kernel", "gru_hidden_bias", "q_kernel", "q_bias")
    passing = {"obs_kernel": np.eye(5, dtype=np.float32), "first_bias": np.zeros(5, np.float32)}
    same = {"params": {**passing, **{name: own[name] for name in names}}}

    found = jax.jit(functools.partial(unroll, agent))(params, obs, last_action, first, start)
    expected = jax.jit(functools.partial(unroll, plain))(same, x, last_action, first, start)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)

    hidden, step = jnp.asarray(start), jax.jit(agent.apply)
    for t in range(LENGTH):
        hidden = jnp.where(first[t][:, None, None], 0.0, hidden)
        hidden, q = step(params, hidden, obs[t], last_action[t])
        np.testing.assert_allclose(q, found[t], rtol=1e-4, atol=1e-4)


def test_no_layer_is_refused():
    with pytest.raises(ConfigError, match=r"agent.layers=0: must be at least 1"):
        DeepRecurrentAgent(**SIZES, layers=0)
