"""What the losses of several algorithms have in common."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from qmix_jax.acting.explore import masked_argmax
from qmix_jax.algorithms.base import Algorithm, LossInfo, TargetUpdate
from qmix_jax.errors import ConfigError
from qmix_jax.learning import standardise
from qmix_jax.learning.targets import Sequence
from qmix_jax.learning.values import action_values, like
from qmix_jax.mixers.base import example_input
from qmix_jax.replay.sequences import Minibatch
from qmix_jax.types import HyperParams, Learner, Slot, Statistics


def rewards(algorithm: Algorithm, hyper: HyperParams, learner: Learner, batch: Slot) -> Float[Array, "T M *N"]:
    """Rewards as they enter the targets."""
    reward = batch.reward * hyper.reward_scale
    return standardise.standardise(learner.rewards, reward) if algorithm.standardise_rewards else reward


def targets(
    algorithm: Algorithm,
    hyper: HyperParams,
    learner: Learner,
    batch: Slot,
    value: Float[Array, "T M *N"],
    taken_value: Float[Array, "T M *N"],
) -> tuple[Float[Array, "T M *N"], Statistics]:
    """Targets of a minibatch, and the statistics of returns with these added where returns are standardised.

    Args:
        algorithm: the parts.
        hyper: the numbers.
        learner: its statistics are read.
        batch: the slots.
        value: of the greedy joint action in each slot, by the target networks.
        taken_value: of the joint action that was taken, by the target networks.
    """
    mask, discount = like(batch.mask, value), like(batch.discount, value)
    reward = like(rewards(algorithm, hyper, learner, batch), value)
    returns = learner.returns
    if algorithm.standardise_returns:
        value, taken_value = (standardise.restore(returns, x) for x in (value, taken_value))
    sequence = Sequence(reward, discount, mask, value, taken_value)
    y = jax.lax.stop_gradient(algorithm.target(sequence, hyper.gamma, hyper.td_lambda))
    if algorithm.standardise_returns:
        returns = standardise.update(returns, y, mask)
        y = standardise.standardise(returns, y)
    return y, returns


def target_values(
    algorithm: Algorithm, learner: Learner, online_q: Float[Array, "T M N A"], minibatch: Minibatch
) -> Float[Array, "T M N A"]:
    """Action values of the target agents; without a target network those of the online ones, without a gradient."""
    if algorithm.target_update is TargetUpdate.ONLINE:
        return jax.lax.stop_gradient(online_q)
    return action_values(algorithm.agent, learner.target.agent, minibatch.slots, minibatch.start)


def deciding_action(
    algorithm: Algorithm, online_q: Float[Array, "T M N A"], target_q: Float[Array, "T M N A"], batch: Slot
) -> Int[Array, "T M N"]:
    """The greedy joint action to bootstrap from: of the online agents with double Q, else of the target agents."""
    deciding_q = jax.lax.stop_gradient(online_q) if algorithm.double_q else target_q
    return masked_argmax(deciding_q, batch.step.avail_actions)


def transition_count(batch: Slot, transitions: Float[Array, ""] | None) -> Float[Array, ""]:
    """What means over a minibatch divide by: the transitions given, else those of ``batch``; at least 1."""
    return jnp.maximum(batch.mask.sum() if transitions is None else transitions, 1.0)


def masked_mean(x: Float[Array, "T M"], minibatch: Minibatch, count: Float[Array, ""]) -> Float[Array, ""]:
    """``sum(weights * mask * x) / count``; the weights are those of prioritised replay."""
    return (x * minibatch.slots.mask * minibatch.weights[None]).sum() / count


def sequence_priority(td_error: Float[Array, "T M *N"], mask: Float[Array, "T M"]) -> Float[Array, " M"]:
    """``sum_t |td_error| / sqrt(transitions)`` of every sequence, the mean over agents where each has its own error."""
    errors = jnp.abs(td_error).reshape(*mask.shape, -1).mean(axis=-1)
    return errors.sum(axis=0) / jnp.sqrt(jnp.maximum(mask.sum(axis=0), 1.0))


def loss_info(
    algorithm: Algorithm,
    hyper: HyperParams,
    learner: Learner,
    batch: Slot,
    q_tot: Float[Array, "T M *N"],
    y: Float[Array, "T M *N"],
    returns: Statistics,
    count: Float[Array, ""],
    **metrics: Float[Array, ""],
) -> LossInfo:
    """What every algorithm reports of a minibatch besides its loss.

    Args:
        algorithm: the parts.
        hyper: the numbers.
        learner: its statistics are read.
        batch: the slots.
        q_tot: values of the actions taken, of the team or of every agent.
        y: their targets.
        returns: from :func:`targets`.
        count: what sums are divided by.
        metrics: others, to be logged beside ``td_error``, ``q_tot_mean`` and ``target_mean``.
    """
    mask, reward = like(batch.mask, q_tot), rewards(algorithm, hyper, learner, batch)
    td_error = (q_tot - y) * mask
    means = {
        "td_error": jnp.abs(td_error).sum() / count,
        "q_tot_mean": (q_tot * mask).sum() / count,
        "target_mean": (y * mask).sum() / count,
    }
    return LossInfo(
        metrics={**means, **metrics},
        q_tot_max=(jnp.abs(q_tot) * mask).max(),
        max_reward=(jnp.abs(reward) * like(batch.mask, reward)).max(),
        priority=sequence_priority(td_error, batch.mask),
        returns=returns,
    )


def excess(largest: Float[Array, ""], algorithm: Algorithm, hyper: HyperParams, learner: Learner) -> Float[Array, ""]:
    """The largest absolute joint value over the largest return that rewards and discount allow.

    The latter follows from the largest reward in the targets so far, and from the environment's own limit where it has
    one; standardised rewards are in another unit. NaN before there was a reward: nothing says yet what is too large.
    """
    env = algorithm.env
    steps = jnp.where(hyper.gamma < 1, 1 / jnp.maximum(1 - hyper.gamma, 1e-6), env.episode_limit)
    limit = learner.max_reward * steps
    if env.max_return is not None and not (env.individual_reward or algorithm.standardise_rewards):
        limit = jnp.minimum(limit, env.max_return * hyper.reward_scale)
    return jnp.where(learner.max_reward > 0, largest / jnp.maximum(limit, 1e-6), jnp.nan)


def has_team_value(algorithm: Algorithm) -> bool:
    """Whether the mixer gives one value for the team."""
    env, mixer = algorithm.env, algorithm.mixer
    inputs = example_input(env.num_agents, env.num_actions, env.state_size)
    value = jax.eval_shape(lambda key: mixer.apply(mixer.init(key, inputs), inputs), jax.random.key(0))
    return value.shape == ()


def require_team_value(algorithm: Algorithm, name: str) -> None:
    """Raise :class:`ConfigError` unless the mixer gives one value for the team."""
    mixer = algorithm.mixer
    if not has_team_value(algorithm):
        raise ConfigError(
            f"mixer._target_={path_of(mixer)}: gives every agent a value of its own, and {name} needs one of the team; "
            f"use mixer=qmix"
        )


def path_of(part: object) -> str:
    """The import path of a part's class, as a ``_target_``."""
    return f"{type(part).__module__}.{type(part).__name__}"
