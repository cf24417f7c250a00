"""Products in forms that XLA's CPU backend is fast at: the same numbers as the plain ones, gradients included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmix_jax.learning.optimizers import global_norm
from qmix_jax.mixers.base import example_input
from qmix_jax.mixers.qmix import QMIXMixer
from qmix_jax.networks.linear import product


def numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_product_and_its_gradients():
    x, kernel, d = numbers(0, 30, 8), numbers(1, 8, 3), numbers(2, 30, 3)
    y, backward = jax.vjp(product, jnp.asarray(x), jnp.asarray(kernel))
    d_x, d_kernel = backward(jnp.asarray(d))
    np.testing.assert_allclose(y, x @ kernel, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(d_x, d @ kernel.T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(d_kernel, x.T @ d, rtol=1e-5, atol=1e-5)


def test_product_of_several_networks():
    x, kernel = jnp.asarray(numbers(0, 2, 30, 8)), jnp.asarray(numbers(1, 2, 8, 3))
    gradient = jax.vmap(jax.grad(lambda kernel, x: (product(x, kernel) ** 2).sum()))(kernel, x)
    np.testing.assert_allclose(gradient, 2 * np.einsum("krx,kry->kxy", x, np.asarray(x @ kernel)), rtol=1e-4, atol=1e-4)


def test_norm_of_all_numbers():
    tree = {"a": jnp.asarray(numbers(0, 3, 4)), "b": jnp.asarray(numbers(1, 5))}
    expected = np.sqrt(sum(float((np.asarray(x) ** 2).sum()) for x in tree.values()))
    assert float(global_norm(tree)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("layers", [1, 2])
def test_qmix_is_the_formula_of_its_layers(layers):
    mixer = QMIXMixer(num_agents=3, state_size=5, embed_size=4, hypernet_layers=layers, hypernet_size=6)
    inputs = example_input(3, 2, 5)._replace(chosen=jnp.asarray(numbers(0, 3)), state=jnp.asarray(numbers(1, 5)))
    params = mixer.init(jax.random.key(0), inputs)
    layer = {name: (np.asarray(p["kernel"]), np.asarray(p["bias"])) for name, p in params["params"].items()}
    state, chosen = np.asarray(inputs.state), np.asarray(inputs.chosen)

    def dense(x, name):
        return x @ layer[name][0] + layer[name][1]

    def weights(name):
        hidden = np.maximum(dense(state, f"{name}_hidden"), 0) if layers == 2 else state
        return np.abs(dense(hidden, name))

    mixed = chosen @ weights("hyper_w1").reshape(3, 4) + dense(state, "hyper_b1")
    value = dense(np.maximum(dense(state, "value_hidden"), 0), "value")[0]
    expected = np.where(mixed > 0, mixed, np.expm1(mixed)) @ weights("hyper_w2") + value
    assert float(mixer.apply(params, inputs)) == pytest.approx(float(expected), rel=1e-5)  # pyright: ignore
