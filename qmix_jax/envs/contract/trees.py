"""Trees of JAX arrays as NumPy numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float


def plain(tree: Any) -> Any:
    """PRNG keys as the numbers that they are."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, tree)


def is_key(leaf: Any) -> bool:
    """Whether it is an array of PRNG keys."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def numbers(tree: Any, episodes: int) -> Float[np.ndarray, "B D"]:
    """All numbers of B rows side by side."""
    leaves = [np.asarray(leaf).astype(np.float64).reshape(episodes, -1) for leaf in jax.tree.leaves(plain(tree))]
    return np.concatenate(leaves, axis=1) if leaves else np.zeros((episodes, 0))


def true(values: Any) -> Bool[np.ndarray, "..."]:
    """What is not 0, whatever the dtype."""
    return np.asarray(values) != 0
