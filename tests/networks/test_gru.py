"""The GRU unroll and the agents, compared with plain and independent versions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmix_jax.networks.agents import (
    NO_ACTION,
    Agent,
    AnyAgent,
    FeedForwardAgent,
    LSTMAgent,
    RecurrentAgent,
    last_actions,
    unroll,
)
from qmix_jax.networks.gru import GRUWeights, gru_step, gru_unroll
from qmix_jax.networks.separate import SeparateAgents

LENGTH, ROWS, INPUT, HIDDEN = 7, 5, 4, 3
AGENTS, ACTIONS, OBS, MINIBATCH = 3, 4, 5, 2


def random_gru() -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Parameters, inputs ``[T, R, I]`` and resets ``[T, R, 1]``, some of them in mid-sequence."""
    numbers = np.random.default_rng(0)
    shapes = {
        "input_kernel": (INPUT, 3 * HIDDEN),
        "input_bias": (3 * HIDDEN,),
        "hidden_kernel": (HIDDEN, 3 * HIDDEN),
        "hidden_bias": (3 * HIDDEN,),
    }
    params = {name: numbers.normal(size=shape) for name, shape in shapes.items()}
    keep = (numbers.uniform(size=(LENGTH, ROWS, 1)) < 0.7).astype(float)
    assert 0 < keep[1:].mean() < 1
    return params, numbers.normal(size=(LENGTH, ROWS, INPUT)), keep


def scan_of_steps(weights: GRUWeights, x: jax.Array, keep: jax.Array, start: jax.Array) -> jax.Array:
    def step(hidden, slot):
        hidden = gru_step(weights, slot[0], hidden * slot[1])
        return hidden, hidden

    return jax.lax.scan(step, start, (x, keep))[1]


def unrolled(unroll, params, x, keep) -> jax.Array:
    return unroll(GRUWeights(**params), x, keep, jnp.zeros((ROWS, HIDDEN), x.dtype))


def gru_in_numpy(params, x, keep) -> np.ndarray:
    """PyTorch's GRUCell, one row and one step at a time; its weights are stacked reset, update, new."""

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    w_ir, w_iz, w_in = np.split(params["input_kernel"].T, 3)
    w_hr, w_hz, w_hn = np.split(params["hidden_kernel"].T, 3)
    b_ir, b_iz, b_in = np.split(params["input_bias"], 3)
    b_hr, b_hz, b_hn = np.split(params["hidden_bias"], 3)
    hidden = np.zeros((LENGTH, ROWS, HIDDEN))
    for row in range(ROWS):
        h = np.zeros(HIDDEN)
        for t in range(LENGTH):
            v, h = x[t, row], h if keep[t, row, 0] else np.zeros(HIDDEN)
            r = sigmoid(w_ir @ v + b_ir + w_hr @ h + b_hr)
            z = sigmoid(w_iz @ v + b_iz + w_hz @ h + b_hz)
            n = np.tanh(w_in @ v + b_in + r * (w_hn @ h + b_hn))
            h = (1 - z) * n + z * h
            hidden[t, row] = h
    return hidden


def test_the_unroll_equals_pytorch_s_gru_with_resets():
    params, x, keep = random_gru()
    with jax.enable_x64(True):
        hidden = jax.jit(functools.partial(unrolled, gru_unroll))(params, x, keep)
    np.testing.assert_allclose(hidden, gru_in_numpy(params, x, keep), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_the_custom_gradient_equals_that_of_a_scan_of_steps(platform, monkeypatch):
    """Both ways to accumulate weight gradients: that of CPUs and that of accelerators."""
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    params, x, keep = random_gru()
    weights_of_outputs = np.random.default_rng(1).normal(size=(LENGTH, ROWS, HIDDEN))

    def total(unroll, params, x):
        return (unrolled(unroll, params, x, keep) * weights_of_outputs).sum()

    with jax.enable_x64(True):
        own, plain = (
            jax.jit(jax.value_and_grad(functools.partial(total, unroll), argnums=(0, 1)))(params, x)
            for unroll in (gru_unroll, scan_of_steps)
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), own, plain)


def test_the_unroll_goes_on_from_a_hidden_state_and_has_its_gradient():
    params, x, keep = random_gru()
    start = np.random.default_rng(2).normal(size=(ROWS, HIDDEN))
    weights_of_outputs = np.random.default_rng(1).normal(size=(LENGTH, ROWS, HIDDEN))

    def own(weights, start):
        return gru_unroll(weights, x, keep, start)

    def plain(weights, hidden):
        outputs = []
        for t in range(LENGTH):
            hidden = gru_step(weights, x[t], hidden * keep[t])
            outputs.append(hidden)
        return jnp.stack(outputs)

    def total(unroll, params, start):
        return (unroll(GRUWeights(**params), start) * weights_of_outputs).sum()

    with jax.enable_x64(True):
        found, expected = (
            jax.jit(jax.value_and_grad(functools.partial(total, unroll), argnums=(0, 1)))(params, start)
            for unroll in (own, plain)
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), found, expected)
    assert np.abs(found[1][1]).max() > 0.01


def make_agent(kind: type[Agent] = RecurrentAgent, num_agents: int = AGENTS, **options) -> Agent:
    return kind(obs_size=OBS, num_agents=num_agents, num_actions=ACTIONS, hidden_size=HIDDEN, **options)


KINDS = [RecurrentAgent, LSTMAgent, FeedForwardAgent]
SEPARATE = SeparateAgents(make_agent(num_agents=1), AGENTS)


@functools.cache
def init(agent: AnyAgent, seed: int = 0):
    arguments = agent.initial_hidden(1), np.zeros((1, AGENTS, OBS), np.float32)
    params = jax.jit(agent.init)(jax.random.key(seed, impl="rbg"), *arguments, np.zeros((1, AGENTS), np.int32))
    return jax.tree.map(np.asarray, params)


@functools.cache
def stepped(agent: AnyAgent):
    return jax.jit(agent.apply)


@functools.cache
def whole(agent: AnyAgent):
    return jax.jit(functools.partial(unroll, agent))


def random_sequence() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Observations, actions and episode starts ``[T, M, ...]`` with new episodes in mid-sequence."""
    numbers = np.random.default_rng(2)
    obs = numbers.normal(size=(LENGTH, MINIBATCH, AGENTS, OBS)).astype(np.float32)
    action = numbers.integers(0, ACTIONS, size=(LENGTH, MINIBATCH, AGENTS)).astype(np.int32)
    first = np.zeros((LENGTH, MINIBATCH), bool)
    first[0], first[3, 0], first[5, 1] = True, True, True
    return obs, action, first


def test_last_actions_stay_within_an_episode():
    action = jnp.arange(1, 7, dtype=jnp.int32).reshape(6, 1)
    first = jnp.array([True, False, False, True, False, False])
    assert last_actions(action, first)[:, 0].tolist() == [NO_ACTION, 1, 2, NO_ACTION, 4, 5]
    # No action precedes the start of a sequence, even if no episode starts there.
    assert last_actions(action, first.at[0].set(False))[0, 0] == NO_ACTION


def check_unroll(agent: AnyAgent) -> None:
    params = init(agent)
    obs, action, first = random_sequence()
    last_action = np.asarray(last_actions(action, first))
    q = np.asarray(whole(agent)(params, obs, last_action, first))

    hidden = np.asarray(agent.initial_hidden(MINIBATCH))
    for t in range(LENGTH):
        hidden = np.where(first[t][:, None, None], np.float32(0), hidden)
        hidden, q_t = stepped(agent)(params, hidden, obs[t], last_action[t])
        np.testing.assert_allclose(q[t], q_t, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"last_action": False}, {"agent_id": False}, {"layer_norm": True}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_unrolling_an_agent_equals_stepping_it_with_resets(kind, options):
    check_unroll(make_agent(kind, **options))


def test_unrolling_separate_agents_equals_stepping_them_with_resets():
    check_unroll(SEPARATE)


def test_separate_agents_have_their_own_parameters():
    params = init(SEPARATE)
    obs, last_action, _ = (x[0] for x in random_sequence())
    hidden = np.random.default_rng(3).normal(size=(MINIBATCH, AGENTS, HIDDEN)).astype(np.float32)
    new_hidden, q = stepped(SEPARATE)(params, hidden, obs, last_action)
    kernels = params["params"]["gru_hidden_kernel"]
    assert kernels.shape == (AGENTS, HIDDEN, 3 * HIDDEN)
    assert (kernels[0] != kernels[1]).all()
    for i in range(AGENTS):
        alone = jax.tree.map(lambda x, i=i: x[i], params)
        mine = slice(i, i + 1)
        expected = stepped(SEPARATE.one)(alone, hidden[:, mine], obs[:, mine], last_action[:, mine])
        np.testing.assert_allclose(new_hidden[:, mine], expected[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(q[:, mine], expected[1], rtol=1e-5, atol=1e-6)


def test_the_lstm_equals_plain_numpy():
    agent = make_agent(LSTMAgent, last_action=False, agent_id=False)
    p = init(agent)["params"]
    obs, last_action, _ = (x[0] for x in random_sequence())
    hidden = np.random.default_rng(3).normal(size=(MINIBATCH, AGENTS, 2 * HIDDEN)).astype(np.float32)
    new_hidden, q = stepped(agent)({"params": p}, hidden, obs, last_action)

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    x = np.maximum(obs @ p["obs_kernel"] + p["first_bias"], 0)
    gates = x @ p["lstm_input_kernel"] + hidden[..., :HIDDEN] @ p["lstm_hidden_kernel"] + p["lstm_bias"]
    input_gate, forget_gate, cell_input, output_gate = np.split(gates, 4, axis=-1)
    cell = sigmoid(forget_gate) * hidden[..., HIDDEN:] + sigmoid(input_gate) * np.tanh(cell_input)
    output = sigmoid(output_gate) * np.tanh(cell)
    np.testing.assert_allclose(new_hidden, np.concatenate([output, cell], axis=-1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(q, output @ p["q_kernel"] + p["q_bias"], rtol=1e-5, atol=1e-6)


def test_the_feed_forward_agent_equals_plain_numpy_and_has_no_hidden_state():
    agent = make_agent(FeedForwardAgent, last_action=False, agent_id=False)
    p = init(agent)["params"]
    obs, last_action, _ = (x[0] for x in random_sequence())
    hidden, q = stepped(agent)({"params": p}, agent.initial_hidden(MINIBATCH), obs, last_action)
    assert hidden.size == 0
    x = np.maximum(obs @ p["obs_kernel"] + p["first_bias"], 0)
    x = np.maximum(x @ p["second_kernel"] + p["second_bias"], 0)
    np.testing.assert_allclose(q, x @ p["q_kernel"] + p["q_bias"], rtol=1e-5, atol=1e-6)


def test_layer_norm_removes_the_scale_of_the_input():
    obs, last_action, _ = (x[0] for x in random_sequence())
    agent = make_agent(layer_norm=True, last_action=False, agent_id=False)
    params = init(agent)
    params["params"]["first_bias"] = np.zeros(HIDDEN, np.float32)
    normal, large = (values(agent, params, scale * obs, last_action) for scale in (10, 1000))
    np.testing.assert_allclose(normal, large, rtol=1e-3, atol=1e-4)
    assert "norm" not in init(make_agent())["params"]


def test_the_split_first_layer_equals_one_dense_layer():
    p = init(make_agent())["params"]
    obs, last_action, _ = (x[0] for x in random_sequence())
    hidden = np.random.default_rng(3).normal(size=(MINIBATCH, AGENTS, HIDDEN)).astype(np.float32)
    new_hidden, q = stepped(make_agent())({"params": p}, hidden, obs, last_action)

    ids = np.broadcast_to(np.eye(AGENTS), (MINIBATCH, AGENTS, AGENTS))
    concatenation = np.concatenate([obs, np.eye(ACTIONS)[last_action], ids], axis=-1)
    kernel = np.concatenate([p["obs_kernel"], p["last_action_kernel"], p["agent_id_kernel"]])
    x = np.maximum(concatenation @ kernel + p["first_bias"], 0)
    r, z, n = np.split(x @ p["gru_input_kernel"] + p["gru_input_bias"], 3, axis=-1)
    h_r, h_z, h_n = np.split(hidden @ p["gru_hidden_kernel"] + p["gru_hidden_bias"], 3, axis=-1)
    z = 1 / (1 + np.exp(-z - h_z))
    h = (1 - z) * np.tanh(n + h_n / (1 + np.exp(-r - h_r))) + z * hidden
    np.testing.assert_allclose(new_hidden, h, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(q, h @ p["q_kernel"] + p["q_bias"], rtol=1e-5, atol=1e-6)


def values(agent: AnyAgent, params, obs, last_action) -> np.ndarray:
    return np.asarray(stepped(agent)(params, np.zeros((len(obs), AGENTS, HIDDEN), np.float32), obs, last_action)[1])


def test_the_last_action_is_read_only_if_set():
    obs, last_action, _ = (x[0] for x in random_sequence())
    other = (last_action + 1) % ACTIONS
    agent, without = make_agent(), make_agent(last_action=False)
    params, params_without = init(agent), init(without)
    assert (values(agent, params, obs, last_action) != values(agent, params, obs, other)).any(axis=-1).all()
    assert "last_action_kernel" not in params_without["params"]
    np.testing.assert_array_equal(
        values(without, params_without, obs, last_action), values(without, params_without, obs, other)
    )


def test_no_last_action_adds_nothing():
    obs, last_action, _ = (x[0] for x in random_sequence())
    params = init(make_agent())
    remaining = {"params": {name: x for name, x in params["params"].items() if name != "last_action_kernel"}}
    np.testing.assert_array_equal(
        values(make_agent(), params, obs, np.full_like(last_action, NO_ACTION)),
        values(make_agent(last_action=False), remaining, obs, last_action),
    )


def test_agents_with_equal_histories_differ_only_by_their_id():
    obs = np.broadcast_to(random_sequence()[0][0, :, :1], (MINIBATCH, AGENTS, OBS))
    last_action = np.zeros((MINIBATCH, AGENTS), np.int32)
    agent, without = make_agent(), make_agent(agent_id=False)
    params_without = init(without)
    assert "agent_id_kernel" not in params_without["params"]
    q, same = values(agent, init(agent), obs, last_action), values(without, params_without, obs, last_action)
    assert (q[:, 0] != q[:, 1]).any()
    np.testing.assert_allclose(same, np.broadcast_to(same[:, :1], same.shape), rtol=1e-6)


def test_initial_parameters_are_those_of_pytorch():
    first, recurrent = (OBS + ACTIONS + AGENTS) ** -0.5, HIDDEN**-0.5
    for name, x in init(make_agent())["params"].items():
        bound = first if name in ("obs_kernel", "last_action_kernel", "agent_id_kernel", "first_bias") else recurrent
        assert 0.5 * bound < np.abs(x).max() <= bound, name


def test_a_vmap_over_parameters_equals_separate_networks():
    agent = make_agent()
    obs, action, first = random_sequence()
    last_action = np.asarray(last_actions(action, first))
    each = [init(agent, seed) for seed in (0, 1)]
    stacked = jax.tree.map(lambda *x: np.stack(x), *each)

    def gradient(params):
        return jax.value_and_grad(lambda p: (unroll(agent, p, obs, last_action, first) ** 2).mean())(params)

    together = jax.jit(jax.vmap(gradient))(stacked)
    alone = jax.jit(gradient)
    for k, params in enumerate(each):
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x[k], y, rtol=1e-4, atol=1e-6),  # noqa: B023
            together,
            alone(params),
        )
