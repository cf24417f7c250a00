"""Process a minibatch in parts: one after the other, or in parallel on several devices.

Results are combined in the same order on any number of devices, so that only the rounding of XLA's programs can
differ. Smaller parts stay in a CPU's cache; on an accelerator they save memory.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Int

from qmix_jax.replay.sequences import Minibatch
from qmix_jax.replay.shards import AXIS
from qmix_jax.types import Start


def in_parts(function: Callable[[Minibatch], Any], minibatch: Minibatch, parts: int, devices: int) -> Any:
    """``function`` applied to each part, ``[parts, ...]``.

    Args:
        function: returns floating-point arrays.
        minibatch: its sequences are split into ``parts`` of equal size.
        parts: a divisor of the minibatch's size.
        devices: a divisor of ``parts``; if it is more than 1, ``AXIS`` must be a mesh axis of that size.
    """
    if devices > 1:
        size = minibatch.places.shape[0] // devices
        minibatch = _part(minibatch, jax.lax.axis_index(AXIS) * size, size)
    own = parts // devices
    if own == 1:
        results = jax.tree.map(lambda x: x[None], function(minibatch))
    else:
        size = minibatch.places.shape[0] // own
        # By index: parts as a leading axis would be copies of the minibatch.
        results = jax.lax.map(lambda index: function(_part(minibatch, index * size, size)), jnp.arange(own))
    return results if devices == 1 else _of_all_devices(results)


def _part(minibatch: Minibatch, first: Int[Array, ""], size: int) -> Minibatch:
    """``size`` sequences, from the one at ``first``."""
    return _on_sequences(lambda x, axis: jax.lax.dynamic_slice_in_dim(x, first, size, axis=axis), minibatch)


def first_sequences(minibatch: Minibatch, count: int) -> Minibatch:
    """The first ``count`` sequences."""
    return _on_sequences(lambda x, axis: jax.lax.slice_in_dim(x, 0, count, axis=axis), minibatch)


def _on_sequences(function: Callable[[Any, int], Any], minibatch: Minibatch) -> Minibatch:
    """``function(array, axis of its sequences)`` of every array."""
    return Minibatch(
        slots=jax.tree.map(lambda x: function(x, 1), minibatch.slots),
        places=function(minibatch.places, 0),
        weights=function(minibatch.weights, 0),
        start=minibatch.start and _of_start(function, minibatch.start),
    )


def _of_start(function: Callable[[Any, int], Any], start: Start) -> Start:
    return Start(
        hidden=function(start.hidden, 0),
        last_action=function(start.last_action, 0),
        burn_in=jax.tree.map(lambda x: function(x, 1), start.burn_in),
    )


def _of_all_devices(results: Any) -> Any:
    """``[own, ...]`` of all devices, concatenated; gathered as one vector, since each exchange has a cost."""
    vectors = jax.vmap(lambda result: ravel_pytree(result)[0])(results)
    restore = ravel_pytree(jax.tree.map(lambda x: x[0], results))[1]
    return jax.vmap(restore)(jax.lax.all_gather(vectors, AXIS, tiled=True))
