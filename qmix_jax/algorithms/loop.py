"""The algorithm, top to bottom, for one seed: init, collect, loss, learn, iterate, epoch, train.

Everything here is a pure function. ``Algorithm`` holds the static parts, ``HyperParams`` the numbers that may be
traced, ``TrainState`` all that changes. Seeds are an axis that the caller adds with ``vmap`` (see ``sweep.py``).
"""

import enum
import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, Key

from qmix_jax.acting.explore import Exploration, epsilon_greedy, exponential_schedule, linear_schedule, masked_argmax
from qmix_jax.acting.greedy_episodes import greedy_episodes, summarize
from qmix_jax.acting.rollout import RolloutStats, collect
from qmix_jax.algorithms.metrics import Metrics, better, episode_sums, epoch_metrics, warning_signs
from qmix_jax.envs.base import Env
from qmix_jax.learning import standardise
from qmix_jax.learning.minibatch_parts import in_parts
from qmix_jax.learning.optimizers import clip_by_global_norm
from qmix_jax.learning.targets import Sequence
from qmix_jax.learning.values import action_values, chosen_values, joint_values, like
from qmix_jax.networks.agents import AnyAgent
from qmix_jax.replay import packing as storage
from qmix_jax.replay import sequences as replay
from qmix_jax.replay.sequences import Minibatch, Priorities
from qmix_jax.types import (
    Best,
    Evaluation,
    HyperParams,
    Learner,
    Params,
    Replay,
    Slot,
    Statistics,
    TrainState,
)


class TargetUpdate(enum.Enum):
    """When the target network follows: a copy after so many updates or episodes, or a step at every update."""

    UPDATES = "updates"
    EPISODES = "episodes"
    SOFT = "soft"


class Sizes(NamedTuple):
    """The static numbers of the loop."""

    num_envs: int
    length: int
    auto_reset: bool
    capacity: int
    batch_size: int
    updates_per_iteration: int
    warmup_iterations: int
    iterations_per_epoch: int
    evaluation_episodes: int
    evaluation_seed: int
    minibatch_parts: int = 1
    """Parts in which a minibatch is worked through."""
    devices_per_seed: int = 1
    """Devices that share these parts."""


class Algorithm(NamedTuple):
    """The parts that a program is compiled for."""

    env: Env
    agent: AnyAgent
    mixer: nn.Module
    target: Callable[[Sequence, Array, Array], Float[Array, "T *batch"]]
    optimizer: optax.GradientTransformation
    sizes: Sizes
    double_q: bool = True
    target_update: TargetUpdate = TargetUpdate.UPDATES
    prioritised: bool = False
    replacement: bool = True
    explore: Exploration = epsilon_greedy
    exploration_level: str = "epsilon"
    """What the level of ``explore`` is called among the metrics."""
    exponential_exploration: bool = False
    half_loss: bool = False
    standardise_rewards: bool = False
    standardise_returns: bool = False
    obs_dtype: Any = jnp.float32
    """Of the observations and states in the replay."""

    @property
    def storage(self) -> storage.Storage:
        """How slots are kept in the replay."""
        return storage.storage_for(self.env, self.obs_dtype)


def init(algorithm: Algorithm, key: Key[Array, ""]) -> TrainState:
    """A fresh state: random parameters, an equal target network, an empty replay."""
    env, sizes = algorithm.env, algorithm.sizes
    key, agent_key, mixer_key = jax.random.split(key, 3)
    online = Params(
        agent=algorithm.agent.init(
            agent_key,
            algorithm.agent.initial_hidden(1),
            jnp.zeros((1, env.num_agents, env.obs_size)),
            jnp.zeros((1, env.num_agents), jnp.int32),
        ),
        mixer=algorithm.mixer.init(mixer_key, jnp.zeros(env.num_agents), jnp.zeros(env.state_size)),
    )
    nothing = jnp.zeros((), jnp.int32)
    worst = Evaluation(*(jnp.asarray(-jnp.inf, jnp.float32) for _ in Evaluation._fields))
    return TrainState(
        key=key,
        replay=replay.init(storage.empty_slot(algorithm.storage, env), sizes.capacity, sizes.length),
        learner=Learner(
            online=online,
            target=jax.tree.map(jnp.copy, online),
            opt_state=algorithm.optimizer.init(ravel_pytree(online)[0]),
            updates=nothing,
            target_episodes=nothing,
            nonfinite_update=jnp.full((), -1, jnp.int32),
            max_reward=jnp.zeros(()),
            rewards=standardise.init(),
            returns=standardise.init(),
        ),
        best=Best(agent=jax.tree.map(jnp.copy, online.agent), evaluation=worst, env_steps=nothing),
        env_steps=nothing,
        episodes=nothing,
    )


def exploration_level(algorithm: Algorithm, hyper: HyperParams, state: TrainState) -> Float[Array, ""]:
    """The epsilon or temperature of now."""
    schedule = exponential_schedule if algorithm.exponential_exploration else linear_schedule
    return schedule(hyper.exploration_start, hyper.exploration_end, hyper.exploration_steps, state.env_steps)


def collect_and_store(
    algorithm: Algorithm,
    hyper: HyperParams,
    state: TrainState,
    key: Key[Array, ""],
    played: tuple[Slot, RolloutStats] | None = None,
) -> tuple[TrainState, RolloutStats, Float[Array, ""]]:
    """Play one batch of sequences with exploration and put them into the replay.

    ``played`` is such a batch, where the environment is stepped outside the compiled program.
    """
    sizes = algorithm.sizes
    level = exploration_level(algorithm, hyper, state)
    slots, stats = played or collect(
        algorithm.env,
        algorithm.agent,
        state.learner.online.agent,
        key,
        level,
        sizes.num_envs,
        sizes.length,
        sizes.auto_reset,
        algorithm.explore,
    )
    state = state._replace(
        replay=replay.add(state.replay, storage.pack(algorithm.storage, slots)),
        env_steps=state.env_steps + stats.env_steps,
        episodes=state.episodes + stats.episodes,
    )
    return state, stats, level


Changing = tuple[Learner, Priorities]
"""What updates change."""


class LossInfo(NamedTuple):
    """What comes out of a minibatch, or of a part of it, besides its loss."""

    metrics: Metrics
    """Means over the minibatch; of a part what it adds to them."""
    q_tot_max: Float[Array, ""]
    max_reward: Float[Array, ""]
    priority: Float[Array, " M"]
    returns: Statistics


def loss(
    algorithm: Algorithm,
    hyper: HyperParams,
    online: Params,
    learner: Learner,
    minibatch: Minibatch,
    transitions: Float[Array, ""] | None = None,
) -> tuple[Float[Array, ""], LossInfo]:
    """Mean squared error of ``q_tot`` over the transitions of a minibatch (Rashid et al. 2018, equation 5).

    ``sum(weights * mask * td_error^2) / sum(mask)``; without a mixer the sums run over agents as well. ``online`` are
    the parameters to differentiate by; of ``learner`` the target networks and the statistics are read. ``transitions``
    are those of the whole minibatch, where this is a part of one: the losses of all parts add up to the whole's.
    """
    batch = minibatch.slots
    online_q = action_values(algorithm.agent, online.agent, batch)
    target_q = action_values(algorithm.agent, learner.target.agent, batch)
    deciding_q = jax.lax.stop_gradient(online_q) if algorithm.double_q else target_q
    greedy_action = masked_argmax(deciding_q, batch.step.avail_actions)

    def mixed(params: Params, q: Array, action: Array) -> Float[Array, "T M *N"]:
        chosen = chosen_values(q, action, algorithm.env.num_actions)
        return joint_values(algorithm.mixer, params.mixer, chosen, batch.step.state)

    q_tot = mixed(online, online_q, batch.action)
    value = mixed(learner.target, target_q, greedy_action)
    taken_value = mixed(learner.target, target_q, batch.action)
    reward = _rewards(algorithm, hyper, learner, batch)
    y, returns = _targets(algorithm, hyper, learner, batch, reward, value, taken_value)

    mask = like(batch.mask, q_tot)
    td_error = (q_tot - jax.lax.stop_gradient(y)) * mask
    count = batch.mask.sum() if transitions is None else transitions
    count = jnp.maximum(count * math.prod(q_tot.shape[2:]), 1.0)
    squares = (td_error**2 * like(minibatch.weights[None], q_tot)).sum() / count
    metrics = {
        "td_error": jnp.abs(td_error).sum() / count,
        "q_tot_mean": (q_tot * mask).sum() / count,
        "target_mean": (y * mask).sum() / count,
    }
    info = LossInfo(
        metrics=metrics,
        q_tot_max=(jnp.abs(q_tot) * mask).max(),
        max_reward=(jnp.abs(reward) * batch.mask).max(),
        priority=_priority(td_error, batch.mask),
        returns=returns,
    )
    return squares * (0.5 if algorithm.half_loss else 1.0), info


def _rewards(algorithm: Algorithm, hyper: HyperParams, learner: Learner, batch: Slot) -> Float[Array, "T M"]:
    """Rewards as they are learned from."""
    reward = batch.reward * hyper.reward_scale
    return standardise.standardise(learner.rewards, reward) if algorithm.standardise_rewards else reward


def _targets(
    algorithm: Algorithm,
    hyper: HyperParams,
    learner: Learner,
    batch: Slot,
    reward: Float[Array, "T M"],
    value: Float[Array, "T M *N"],
    taken_value: Float[Array, "T M *N"],
) -> tuple[Float[Array, "T M *N"], Statistics]:
    """Targets of a minibatch, and the statistics of returns with them added where they are needed."""
    mask, discount = like(batch.mask, value), like(batch.discount, value)
    returns = learner.returns
    if algorithm.standardise_returns:
        value, taken_value = (standardise.restore(returns, x) for x in (value, taken_value))
    sequence = Sequence(like(reward, value), discount, mask, value, taken_value)
    y = jax.lax.stop_gradient(algorithm.target(sequence, hyper.gamma, hyper.td_lambda))
    if algorithm.standardise_returns:
        returns = standardise.update(returns, y, mask)
        y = standardise.standardise(returns, y)
    return y, returns


def _priority(td_error: Float[Array, "T M *N"], mask: Float[Array, "T M"]) -> Float[Array, " M"]:
    """``sum_t |td_error| / sqrt(transitions)`` of every sequence, the mean over agents where each has its own error."""
    errors = jnp.abs(td_error).reshape(*mask.shape, -1).mean(axis=-1)
    return errors.sum(axis=0) / jnp.sqrt(jnp.maximum(mask.sum(axis=0), 1.0))


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
        learner = learner._replace(rewards=standardise.update(learner.rewards, reward, batch.mask))

    def part_loss(online: Params, part: Minibatch) -> tuple[Float[Array, ""], LossInfo]:
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
    elif algorithm.target_update is TargetUpdate.UPDATES:
        target = optax.periodic_update(online, target, updates, hyper.target_update_interval)
    stepped = learner._replace(
        online=online,
        target=target,
        opt_state=opt_state,
        returns=jax.tree.map(lambda x: x[0], info.returns),  # these are never learned in parts
        max_reward=jnp.maximum(learner.max_reward, info.max_reward.max()),
    )
    finite = jnp.isfinite(value) & jnp.isfinite(grad_norm) & jnp.isfinite(optax.tree.norm(online))
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


def iterate(
    algorithm: Algorithm,
    hyper: HyperParams,
    state: TrainState,
    iteration: Int[Array, ""],
    played: tuple[Slot, RolloutStats] | None = None,
) -> tuple[TrainState, Metrics]:
    """Collect one batch of sequences, then take ``updates_per_iteration`` gradient steps unless still warming up.

    ``iteration`` must be the same for all seeds of a ``vmap`` and stay unbatched: it decides a ``cond``. ``played`` is
    the batch, where it was collected outside.
    """
    keys = jax.random.split(state.key, 2 + algorithm.sizes.updates_per_iteration)
    collect_key, next_key, learn_keys = keys[0], keys[1], keys[2:]
    state, stats, level = collect_and_store(algorithm, hyper, state, collect_key, played)
    now, steps = hyper, state.env_steps
    now = now._replace(
        learning_rate=linear_schedule(hyper.learning_rate, hyper.learning_rate_end, hyper.learning_rate_steps, steps),
        priority_beta=linear_schedule(hyper.priority_beta, jnp.ones(()), hyper.priority_beta_steps, steps),
    )

    def update(carry: Changing, key: Key[Array, ""]) -> tuple[Changing, Metrics]:
        learner, priorities = carry
        memory = state.replay._replace(**priorities._asdict())
        minibatch = sample(algorithm, now, memory, key)
        learner, metrics, priority = learn(algorithm, now, learner, minibatch)
        if algorithm.prioritised:
            priorities = replay.update_priorities(priorities, minibatch.places, priority)
        return (learner, priorities), metrics

    def updates(carry: Changing) -> tuple[Changing, Metrics]:
        carry, metrics = jax.lax.scan(update, carry, learn_keys)
        return carry, jax.tree.map(jnp.mean, metrics)

    def no_updates(carry: Changing) -> tuple[Changing, Metrics]:
        metrics = jax.eval_shape(updates, carry)[1]
        return carry, jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), metrics)

    warm = iteration >= algorithm.sizes.warmup_iterations
    before = (state.learner, Priorities(state.replay.priority, state.replay.max_priority))
    (learner, priorities), metrics = jax.lax.cond(warm, updates, no_updates, before)
    if algorithm.target_update is TargetUpdate.EPISODES:
        learner = _copy_after_episodes(hyper, learner, state.episodes)
    state = state._replace(key=next_key, learner=learner, replay=state.replay._replace(**priorities._asdict()))
    return state, {
        **metrics,
        algorithm.exploration_level: level,
        "learning_rate": now.learning_rate,
        **episode_sums(stats),
    }


def sample(algorithm: Algorithm, hyper: HyperParams, memory: Replay, key: Key[Array, ""]) -> Minibatch:
    """A minibatch of slots from the replay."""
    size, replacement = algorithm.sizes.batch_size, algorithm.replacement
    if algorithm.prioritised:
        alpha, beta = hyper.priority_alpha, hyper.priority_beta
        minibatch = replay.sample_prioritised(memory, key, size, alpha, beta, replacement)
    else:
        minibatch = replay.sample(memory, key, size, replacement)
    return minibatch._replace(slots=storage.unpack(algorithm.storage, minibatch.slots))


def _copy_after_episodes(hyper: HyperParams, learner: Learner, episodes: Int[Array, ""]) -> Learner:
    """PyMARL's rule: copy once ``target_update_interval`` episodes have ended since the last copy."""
    due = episodes - learner.target_episodes >= hyper.target_update_interval
    target = jax.tree.map(lambda new, old: jnp.where(due, new, old), learner.online, learner.target)
    return learner._replace(target=target, target_episodes=jnp.where(due, episodes, learner.target_episodes))


def epoch(
    algorithm: Algorithm, hyper: HyperParams, state: TrainState, first_iteration: Int[Array, ""]
) -> tuple[TrainState, Metrics]:
    """``iterations_per_epoch`` iterations, then a greedy evaluation on the same episodes for every seed and epoch."""
    iterations = first_iteration + jnp.arange(algorithm.sizes.iterations_per_epoch, dtype=jnp.int32)
    state, history = jax.lax.scan(lambda s, i: iterate(algorithm, hyper, s, i), state, iterations)
    return end_epoch(algorithm, hyper, state, history, evaluate(algorithm, state.learner.online.agent))


def end_epoch(
    algorithm: Algorithm, hyper: HyperParams, state: TrainState, history: Metrics, evaluation: Evaluation
) -> tuple[TrainState, Metrics]:
    """Keep the agent if it is the best so far; the epoch's metrics from those of its iterations."""
    state = state._replace(best=better(algorithm.env, state, evaluation))
    return state, {
        **epoch_metrics(algorithm.env, state, history, evaluation),
        **_warning_signs(algorithm, hyper, state),
    }


def _warning_signs(algorithm: Algorithm, hyper: HyperParams, state: TrainState) -> Metrics:
    key = jax.random.fold_in(state.key, 0)
    stored = replay.sample(state.replay, key, algorithm.sizes.batch_size).slots
    batch = storage.unpack(algorithm.storage, stored)
    signs = warning_signs(algorithm.env, algorithm.agent, algorithm.mixer, hyper, state.learner, batch)
    if algorithm.standardise_returns:
        del signs["q_tot_excess"]  # values are in another unit than returns
    return signs


def evaluate(algorithm: Algorithm, agent_params: Any) -> Evaluation:
    """Greedy episodes on keys that depend on ``evaluation_seed`` alone."""
    sizes = algorithm.sizes
    key = jax.random.key(sizes.evaluation_seed)
    episodes = greedy_episodes(algorithm.env, algorithm.agent, agent_params, key, sizes.evaluation_episodes)
    return summarize(algorithm.env, episodes)


def train(algorithm: Algorithm, hyper: HyperParams, key: Key[Array, ""], num_epochs: int) -> tuple[TrainState, Metrics]:
    """A whole run as one pure function that may be jitted and vmapped over ``key`` and ``hyper``.

    Returns the final state and the metrics of every epoch, ``[num_epochs]`` each.
    """
    first_iterations = jnp.arange(num_epochs, dtype=jnp.int32) * algorithm.sizes.iterations_per_epoch
    return jax.lax.scan(lambda s, i: epoch(algorithm, hyper, s, i), init(algorithm, key), first_iterations)
