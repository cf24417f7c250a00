"""A replay that several devices share: each keeps a block of its places and has the others' sequences sent to it.

Which places are read or written is the same on all devices. Numbers are sent as they are: a sum of one device's number
and the others' zeros.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

AXIS = "parts"
"""The mesh axis of the devices that share a seed, its minibatches and its replay."""


def write(stored: Array, places: Int[Array, " B"], new: Array, capacity: int) -> Array:
    """``new`` at ``places`` of a ring of ``capacity``, of which ``stored`` is this device's block, or all."""
    own = stored.shape[0]
    if own == capacity:
        return stored.at[places].set(new)
    local, is_own = _in_block(places, own)
    return stored.at[jnp.where(is_own, local, own)].set(new, mode="drop")


def read(stored: Array, places: Int[Array, " M"], capacity: int) -> Array:
    """What is at ``places``, ``[M, ...]``; see :func:`write`."""
    own = stored.shape[0]
    if own == capacity:
        return stored[places]
    local, is_own = _in_block(places, own)
    rows = stored[jnp.where(is_own, local, 0)]
    is_own = is_own.reshape(-1, *(1 for _ in rows.shape[1:]))
    return jax.lax.psum(jnp.where(is_own, rows, jnp.zeros_like(rows)), AXIS)


def _in_block(places: Array, size: int) -> tuple[Any, Any]:
    """Places within this device's block, and which of them lie there."""
    local = places - jax.lax.axis_index(AXIS).astype(places.dtype) * size
    return local, (local >= 0) & (local < size)
