"""Trees of JAX arrays as NumPy numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float


def plain(tree: Any) -> Any:
    """Replace PRNG keys by their data."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, tree)


def is_key(leaf: Any) -> bool:
    """Whether it is an array of PRNG keys."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def numbers(tree: Any, episodes: int) -> Float[np.ndarray, "B D"]:
    """All numbers of B rows, concatenated per row."""
    leaves = [np.asarray(leaf).astype(np.float64).reshape(episodes, -1) for leaf in jax.tree.leaves(plain(tree))]
    return np.concatenate(leaves, axis=1) if leaves else np.zeros((episodes, 0))


def true(values: Any) -> Bool[np.ndarray, "..."]:
    """Whether values are not 0, for any dtype."""
    return np.asarray(values) != 0
