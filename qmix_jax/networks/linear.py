"""PyTorch's initialisation of linear layers, and sums over many rows as matrix products.

XLA's CPU backend takes several times as long for a plain sum.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def uniform_fan_in(fan_in: int, scale: float = 1.0) -> Callable[..., jax.Array]:
    """PyTorch's default for linear layers, weights and biases alike: uniform in ±scale / sqrt(fan_in).

    PyMARL trains with it. Orthogonal initialisation is not offered: its QR decomposition under ``vmap`` can deadlock
    XLA on machines with two cores.
    """
    bound = scale / fan_in**0.5

    def initialize(key, shape, dtype=float):
        return jax.random.uniform(key, shape, dtype, minval=-bound, maxval=bound)

    return initialize


def sum_rows(x: Float[Array, "R K"]) -> Float[Array, " K"]:
    """``x.sum(axis=0)``, as a matrix product."""
    return (jnp.ones((1, x.shape[0]), x.dtype) @ x)[0]


@jax.custom_vjp
def add_bias(x: Float[Array, "R K"], bias: Float[Array, " K"]) -> Float[Array, "R K"]:
    """``x + bias`` for every row, with :func:`sum_rows` as the gradient of ``bias``."""
    return x + bias[None]


def _forward(x, bias):
    return add_bias(x, bias), None


def _backward(_, d):
    return d, sum_rows(d)


add_bias.defvjp(_forward, _backward)


@jax.custom_vjp
def product(x: Float[Array, "R I"], kernel: Float[Array, "I K"]) -> Float[Array, "R K"]:
    """``x @ kernel``, where the gradient of ``kernel`` on a CPU transposes ``x`` before the product.

    With 64 columns, XLA's own ``x.T @ d`` takes up to three times as long there: the rows of ``x`` that it reads
    together share a few sets of the cache.
    """
    return x @ kernel


def _product_forward(x, kernel):
    return x @ kernel, (x, kernel)


def _product_backward(residuals, d):
    x, kernel = residuals
    columns = jax.lax.optimization_barrier(x.T) if jax.default_backend() == "cpu" else x.T
    return d @ kernel.T, columns @ d


product.defvjp(_product_forward, _product_backward)


def with_leading_axes(x: Array, ndim: int) -> Array:
    """``x`` with leading axes of size one, so that broadcasting is explicit."""
    return x.reshape((1,) * (ndim - x.ndim) + x.shape)
