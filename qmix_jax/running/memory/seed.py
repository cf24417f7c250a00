"""What one seed takes in memory, from shapes alone.

Replay and parameters are counted exactly. What an iteration needs for a moment is estimated:

- the minibatch twice, as it is read from the replay and unpacked,
- everything that automatic differentiation of the loss keeps between the forward and the backward pass, and again as
  much for the backward pass itself,
- the gradients and their steps, and the collected sequences twice,
- or, where that is more, the environments of the evaluation.

The collecting environments' own states are left out; they are small beside the rest. Measured peaks are within 3% of
the plan on SMAX 3m, 3s5z and 27m_vs_30m (docs/durability.md).
"""

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from qmix_jax.acting.rollout import start
from qmix_jax.algorithms import loop as qmix
from qmix_jax.algorithms.base import Algorithm
from qmix_jax.learning.minibatch_parts import first_sequences
from qmix_jax.replay import sequences as replay
from qmix_jax.types import HyperParams, Learner, Networks

PER_UPDATE, PER_ITERATION = 80, 160
"""Bytes for the random key and the metrics of an update, and of an iteration."""


class SeedBytes(NamedTuple):
    """What one seed takes, in bytes."""

    replay: int
    parameters: int
    """Online and target network, the optimiser's state, the copy of the best agent, counters, and environments that
    are kept between iterations."""
    batches: int
    """What an iteration needs for a moment; only for seeds that run at once."""


def seed_bytes(algorithm: Algorithm) -> SeedBytes:
    """The bytes of one seed, from abstract shapes: nothing is computed or allocated."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(lambda key: qmix.init(algorithm, key), key)
    sizes = algorithm.sizes
    capacity = state.replay.priority.shape[0]
    sequence = _bytes((state.replay.slots, state.replay.starts)) // capacity
    number: Any = np.float32(0)
    hyper = HyperParams(*(number for _ in HyperParams._fields))
    minibatch = jax.eval_shape(lambda memory, key: qmix.sample(algorithm, hyper, memory, key), state.replay, key)
    kept = jax.eval_shape(lambda learner, batch: _kept(algorithm, hyper, learner, batch), state.learner, minibatch)
    gradients = _bytes(state.learner.online)
    read = sequence * sizes.batch_size + _bytes((minibatch.slots, minibatch.start))
    learning = read + 2 * sequence * sizes.num_envs + 2 * _bytes(kept) + 2 * gradients
    return SeedBytes(
        replay=_bytes(state.replay),
        parameters=_bytes(state) - _bytes(state.replay),
        batches=max(learning, _evaluation(algorithm))
        + PER_UPDATE * sizes.updates_per_iteration
        + PER_ITERATION * sizes.iterations_per_epoch,
    )


def _evaluation(algorithm: Algorithm) -> int:
    """What the environments of the greedy episodes take, before and after a step."""
    if algorithm.env.hosted is not None:
        return 0
    key = jax.eval_shape(lambda: jax.random.key(0)[None])
    actor = jax.eval_shape(lambda key: start(algorithm.env, algorithm.agent, key), key)
    return 3 * algorithm.sizes.evaluation_episodes * _bytes(actor)


def _kept(algorithm: Algorithm, hyper: HyperParams, learner: Learner, minibatch: replay.Minibatch) -> Any:
    """What the gradient of the loss of one part of a minibatch keeps from its forward pass."""
    size = algorithm.sizes.batch_size // algorithm.sizes.minibatch_parts
    part = first_sequences(minibatch, size)

    def loss(online: Networks) -> jax.Array:
        return algorithm.method.loss(algorithm, hyper, online, learner, part)[0]

    return jax.vjp(loss, learner.online)[1]


def _bytes(tree: Any) -> int:
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))
