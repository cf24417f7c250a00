"""Learning without a replay: minibatches of the newest sequences, in whole passes over them (Gallici et al. 2024)."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key


def passes(key: Key[Array, ""], num_sequences: int, batch_size: int, updates: int) -> Int[Array, "U M"]:
    """The sequences of each update's minibatch.

    A pass deals all ``num_sequences`` in a random order into minibatches of ``batch_size``, which divides it; then the
    next pass begins.
    """
    count = math.ceil(updates * batch_size / num_sequences)
    order = jnp.argsort(jax.random.uniform(key, (count, num_sequences)), axis=1).astype(jnp.int32)
    return order.reshape(-1, batch_size)[:updates]
