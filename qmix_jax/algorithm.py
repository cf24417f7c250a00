"""The algorithm, top to bottom, for one seed: init, collect, loss, learn, iterate, epoch, train.

Everything here is a pure function. ``Algorithm`` holds the static parts, ``HyperParams`` the numbers that may be
traced, ``TrainState`` all that changes. Seeds are an axis that the caller adds with ``vmap`` (see ``sweep.py``).
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from qmix_jax import replay
from qmix_jax.agents import RecurrentAgent, last_actions, unroll
from qmix_jax.envs.base import Env
from qmix_jax.evaluate import greedy_episodes, summarize
from qmix_jax.explore import linear_schedule, masked_argmax
from qmix_jax.optimizers import clip_by_global_norm
from qmix_jax.rollout import RolloutStats, collect
from qmix_jax.types import Best, Evaluation, HyperParams, Learner, Params, Slot, TimeStep, TrainState

Metrics = dict[str, Float[Array, ""]]


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


class Algorithm(NamedTuple):
    """The parts that a program is compiled for."""

    env: Env
    agent: RecurrentAgent
    mixer: nn.Module
    target: Callable[..., Float[Array, "T *batch"]]
    optimizer: optax.GradientTransformation
    sizes: Sizes
    double_q: bool = True
    soft_target_update: bool = False


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
        replay=replay.init(_example_slot(env), sizes.capacity, sizes.length),
        learner=Learner(
            online=online,
            target=jax.tree.map(jnp.copy, online),
            opt_state=algorithm.optimizer.init(online),
            updates=nothing,
        ),
        best=Best(agent=jax.tree.map(jnp.copy, online.agent), evaluation=worst, env_steps=nothing),
        env_steps=nothing,
        episodes=nothing,
    )


def collect_and_store(
    algorithm: Algorithm, hyper: HyperParams, state: TrainState
) -> tuple[TrainState, RolloutStats, Float[Array, ""]]:
    """Play one batch of sequences with epsilon-greedy exploration and put them into the replay."""
    sizes = algorithm.sizes
    key, collect_key = jax.random.split(state.key)
    epsilon = linear_schedule(hyper.epsilon_start, hyper.epsilon_end, hyper.epsilon_steps, state.env_steps)
    slots, stats = collect(
        algorithm.env,
        algorithm.agent,
        state.learner.online.agent,
        collect_key,
        epsilon,
        sizes.num_envs,
        sizes.length,
        sizes.auto_reset,
    )
    state = state._replace(
        key=key,
        replay=replay.add(state.replay, slots),
        env_steps=state.env_steps + stats.env_steps,
        episodes=state.episodes + stats.episodes,
    )
    return state, stats, epsilon


def loss(
    algorithm: Algorithm, hyper: HyperParams, online: Params, target: Params, batch: Slot
) -> tuple[Float[Array, ""], Metrics]:
    """Mean squared error of ``q_tot`` over the transitions of a minibatch ``[T, M]`` (Rashid et al. 2018, equation 5).

    ``sum(mask * td_error^2) / sum(mask)``; without a mixer the sums run over agents as well.
    """
    num_actions = algorithm.env.num_actions
    last_action = last_actions(batch.action, batch.first)
    online_q = _unroll(algorithm, online, batch, last_action)
    target_q = _unroll(algorithm, target, batch, last_action)
    deciding_q = jax.lax.stop_gradient(online_q) if algorithm.double_q else target_q
    greedy_action = masked_argmax(deciding_q, batch.step.avail_actions)

    q_tot = _mix(algorithm, online, _chosen(online_q, batch.action, num_actions), batch.step.state)
    value = _mix(algorithm, target, _chosen(target_q, greedy_action, num_actions), batch.step.state)
    reward, discount, mask = (_like(x, q_tot) for x in (batch.reward, batch.discount, batch.mask))
    y = algorithm.target(reward, discount, mask, value, hyper.gamma, hyper.td_lambda)

    td_error = (q_tot - jax.lax.stop_gradient(y)) * mask
    count = jnp.maximum(jnp.broadcast_to(mask, q_tot.shape).sum(), 1.0)
    metrics = {
        "td_error": jnp.abs(td_error).sum() / count,
        "q_tot_mean": (q_tot * mask).sum() / count,
        "q_tot_max": (jnp.abs(q_tot) * mask).max(),
        "target_mean": (y * mask).sum() / count,
    }
    return (td_error**2).sum() / count, metrics


def learn(algorithm: Algorithm, hyper: HyperParams, learner: Learner, batch: Slot) -> tuple[Learner, Metrics]:
    """One gradient step of size ``hyper.learning_rate``, and the target network's update when it is due."""

    def batch_loss(online: Params) -> tuple[Float[Array, ""], Metrics]:
        return loss(algorithm, hyper, online, learner.target, batch)

    (value, metrics), gradients = jax.value_and_grad(batch_loss, has_aux=True)(learner.online)
    gradients, grad_norm = clip_by_global_norm(gradients, hyper.max_grad_norm)
    steps, opt_state = algorithm.optimizer.update(gradients, learner.opt_state, learner.online)
    online = jax.tree.map(lambda p, step: p - hyper.learning_rate * step, learner.online, steps)
    updates = learner.updates + 1
    if algorithm.soft_target_update:
        target = optax.incremental_update(online, learner.target, hyper.target_tau)
    else:
        target = optax.periodic_update(online, learner.target, updates, hyper.target_update_interval)
    learner = Learner(online=online, target=cast(Params, target), opt_state=opt_state, updates=updates)
    return learner, {"loss": value, "grad_norm": grad_norm, **metrics}


def iterate(
    algorithm: Algorithm, hyper: HyperParams, state: TrainState, iteration: Int[Array, ""]
) -> tuple[TrainState, Metrics]:
    """Collect one batch of sequences, then take ``updates_per_iteration`` gradient steps unless still warming up.

    ``iteration`` must be the same for all seeds of a ``vmap`` and stay unbatched: it decides a ``cond``.
    """
    state, stats, epsilon = collect_and_store(algorithm, hyper, state)
    key, learn_key = jax.random.split(state.key)
    learning_rate = linear_schedule(
        hyper.learning_rate, hyper.learning_rate_end, hyper.learning_rate_steps, state.env_steps
    )

    def update(learner: Learner, key: Key[Array, ""]) -> tuple[Learner, Metrics]:
        now = hyper._replace(learning_rate=learning_rate)
        return learn(algorithm, now, learner, replay.sample(state.replay, key, algorithm.sizes.batch_size))

    def updates(learner: Learner) -> tuple[Learner, Metrics]:
        keys = jax.random.split(learn_key, algorithm.sizes.updates_per_iteration)
        learner, metrics = jax.lax.scan(update, learner, keys)
        return learner, jax.tree.map(jnp.mean, metrics)

    def no_updates(learner: Learner) -> tuple[Learner, Metrics]:
        metrics = jax.eval_shape(updates, learner)[1]
        return learner, jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), metrics)

    warm = iteration >= algorithm.sizes.warmup_iterations
    learner, metrics = jax.lax.cond(warm, updates, no_updates, state.learner)
    state = state._replace(key=key, learner=learner)
    return state, {**metrics, "epsilon": epsilon, "learning_rate": learning_rate, **_episode_sums(stats)}


def epoch(
    algorithm: Algorithm, hyper: HyperParams, state: TrainState, first_iteration: Int[Array, ""]
) -> tuple[TrainState, Metrics]:
    """``iterations_per_epoch`` iterations, then a greedy evaluation on the same episodes for every seed and epoch."""
    iterations = first_iteration + jnp.arange(algorithm.sizes.iterations_per_epoch, dtype=jnp.int32)
    state, history = jax.lax.scan(lambda s, i: iterate(algorithm, hyper, s, i), state, iterations)
    evaluation = evaluate(algorithm, state.learner.online.agent)
    state = state._replace(best=_better(algorithm.env, state, evaluation))
    return state, _epoch_metrics(algorithm.env, state, history, evaluation)


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


def _unroll(algorithm: Algorithm, params: Params, batch: Slot, last_action: Array) -> Float[Array, "T M N A"]:
    return unroll(algorithm.agent, params.agent, batch.step.obs, last_action, batch.first)


def _chosen(
    q: Float[Array, "*batch N A"], action: Int[Array, "*batch N"], num_actions: int
) -> Float[Array, "*batch N"]:
    """Values of the given actions; a product with their one-hot codes, since gathering has a slow gradient on CPU."""
    return (q * jax.nn.one_hot(action, num_actions, dtype=q.dtype)).sum(axis=-1)


def _mix(
    algorithm: Algorithm, params: Params, q: Float[Array, "T M N"], state: Float[Array, "T M G"]
) -> Float[Array, "T M *N"]:
    def mix(q: Float[Array, " N"], state: Float[Array, " G"]) -> Float[Array, "*N"]:
        return cast(Array, algorithm.mixer.apply(params.mixer, q, state))

    # One flat axis of samples: with two, XLA's CPU backend halves the speed of the hypernetworks' gradients.
    flat = jax.vmap(mix)(q.reshape(-1, q.shape[-1]), state.reshape(-1, state.shape[-1]))
    return flat.reshape(*q.shape[:-1], *flat.shape[1:])


def _like(x: Float[Array, "T M"], q_tot: Float[Array, "T M *N"]) -> Float[Array, "T M *N"]:
    """Axes of size one behind ``[T, M]``, as many as ``q_tot`` has."""
    return x.reshape(x.shape + (1,) * (q_tot.ndim - x.ndim))


def _example_slot(env: Env) -> Slot:
    _, step = jax.eval_shape(env.reset, jax.random.key(0))
    step = TimeStep(*(jnp.zeros(x.shape, x.dtype) for x in step))
    number = jnp.zeros(())
    return Slot(
        step=step,
        action=jnp.zeros(env.num_agents, jnp.int32),
        reward=number,
        discount=number,
        mask=number,
        first=jnp.zeros((), bool),
    )


def _better(env: Env, state: TrainState, evaluation: Evaluation) -> Best:
    """The current agent if its evaluation beats the best so far: by win rate, then by return."""
    old = state.best.evaluation
    better = evaluation.episode_return > old.episode_return
    if env.has_win_rate:
        equal = evaluation.win_rate == old.win_rate
        better = (evaluation.win_rate > old.win_rate) | (equal & better)
    new = Best(agent=state.learner.online.agent, evaluation=evaluation, env_steps=state.env_steps)
    return jax.tree.map(lambda x, y: jnp.where(better, x, y), new, state.best)


def _episode_sums(stats: RolloutStats) -> Metrics:
    return {
        "train_episodes": stats.episodes.astype(jnp.float32),
        "train_return": stats.episode_return,
        "train_episode_length": stats.episode_length,
        "train_win_rate": stats.wins,
    }


def _epoch_metrics(env: Env, state: TrainState, history: Metrics, evaluation: Evaluation) -> Metrics:
    """Means over the epoch: per update, per finished training episode, and of the evaluation."""
    ended = history.pop("train_episodes").sum()
    metrics = {}
    for name, values in history.items():
        if name.startswith("train_"):
            metrics[name] = jnp.where(ended > 0, values.sum() / ended, jnp.nan)
        else:
            metrics[name] = jnp.nanmean(values)
    if not env.has_win_rate:
        metrics["train_win_rate"] = jnp.full_like(ended, jnp.nan)
    return {
        "env_steps": state.env_steps,
        "updates": state.learner.updates,
        "episodes": state.episodes,
        **metrics,
        "eval_return": evaluation.episode_return,
        "eval_win_rate": evaluation.win_rate,
        "eval_episode_length": evaluation.episode_length,
    }
