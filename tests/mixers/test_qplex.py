"""QPLEX: its argmax is every agent's own (IGM), it represents what no monotone mixer can, bad settings are named."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmix_jax.errors import ConfigError
from qmix_jax.mixers.base import MixerInput, example_input
from qmix_jax.mixers.qplex import QPLEXMixer

AGENTS, ACTIONS, STATE = 3, 4, 5
JOINT = np.array(list(itertools.product(range(ACTIONS), repeat=AGENTS)))
FORMS = [
    {"attention_layers": 1, "heads": 4},
    {"attention_layers": 2, "attention_size": 6, "heads": 2},
    {"attention_layers": 3, "attention_size": 6, "heads": 1, "weighted_head": False},
]


@functools.cache
def program(form: int, agents: int = AGENTS, plain: bool = False):
    """``q_tot`` of many joint actions from all agents' values, their availability and the state."""
    mixer = QPLEXMixer(agents, STATE, hypernet_size=7, **FORMS[form])

    def every(params, q, avail, state, joint):
        def one(action):
            greedy = jnp.where(avail, q, -jnp.inf).max(axis=-1)
            chosen = jnp.take_along_axis(q, action[:, None], axis=-1)[:, 0]
            return mixer.apply(params, MixerInput(q, chosen, greedy, action, avail, state))

        return jax.vmap(one)(joint)

    return mixer, every if plain else jax.jit(every)


@functools.cache
def shapes(mixer):
    return jax.eval_shape(mixer.init, jax.random.key(0), example_input(mixer.num_agents, ACTIONS, STATE))


def random_params(mixer, seed: int):
    """With weights of this size no sigmoid is so close to 0 that rounding hides a difference."""
    numbers = np.random.default_rng(seed)
    return jax.tree.map(lambda x: 0.5 * numbers.normal(size=x.shape), shapes(mixer))


@pytest.mark.parametrize("form", range(len(FORMS)))
@given(seed=st.integers(0, 2**31 - 1))
@settings(max_examples=200)
def test_the_joint_argmax_is_every_agents_own(form, seed):
    mixer, every = program(form)
    numbers = np.random.default_rng(seed)
    q, state = 3 * numbers.normal(size=(AGENTS, ACTIONS)), numbers.normal(size=STATE)
    avail = numbers.uniform(size=(AGENTS, ACTIONS)) < 0.7
    avail[np.arange(AGENTS), numbers.integers(ACTIONS, size=AGENTS)] = True
    with jax.enable_x64(True):
        q_tot = np.asarray(every(random_params(mixer, seed), q, avail, state, JOINT))
    allowed = avail[np.arange(AGENTS), JOINT].all(axis=1)
    best = JOINT[np.argmax(np.where(allowed, q_tot, -np.inf))]
    assert tuple(best) == tuple(np.where(avail, q, -np.inf).argmax(axis=1))


def test_an_advantage_counts_as_much_as_its_attention():
    """The equation of the paper, by hand, from the mixer's own lambda."""
    mixer, every = program(0)
    numbers = np.random.default_rng(0)
    q, state = numbers.normal(size=(AGENTS, ACTIONS)), numbers.normal(size=STATE)
    with jax.enable_x64(True):
        params = random_params(mixer, 1)
        q_tot = np.asarray(every(params, q, np.ones((AGENTS, ACTIONS), bool), state, JOINT))
        p = params["params"]

        def net(name):
            hidden = np.maximum(state @ p[name]["layer_0"]["kernel"] + p[name]["layer_0"]["bias"], 0)
            return hidden @ p[name]["layer_1"]["kernel"] + p[name]["layer_1"]["bias"]

        def sigmoid(x):
            return 1 / (1 + np.exp(-x))

        weight, bias = np.abs(net("weight")) + 1e-10, net("bias")
        for joint, value in zip(JOINT, q_tot, strict=True):
            both = np.concatenate([state, np.eye(ACTIONS)[joint].reshape(-1)])
            importance = sum(
                (np.abs(state @ p["key_kernel_0"][h] + p["key_bias_0"][h]) + 1e-10)
                * sigmoid(state @ p["agent_kernel_0"][h] + p["agent_bias_0"][h])
                * sigmoid(both @ p["action_kernel_0"][h] + p["action_bias_0"][h])
                for h in range(4)
            )
            own = weight * q[np.arange(AGENTS), joint] + bias
            advantage = own - (weight * q.max(axis=1) + bias)
            np.testing.assert_allclose(value, own.sum() + ((importance - 1) * advantage).sum(), rtol=1e-9)


def test_only_the_first_sum_teaches_the_agents():
    mixer, every = program(2, agents=2, plain=True)
    params = random_params(mixer, 0)
    q, avail, state = np.eye(2, ACTIONS), np.ones((2, ACTIONS), bool), np.ones(STATE)
    with jax.enable_x64(True):
        slope = jax.grad(lambda q: every(params, q, avail, state, np.array([[1, 3]])).sum())(q)
    np.testing.assert_array_equal(slope, np.eye(ACTIONS)[[1, 3]])


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"attention_layers": 4}, r"mixer\.attention_layers=4: must be 1, 2 or 3"), ({"heads": 0}, r"mixer\.heads=0")],
)
def test_bad_settings_are_named(setting, message):
    with pytest.raises(ConfigError, match=message):
        QPLEXMixer(AGENTS, STATE, **setting)
