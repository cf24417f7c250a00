"""Experience replay on the device: a ring of whole sequences, sampled uniformly."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from qmix_jax.types import Replay, Slot


def init(example: Slot, capacity: int, length: int) -> Replay:
    """An empty ring of ``capacity`` sequences of ``length`` slots shaped like ``example`` (one slot)."""
    slots = jax.tree.map(lambda x: jnp.zeros((capacity, length, *x.shape), x.dtype), example)
    return Replay(slots=slots, cursor=jnp.zeros((), jnp.int32), size=jnp.zeros((), jnp.int32))


def add(replay: Replay, slots: Slot) -> Replay:
    """Store sequences ``[B, T]``; the oldest go when the ring is full."""
    capacity, added = replay.slots.mask.shape[0], slots.mask.shape[0]
    places = (replay.cursor + jnp.arange(added, dtype=jnp.int32)) % capacity
    return Replay(
        slots=jax.tree.map(lambda stored, new: stored.at[places].set(new), replay.slots, slots),
        cursor=(replay.cursor + added) % capacity,
        size=jnp.minimum(replay.size + added, capacity),
    )


def sample(replay: Replay, key: Key[Array, ""], batch_size: int) -> Slot:
    """``batch_size`` sequences drawn uniformly with replacement, time first: ``[T, M]``."""
    places = jax.random.randint(key, (batch_size,), 0, replay.size)
    return jax.tree.map(lambda stored: jnp.swapaxes(stored[places], 0, 1), replay.slots)
