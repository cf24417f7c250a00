"""Mixers: QMIX against plain NumPy, monotone in every agent's value, the joint argmax found by each agent alone."""

import functools
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from qmix_jax.errors import ConfigError
from qmix_jax.mixers.base import example_input
from qmix_jax.mixers.independent import IndependentMixer
from qmix_jax.mixers.qatten import QattenMixer
from qmix_jax.mixers.qmix import QMIXMixer
from qmix_jax.mixers.vdn import VDNMixer
from qmix_jax.settings.build import build_part

CONFIGS = sorted((Path(__file__).parents[2] / "conf/mixer").glob("*.yaml"))
AGENTS, ACTIONS, STATE = 3, 4, 5
EXAMPLE = example_input(AGENTS, ACTIONS, STATE)
NOT_HERE = ("none", "qplex")
"""Without a joint value; reads more than chosen values, see ``test_qplex.py``."""
JOINT_ACTIONS = np.array(list(itertools.product(range(ACTIONS), repeat=AGENTS)))

of_configs = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)


def configured(path: Path, **changes):
    return build_part("mixer", yaml.safe_load(path.read_text()) | changes, num_agents=AGENTS, state_size=STATE)


def chosen_only(mixer):
    """The mixer as a function of the chosen values and the state: all that these mixers read."""
    return lambda params, q, state: mixer.apply(params, EXAMPLE._replace(chosen=q, state=state))


@functools.cache
def values(mixer):
    """``q_tot`` of a batch of the agents' values at one state."""
    return jax.jit(jax.vmap(chosen_only(mixer), in_axes=(None, 0, None)))


@functools.cache
def gradients(mixer):
    """The derivatives of what the mixer returns by the agents' values, for a batch of values at one state."""
    return jax.jit(jax.vmap(jax.jacobian(chosen_only(mixer), argnums=1), in_axes=(None, 0, None)))


def random_params(mixer, seed: int, scale: float = 1.0):
    numbers = np.random.default_rng(seed)
    shapes = jax.eval_shape(mixer.init, jax.random.key(0), EXAMPLE)
    return jax.tree.map(lambda x: scale * numbers.normal(size=x.shape), shapes)


def random_inputs(seed: int, size: int, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.random.default_rng(seed)
    return scale * numbers.normal(size=(size, AGENTS)), scale * numbers.normal(size=STATE)


def dense(params, name: str, x: np.ndarray) -> np.ndarray:
    return x @ np.asarray(params[name]["kernel"]) + np.asarray(params[name]["bias"])


def qmix_in_numpy(params, q: np.ndarray, state: np.ndarray, layers: int) -> float:
    def weights(name: str) -> np.ndarray:
        x = np.maximum(dense(params, f"{name}_hidden", state), 0) if layers == 2 else state
        return np.abs(dense(params, name, x))

    w1, w2, b1 = weights("hyper_w1"), weights("hyper_w2"), dense(params, "hyper_b1", state)
    embed = len(b1)
    total = dense(params, "value", np.maximum(dense(params, "value_hidden", state), 0))[0]
    for unit in range(embed):
        x = b1[unit] + sum(q[agent] * w1[agent * embed + unit] for agent in range(len(q)))
        total += w2[unit] * (x if x > 0 else np.exp(x) - 1)
    return total


@pytest.mark.parametrize("layers", [1, 2])
def test_qmix_equals_plain_numpy(layers):
    mixer = QMIXMixer(AGENTS, STATE, embed_size=6, hypernet_layers=layers, hypernet_size=7)
    q, state = random_inputs(0, 16, scale=2.0)
    with jax.enable_x64(True):
        params = random_params(mixer, 1)
        q_tot = np.asarray(values(mixer)(params, q, state))
    np.testing.assert_allclose(q_tot, [qmix_in_numpy(params["params"], row, state, layers) for row in q], rtol=1e-10)


def test_vdn_is_the_sum():
    assert chosen_only(VDNMixer(AGENTS, STATE))({}, jnp.array([1.0, -2.5, 4.0]), jnp.ones(STATE)) == 2.5


def test_independent_learners_keep_their_values():
    q = jnp.array([1.0, -2.5, 4.0])
    np.testing.assert_array_equal(chosen_only(IndependentMixer(AGENTS, STATE))({}, q, jnp.ones(STATE)), q)


@of_configs
@given(seed=st.integers(0, 2**31 - 1), scale=st.floats(0.01, 30.0))
def test_no_agents_value_lowers_q_tot(path, seed, scale):
    mixer = configured(path)
    q, state = random_inputs(seed, 64, scale)
    weights = 0.1 if path.stem == "qatten" else 1.0  # larger ones leave all attention with one agent
    with jax.enable_x64(True):
        slopes = np.asarray(gradients(mixer)(random_params(mixer, seed, weights), q, state))
    assert (slopes >= 0).all()
    # Not by being constant: every agent counts somewhere.
    assert slopes.max(axis=tuple(range(slopes.ndim - 1))).min() > 0


@pytest.mark.parametrize("path", [path for path in CONFIGS if path.stem not in NOT_HERE], ids=lambda path: path.stem)
@given(seed=st.integers(0, 2**31 - 1))
def test_the_joint_argmax_is_every_agents_own(path, seed):
    mixer = configured(path)
    numbers = np.random.default_rng(seed)
    q, state = numbers.normal(size=(AGENTS, ACTIONS)), numbers.normal(size=STATE)
    # With weights of this size no unit saturates so far that rounding hides a difference.
    with jax.enable_x64(True):
        q_tot = values(mixer)(random_params(mixer, seed, scale=0.3), q[np.arange(AGENTS), JOINT_ACTIONS], state)
    assert tuple(JOINT_ACTIONS[np.argmax(q_tot)]) == tuple(q.argmax(axis=1))


@of_configs
def test_a_configured_mixer_gives_one_value_or_one_per_agent(path):
    mixer = configured(path)
    params = jax.jit(mixer.init)(jax.random.key(0, impl="rbg"), EXAMPLE)
    value = jax.jit(chosen_only(mixer))(params, jnp.arange(1.0, AGENTS + 1), jnp.ones(STATE))
    assert value.shape in ((), (AGENTS,))
    assert value.dtype == jnp.float32
    assert jnp.isfinite(value).all()


def with_setting(name: str) -> list:
    return [pytest.param(path, id=path.stem) for path in CONFIGS if f"{name}:" in path.read_text()]


def initial(mixer):
    init = jax.jit(mixer.init)
    params = init(jax.random.key(3, impl="rbg"), EXAMPLE)
    return jax.tree.map(np.asarray, params["params"])


@pytest.mark.parametrize("path", with_setting("init_scale"))
@pytest.mark.parametrize("layers", [1, 2])
def test_init_scale_multiplies_every_initial_parameter(path, layers):
    if "hypernet_layers:" in path.read_text():
        shape = {"hypernet_layers": layers, "hypernet_size": 8}
    else:
        shape = {"embed_size": 8 * layers}
    usual, small = (initial(configured(path, init_scale=s, **shape)) for s in (1.0, 0.01))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(y, 0.01 * x, rtol=1e-4, atol=1e-8), usual, small)
    for name, layer in usual.items():
        # PyTorch's default: uniform in ±1/sqrt(fan_in), for weights and biases.
        bound = layer["kernel"].shape[0] ** -0.5
        assert 0.5 * bound < np.abs(layer["kernel"]).max() <= bound, name
        assert np.abs(layer["bias"]).max() <= bound, name


@pytest.mark.parametrize("function", ["abs", "softplus", "square"])
@pytest.mark.parametrize("path", with_setting("nonnegative"))
@given(seed=st.integers(0, 2**31 - 1))
@settings(max_examples=20)
def test_every_non_negative_function_keeps_the_mixer_monotone(path, function, seed):
    mixer = configured(path, nonnegative=function)
    q, state = random_inputs(seed, 16)
    with jax.enable_x64(True):
        params = random_params(mixer, seed)
        slopes = np.asarray(gradients(mixer)(params, q, state))
        usual = values(mixer)(params, q, state)
        other = values(configured(path, nonnegative="square" if function == "abs" else "abs"))(params, q, state)
    assert (slopes >= 0).all()
    assert (np.asarray(usual) != np.asarray(other)).any()


def reference(name: str, params, q: np.ndarray, state: np.ndarray) -> float:
    """What the papers' ablations compute, from parameters by name."""
    if name == "qmix_ns":
        return elu(q @ np.abs(params["w1"]) + params["b1"]) @ np.abs(params["w2"]) + params["b2"]
    bias = dense(params, "value", np.maximum(dense(params, "value_hidden", state), 0))[0]
    if name == "vdn_s":
        return q.sum() + bias
    if name == "qmix_lin":
        return (q * np.abs(dense(params, "hyper_w", state))).sum() + bias
    assert name == "cross_channel_learned"
    w1 = np.abs(dense(params, "hyper_w1", state)).reshape(len(q), -1)
    hidden = elu(q @ w1 + dense(params, "hyper_b1", state))
    channels = np.abs(params["channels"])
    mixed = elu((channels / channels.sum(axis=1, keepdims=True)) @ hidden)
    return mixed @ np.abs(dense(params, "hyper_w2", state)) + bias


def elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.exp(x) - 1)


def qatten_in_numpy(params, q: np.ndarray, state: np.ndarray, heads: int, units: np.ndarray, weighted: bool) -> float:
    """One head and one agent at a time; queries and head weights have two layers."""
    total = dense(params, "value", np.maximum(dense(params, "value_hidden", state), 0))[0]
    weights = np.abs(dense(params, "head", np.maximum(dense(params, "head_hidden", state), 0))) if weighted else None
    for head in range(heads):
        query = dense(params, f"query_{head}", np.maximum(dense(params, f"query_{head}_hidden", state), 0))
        scores = [np.exp(dense(params, f"key_{head}", unit) @ query / np.sqrt(len(query))) for unit in units]
        mixed = sum(score * value for score, value in zip(scores, q, strict=True)) / sum(scores)
        total += mixed if weights is None else weights[head] * mixed
    return total


@pytest.mark.parametrize(
    ("changes", "units"),
    [
        ({}, lambda state: state[:3, None]),
        ({"weighted_head": False, "heads": 3}, lambda state: state[:3, None]),
        ({"state_size": 8, "unit_size": 2}, lambda state: state[:6].reshape(3, 2)),
        ({"state_size": 2}, lambda state: np.stack([state] * 3)),
    ],
    ids=["cut", "heads", "unit_size", "small_state"],
)
def test_qatten_equals_plain_numpy(changes, units):
    settings = {"num_agents": AGENTS, "state_size": STATE, "embed_size": 6, "hypernet_layers": 2, "heads": 2, **changes}
    mixer = QattenMixer(**settings)
    numbers = np.random.default_rng(0)
    q, state = 2 * numbers.normal(size=(16, AGENTS)), numbers.normal(size=settings["state_size"])
    with jax.enable_x64(True):
        example = example_input(AGENTS, ACTIONS, settings["state_size"])
        shapes = jax.eval_shape(mixer.init, jax.random.key(0), example)["params"]
        params = jax.tree.map(lambda x: numbers.normal(size=x.shape), shapes)
        mix = jax.vmap(lambda row: mixer.apply({"params": params}, example._replace(chosen=row, state=state)))
        q_tot = np.asarray(mix(q))
    weighted, heads = settings.get("weighted_head", True), settings["heads"]
    expected = [qatten_in_numpy(params, row, state, heads, units(state), weighted) for row in q]
    np.testing.assert_allclose(q_tot, expected, rtol=1e-10)


def test_qatten_names_settings_that_do_not_fit():
    with pytest.raises(
        ConfigError, match=r"mixer\.unit_size=2: must be between 1 and 1: the state has 5 features for 3"
    ):
        QattenMixer(AGENTS, STATE, unit_size=2)
    with pytest.raises(ConfigError, match=r"mixer\.heads=0: must be at least 1"):
        QattenMixer(AGENTS, STATE, heads=0)


@pytest.mark.parametrize("name", ["vdn_s", "qmix_lin", "qmix_ns", "cross_channel_learned"])
def test_the_other_mixers_equal_plain_numpy(name):
    path = next(path for path in CONFIGS if path.stem == name.removesuffix("_learned"))
    mixer = configured(path, embed_size=6, **({"learned": True} if name.endswith("_learned") else {}))
    q, state = random_inputs(0, 16, scale=2.0)
    with jax.enable_x64(True):
        params = random_params(mixer, 1)
        q_tot = np.asarray(values(mixer)(params, q, state))
    np.testing.assert_allclose(q_tot, [reference(name, params["params"], row, state) for row in q], rtol=1e-9)


def test_a_fixed_channel_mixing_has_no_parameters_and_depends_on_its_seed():
    path = next(path for path in CONFIGS if path.stem == "cross_channel")
    one, other = configured(path), configured(path, projection_seed=1)
    assert "channels" not in initial(one)
    q, state = random_inputs(0, 4)
    params = random_params(one, 0)
    assert (np.asarray(values(one)(params, q, state)) != np.asarray(values(other)(params, q, state))).all()


def test_an_unknown_non_negative_function_is_named():
    with pytest.raises(ConfigError, match=r"mixer\.nonnegative=relu: unknown; did you mean"):
        QMIXMixer(AGENTS, STATE, nonnegative="relu")
