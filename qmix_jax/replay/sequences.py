"""Experience replay on the device: a ring of whole sequences, sampled uniformly or by priority."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from qmix_jax.replay import shards
from qmix_jax.types import Replay, Start

SMALLEST_PRIORITY = 1e-6


class Priorities(NamedTuple):
    """The part of a :class:`Replay` that learning changes."""

    priority: Float[Array, " C"]
    max_priority: Float[Array, ""]


class Minibatch(NamedTuple):
    """Sampled sequences, their places in the ring, and their weights."""

    slots: Any
    """Time first: ``[T, M]``."""
    places: Int[Array, " M"]
    weights: Float[Array, " M"]
    """Importance-sampling weights; 1 for uniform sampling."""
    start: Start | None = None
    """What the sequences started from, ``[M]``; None where each starts with an episode."""


def init(example: Any, capacity: int, length: int, devices: int = 1, start: Start | None = None) -> Replay:
    """An empty ring of ``capacity`` sequences of ``length`` slots, each shaped like ``example`` (any pytree).

    Of several ``devices`` each keeps an equal block of the slots. ``start`` is an example of what a sequence starts
    from, where they continue.
    """
    slots = jax.tree.map(lambda x: jnp.zeros((capacity // devices, length, *x.shape), x.dtype), example)
    return Replay(
        slots=slots,
        priority=jnp.zeros(capacity),
        max_priority=jnp.ones(()),
        cursor=jnp.zeros((), jnp.int32),
        size=jnp.zeros((), jnp.int32),
        starts=jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), start),
    )


def add(replay: Replay, slots: Any, starts: Start | None = None) -> Replay:
    """Store sequences ``[B, T]`` with the largest priority seen so far; a full ring overwrites the oldest.

    ``starts`` ``[B]`` are what they started from, where they continue.
    """
    capacity, added = replay.priority.shape[0], jax.tree.leaves(slots)[0].shape[0]
    places = (replay.cursor + jnp.arange(added, dtype=jnp.int32)) % capacity
    return replay._replace(
        slots=jax.tree.map(lambda stored, new: shards.write(stored, places, new, capacity), replay.slots, slots),
        starts=jax.tree.map(lambda stored, new: stored.at[places].set(new), replay.starts, starts),
        priority=replay.priority.at[places].set(replay.max_priority),
        cursor=(replay.cursor + added) % capacity,
        size=jnp.minimum(replay.size + added, capacity),
    )


def sample(replay: Replay, key: Key[Array, ""], batch_size: int, replacement: bool = True) -> Minibatch:
    """``batch_size`` sequences drawn uniformly.

    Without ``replacement`` all are distinct; the ring must hold at least ``batch_size``.
    """
    if replacement:
        # The bias of the remainder is at most size / 2^32; randint would be three times as much to compile.
        places = (jax.random.bits(key, (batch_size,)) % replay.size.astype(jnp.uint32)).astype(jnp.int32)
    else:
        places = _largest(key, jnp.zeros_like(replay.priority), replay.size, batch_size)
    return read(replay, places, jnp.ones(batch_size))


def sample_prioritised(
    replay: Replay,
    key: Key[Array, ""],
    batch_size: int,
    alpha: Float[Array, ""],
    beta: Float[Array, ""],
    replacement: bool = True,
) -> Minibatch:
    """``batch_size`` sequences drawn with probability ``P(i) = p_i^alpha / sum_k p_k^alpha``.

    Weights are ``(size P(i))^-beta``, divided by the largest in the whole ring (Schaul et al. 2016, equation 1 and
    section 3.4). ``alpha`` 0 is uniform. Without ``replacement`` all are distinct, drawn one after the other with
    probabilities proportional to ``P`` among the remaining ones.
    """
    stored = jnp.arange(replay.priority.shape[0]) < replay.size
    mass = jnp.where(stored, replay.priority**alpha, 0.0)
    if replacement:
        total = jnp.cumsum(mass)
        marks = jax.random.uniform(key, (batch_size,)) * total[-1]
        # Rounding must not pick a place beyond the last stored one.
        places = jnp.minimum(jnp.searchsorted(total, marks, side="right"), replay.size - 1).astype(jnp.int32)
    else:
        places = _largest(key, alpha * jnp.log(replay.priority), replay.size, batch_size)
    # (size P)^-beta / max = (mass / smallest mass)^-beta: the sums cancel.
    smallest = jnp.where(stored, mass, jnp.inf).min()
    return read(replay, places, (mass[places] / smallest) ** -beta)


def update_priorities(priorities: Priorities, places: Int[Array, " M"], priority: Float[Array, " M"]) -> Priorities:
    """New priorities of sampled sequences, at least :data:`SMALLEST_PRIORITY`."""
    priority = priority + SMALLEST_PRIORITY
    return Priorities(
        priority=priorities.priority.at[places].set(priority),
        max_priority=jnp.maximum(priorities.max_priority, priority.max()),
    )


def read(replay: Replay, places: Int[Array, " M"], weights: Float[Array, " M"]) -> Minibatch:
    """The sequences at these places, time first."""
    capacity = replay.priority.shape[0]
    slots = jax.tree.map(lambda stored: jnp.swapaxes(shards.read(stored, places, capacity), 0, 1), replay.slots)
    return Minibatch(slots, places, weights, jax.tree.map(lambda stored: stored[places], replay.starts))


def _largest(key: Key[Array, ""], logits: Float[Array, " C"], size: Int[Array, ""], count: int) -> Int[Array, " M"]:
    """``count`` distinct places among the first ``size`` (the Gumbel top-k trick)."""
    scores = logits + jax.random.gumbel(key, logits.shape)
    return jax.lax.top_k(jnp.where(jnp.arange(logits.shape[0]) < size, scores, -jnp.inf), count)[1]
