"""Standardise rewards and returns to mean 0 and variance 1 (Papoudakis et al. 2021), without padding."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from qmix_jax.types import Statistics


def init() -> Statistics:
    """Initial statistics: mean 0, variance 1 and almost no weight, as in EPyMARL."""
    return Statistics(mean=jnp.zeros(()), variance=jnp.ones(()), seen=jnp.full((), 1e-4))


def update(statistics: Statistics, x: Float[Array, "*batch"], mask: Float[Array, "*batch"]) -> Statistics:
    """Add the numbers where ``mask`` is 1 to the statistics (Chan et al. 1979); padding does not count."""
    mask = jnp.broadcast_to(mask, x.shape)
    count = mask.sum()
    mean = (mask * x).sum() / jnp.maximum(count, 1.0)
    squares = (mask * (x - mean) ** 2).sum()
    total = statistics.seen + count
    shift = mean - statistics.mean
    squares = squares + statistics.variance * statistics.seen + shift**2 * statistics.seen * count / total
    return Statistics(mean=statistics.mean + shift * count / total, variance=squares / total, seen=total)


def standardise(statistics: Statistics, x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """``(x - mean) / standard deviation``."""
    return (x - statistics.mean) / jnp.sqrt(statistics.variance)


def restore(statistics: Statistics, x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """The inverse of :func:`standardise`."""
    return x * jnp.sqrt(statistics.variance) + statistics.mean
