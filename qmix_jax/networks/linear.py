"""Sums over many rows, as products: XLA's CPU backend takes several times as long for the sum itself."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def sum_rows(x: Float[Array, "R K"]) -> Float[Array, " K"]:
    """``x.sum(axis=0)``."""
    return (jnp.ones((1, x.shape[0]), x.dtype) @ x)[0]


@jax.custom_vjp
def add_bias(x: Float[Array, "R K"], bias: Float[Array, " K"]) -> Float[Array, "R K"]:
    """``x + bias`` for every row."""
    return x + bias[None]


def _forward(x, bias):
    return add_bias(x, bias), None


def _backward(_, d):
    return d, sum_rows(d)


add_bias.defvjp(_forward, _backward)
