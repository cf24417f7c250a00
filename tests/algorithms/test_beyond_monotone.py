"""Weighted QMIX, QTRAN and QPLEX: their weights and bounds by hand, full rank, parts that do not fit."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qmix_jax import make_algorithm
from qmix_jax.algorithms.qtran import JointNetwork
from qmix_jax.algorithms.weighted_qmix import Values, WeightedQMIX
from qmix_jax.errors import ConfigError
from qmix_jax.mixers.base import MixerInput, example_input
from qmix_jax.mixers.qmix import QMIXMixer
from qmix_jax.mixers.qplex import QPLEXMixer

GAME = np.array([[8.0, -12.0, -12.0], [-12.0, 0.0, 0.0], [-12.0, 0.0, 0.0]])
"""The game of the QTRAN paper."""
ACTIONS = np.array(list(itertools.product(range(3), repeat=2)))


# Weights


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [("optimistic", [1.0, 0.25, 0.25, 1.0]), ("central", [0.25, 1.0, 1.0, 0.25])],
)
def test_weights_by_hand(weighting, expected):
    values = Values(
        q_tot=jnp.array([[0.0, 2.0, 2.0, 0.0]]),
        central=jnp.zeros((1, 4)),
        target=jnp.array([[3.0, 3.0, 0.5, 3.0]]),
        taken_target=jnp.zeros((1, 4)),
        is_greedy=jnp.array([[False, True, False, False]]),
    )
    weights = WeightedQMIX(weighting=weighting, alpha=0.25).weights(values, jnp.ones((1, 4)))
    np.testing.assert_array_equal(weights[0], np.float32(expected))


# Counterfactual joint values


@pytest.mark.parametrize("form", ["hidden_states", "actions"])
def test_alternatives_are_the_joint_values_of_changed_actions(form):
    agents, actions, hidden_size = 3, 4, 2
    network = JointNetwork(form, embed_size=5, layers=2, num_actions=actions, code_size=6)
    state, hidden = jnp.arange(3.0), jnp.ones((agents, hidden_size)) * jnp.arange(1.0, 4.0)[:, None]
    action = jnp.array([1, 3, 0])
    params = jax.jit(network.init)(jax.random.key(0), state, hidden, action)
    changed = np.tile(np.asarray(action), (agents, actions, 1))
    for agent, other in itertools.product(range(agents), range(actions)):
        changed[agent, other, agent] = other

    @jax.jit
    def both(changed: jax.Array) -> tuple[jax.Array, jax.Array]:
        one_by_one = jax.vmap(jax.vmap(lambda action: network.apply(params, state, hidden, action, method="joint")))
        return network.apply(params, state, hidden, action, method="alternatives"), one_by_one(changed)

    np.testing.assert_allclose(*both(changed), rtol=1e-5, atol=1e-6)


# Full rank


def tables(mixer: Any, params: Any, q: np.ndarray) -> np.ndarray:
    """``q_tot`` of all joint actions of two agents with the values ``q`` ``[2, 3]``."""

    def one(action: jax.Array) -> jax.Array:
        chosen = jnp.take_along_axis(q, action[:, None], axis=-1)[:, 0]
        return mixer.apply(params, MixerInput(q, chosen, q.max(axis=-1), action, jnp.ones((2, 3), bool), jnp.ones(1)))

    return jax.vmap(one)(ACTIONS).reshape(3, 3)


def test_qplex_represents_the_game():
    """With values 4, 3, 3: ``8 - lambda_i`` for one agent's other actions, of which ``lambda_i`` is 4 or 20."""
    mixer = QPLEXMixer(2, 1, heads=2, weighted_head=False)
    shapes = jax.eval_shape(mixer.init, jax.random.key(0), example_input(2, 3, 1))
    with jax.enable_x64(True):
        p = jax.tree.map(lambda x: np.zeros(x.shape), shapes)
        # The first head is 4 throughout; the second is 16 where the other agent plays action 0.
        p["params"]["key_bias_0"][:, 0] = [4.0, 16.0]
        p["params"]["agent_bias_0"][:] = 50.0
        p["params"]["action_bias_0"][:] = [[50.0, 50.0], [-50.0, -50.0]]
        for agent, other in ((0, 1), (1, 0)):
            p["params"]["action_kernel_0"][1, 1 + 3 * other, agent] = 100.0
        program = jax.jit(lambda params, q: tables(mixer, params, q))
        table = program(p, np.array([[4.0, 3.0, 3.0]] * 2))
    np.testing.assert_allclose(table, GAME, atol=1e-6)


def test_no_table_of_qmix_is_like_the_game():
    """One agent's better action is better whatever the other one plays; in the game it is not."""

    def crossing(table: np.ndarray) -> bool:
        rows = [table[a] - table[b] for a, b in itertools.combinations(range(3), 2)]
        return any((row > 1e-6).any() and (row < -1e-6).any() for row in rows)

    mixer, numbers = QMIXMixer(2, 1, embed_size=16), np.random.default_rng(0)
    shapes = jax.eval_shape(mixer.init, jax.random.key(0), example_input(2, 3, 1))
    draws = jax.tree.map(lambda x: numbers.normal(size=(200, *x.shape)), shapes)
    with jax.enable_x64(True):
        program = jax.jit(jax.vmap(lambda params, q: tables(mixer, params, q)))
        found = np.asarray(program(draws, 3 * numbers.normal(size=(200, 2, 3))))
    assert crossing(GAME)
    assert not any(crossing(table) for table in found)


@pytest.mark.parametrize("form", ["hidden_states", "actions"])
def test_qtrans_joint_network_represents_the_game(form):
    network = JointNetwork(form, embed_size=32, layers=2, num_actions=3, code_size=5)
    state, hidden = jnp.ones(1), jnp.stack([jnp.ones(2), -jnp.ones(2)])
    optimizer = optax.adam(1e-2)

    def values(params: Any) -> jax.Array:
        return jax.vmap(lambda action: network.apply(params, state, hidden, action, method="joint"))(ACTIONS)

    def step(carry: Any, _: Any) -> tuple[Any, None]:
        params, opt_state = carry
        gradient = jax.grad(lambda params: ((values(params) - GAME.reshape(-1)) ** 2).mean())(params)
        updates, opt_state = optimizer.update(gradient, opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    @jax.jit
    def fit(key: jax.Array) -> jax.Array:
        params = network.init(key, state, hidden, jnp.zeros(2, jnp.int32))
        return values(jax.lax.scan(step, (params, optimizer.init(params)), None, length=1500)[0][0])

    np.testing.assert_allclose(fit(jax.random.key(0)).reshape(3, 3), GAME, atol=0.1)


# Parts that do not fit


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["algorithm=qtran", "mixer=qplex"], r"mixer\._target_=.*QPLEXMixer: QTRAN has a joint network .* mixer=vdn"),
        (["algorithm=ow_qmix", "mixer=none"], r"mixer\._target_=.*IndependentMixer: .* use mixer=qmix"),
        (["algorithm=cw_qmix", "algorithm.weighting=centrl"], r"algorithm\.weighting=centrl: unknown; did you mean"),
        (["algorithm=cw_qmix", "algorithm.alpha=2"], r"algorithm\.alpha=2: must be between 0 and 1"),
        (
            ["algorithm=cw_qmix", "algorithm.central_hidden_size=x"],
            r"algorithm\.central_hidden_size=x: must be null or",
        ),
        (["algorithm=qtran", "algorithm.joint=hidden"], r"algorithm\.joint=hidden: unknown"),
        (["algorithm=qtran", "algorithm.layers=0"], r"algorithm\.layers=0: must be at least 1"),
        (
            ["algorithm=qmix", "+algorithm.alpha=1"],
            r"algorithm\.alpha=1: no setting of algorithm=qmix; choose algorithm=cw_",
        ),
        (["algorithm=qtran", "algorithm.opt_weight=inf"], r"algorithm\.opt_weight=inf: must be a finite number"),
        (["algorithm=qtran", "algorithm.opt_weight=1e39"], r"algorithm\.opt_weight=1e\+39: must be at most 1e\+38"),
        (["algorithm=ow_qmix", "algorithm.central_weight=inf"], r"algorithm\.central_weight=inf: must be a finite"),
    ],
)
def test_what_does_not_fit_is_one_line(arguments, message):
    with pytest.raises(ConfigError, match=message) as error:
        make_algorithm(["env=two_step", *arguments])
    assert "\n" not in str(error.value)
