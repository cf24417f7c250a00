"""A minibatch worked through in parts: one after the other, or by several devices side by side.

What comes out of the parts is put together in the same order wherever they were worked on, so that the number of
devices changes nothing but the rounding of the programs that XLA makes. Smaller parts stay in a CPU's cache; on an
accelerator they save memory.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from qmix_jax.replay.sequences import Minibatch

AXIS = "parts"
"""The mesh axis of the devices that share a seed's minibatches."""


def in_parts(function: Callable[[Minibatch], Any], minibatch: Minibatch, parts: int, devices: int) -> Any:
    """What ``function`` makes of each part, ``[parts, ...]``.

    Args:
        function: gives floating-point arrays.
        minibatch: its sequences are cut into ``parts`` of the same size.
        parts: a divisor of the minibatch's size.
        devices: a divisor of ``parts``; with more than 1, ``AXIS`` must be a mesh axis with as many.
    """
    if devices > 1:
        size = minibatch.places.shape[0] // devices
        first = jax.lax.axis_index(AXIS) * size
        minibatch = _on_sequences(lambda x, axis: jax.lax.dynamic_slice_in_dim(x, first, size, axis=axis), minibatch)
    own = parts // devices
    if own == 1:
        results = jax.tree.map(lambda x: x[None], function(minibatch))
    else:
        results = jax.lax.map(function, _on_sequences(lambda x, axis: _cut(x, own, axis), minibatch))
    return results if devices == 1 else _of_all_devices(results)


def _on_sequences(function: Callable[[Any, int], Any], minibatch: Minibatch) -> Minibatch:
    """``function`` of every array and of the axis that its sequences are on."""
    return Minibatch(
        slots=jax.tree.map(lambda x: function(x, 1), minibatch.slots),
        places=function(minibatch.places, 0),
        weights=function(minibatch.weights, 0),
    )


def _cut(x: jax.Array, parts: int, axis: int) -> jax.Array:
    """``axis`` in ``parts``, which become the first axis."""
    shape = (*x.shape[:axis], parts, x.shape[axis] // parts, *x.shape[axis + 1 :])
    return jnp.moveaxis(x.reshape(shape), axis, 0)


def _of_all_devices(results: Any) -> Any:
    """``[own, ...]`` of every device together; as one vector, since each exchange has its price."""
    vectors = jax.vmap(lambda result: ravel_pytree(result)[0])(results)
    restore = ravel_pytree(jax.tree.map(lambda x: x[0], results))[1]
    return jax.vmap(restore)(jax.lax.all_gather(vectors, AXIS, tiled=True))
