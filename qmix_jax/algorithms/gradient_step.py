"""One gradient step of any algorithm: the loss in parts, clipping, the optimiser, target networks, a guard."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from qmix_jax.algorithms.base import Algorithm, LossInfo, Metrics, TargetUpdate
from qmix_jax.learning import standardise
from qmix_jax.learning.minibatch_parts import in_parts
from qmix_jax.learning.optimizers import clip_by_global_norm, global_norm
from qmix_jax.learning.values import like
from qmix_jax.replay.sequences import Minibatch
from qmix_jax.types import HyperParams, Learner, Networks


def loss(
    algorithm: Algorithm,
    hyper: HyperParams,
    online: Networks,
    learner: Learner,
    minibatch: Minibatch,
    transitions: Float[Array, ""] | None = None,
) -> tuple[Float[Array, ""], LossInfo]:
    """The algorithm's loss (see :meth:`qmix_jax.algorithms.base.Method.loss`), or half of it (``half_loss``)."""
    value, info = algorithm.method.loss(algorithm, hyper, online, learner, minibatch, transitions)
    return value * (0.5 if algorithm.half_loss else 1.0), info


def learn(
    algorithm: Algorithm, hyper: HyperParams, learner: Learner, minibatch: Minibatch
) -> tuple[Learner, Metrics, Float[Array, " M"]]:
    """One gradient step of size ``hyper.learning_rate``, and the target network's update when it is due.

    A step whose loss, gradient or new parameters are no finite numbers is not taken, and no other after it. From the
    gradient on, all parameters are one vector: an operation on each of twenty arrays is twenty programs to compile.

    Returns the new priorities of the sequences as well.
    """
    batch = minibatch.slots
    (online, restore), (target, _) = ravel_pytree(learner.online), ravel_pytree(learner.target)
    before = learner._replace(online=cast(Any, online), target=cast(Any, target))
    if algorithm.standardise_rewards:
        reward = batch.reward * hyper.reward_scale
        learner = learner._replace(rewards=standardise.update(learner.rewards, reward, like(batch.mask, reward)))

    def part_loss(online: Networks, part: Minibatch) -> tuple[Float[Array, ""], LossInfo]:
        return loss(algorithm, hyper, online, learner, part, transitions=batch.mask.sum())

    def gradient(part: Minibatch) -> tuple[tuple[Float[Array, ""], LossInfo], Float[Array, " P"]]:
        value, gradient = jax.value_and_grad(part_loss, has_aux=True)(learner.online, part)
        return value, ravel_pytree(gradient)[0]

    sizes = algorithm.sizes
    (losses, info), gradients = in_parts(gradient, minibatch, sizes.minibatch_parts, sizes.devices_per_seed)
    value, metrics, gradients = jax.tree.map(lambda x: x.sum(axis=0), (losses, info.metrics, gradients))
    gradients, grad_norm = clip_by_global_norm(gradients, hyper.max_grad_norm)
    steps, opt_state = algorithm.optimizer.update(gradients, learner.opt_state, online)
    online = online - hyper.learning_rate * cast(Array, steps)
    updates = learner.updates + 1
    if algorithm.target_update is TargetUpdate.SOFT:
        target = optax.incremental_update(online, target, hyper.target_tau)
    elif algorithm.target_update is TargetUpdate.ONLINE:
        target = online
    elif algorithm.target_update is TargetUpdate.UPDATES:
        target = optax.periodic_update(online, target, updates, hyper.target_update_interval)
    stepped = learner._replace(
        online=online,
        target=target,
        opt_state=opt_state,
        returns=jax.tree.map(lambda x: x[0], info.returns),  # these are never learned in parts
        max_reward=jnp.maximum(learner.max_reward, info.max_reward.max()),
    )
    finite = jnp.isfinite(value) & jnp.isfinite(grad_norm) & jnp.isfinite(global_norm(online))
    learner = _unless_nonfinite(finite, updates, stepped, before)
    learner = learner._replace(**{name: restore(getattr(learner, name)) for name in ("online", "target")})
    metrics = {"loss": value, "grad_norm": grad_norm, "q_tot_max": info.q_tot_max.max(), **metrics}
    return learner, metrics, jnp.where(finite, info.priority.reshape(-1), 0.0)


def _unless_nonfinite(finite: Bool[Array, ""], updates: Int[Array, ""], stepped: Learner, learner: Learner) -> Learner:
    """The learner after an update; as it was, for good, once an update was not finite."""
    frozen = learner.nonfinite_update >= 0
    learner = jax.tree.map(lambda new, old: jnp.where(finite & ~frozen, new, old), stepped, learner)
    first = jnp.where(finite | frozen, learner.nonfinite_update, updates)
    return learner._replace(updates=updates, nonfinite_update=first)
