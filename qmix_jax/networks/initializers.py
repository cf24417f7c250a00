"""Parameter initialisation."""

from collections.abc import Callable

import jax


def uniform_fan_in(fan_in: int, scale: float = 1.0) -> Callable[..., jax.Array]:
    """PyTorch's default for linear layers, weights and biases alike: uniform in ±scale / sqrt(fan_in).

    PyMARL trains with it. Orthogonal initialisation is not offered: its QR decomposition under ``vmap`` can deadlock
    XLA on machines with two cores.
    """
    bound = scale / fan_in**0.5

    def initialize(key, shape, dtype=float):
        return jax.random.uniform(key, shape, dtype, minval=-bound, maxval=bound)

    return initialize
