"""The loop of any algorithm, top to bottom, for one seed: init, collect, sample, iterate, epoch, train.

Everything here is a pure function. ``Algorithm`` holds the static parts, ``HyperParams`` the numbers that may be
traced, ``TrainState`` all that changes. Seeds are an axis that the caller adds with ``vmap``
(see ``running/waves.py``).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key

from qmix_jax.acting import continuing
from qmix_jax.acting.explore import exponential_schedule, linear_schedule
from qmix_jax.acting.greedy_episodes import greedy_episodes, summarize
from qmix_jax.acting.rollout import RolloutStats, collect, no_memory
from qmix_jax.algorithms.base import Algorithm, Metrics, TargetUpdate
from qmix_jax.algorithms.gradient_step import learn
from qmix_jax.algorithms.metrics import better, episode_sums, epoch_metrics, target_lag
from qmix_jax.learning import standardise
from qmix_jax.networks.agents import init_agent
from qmix_jax.replay import packing as storage
from qmix_jax.replay import sequences as replay
from qmix_jax.replay.on_policy import passes
from qmix_jax.replay.sequences import Minibatch, Priorities
from qmix_jax.types import Best, Evaluation, HyperParams, Learner, Replay, Slot, Start, TrainState


def init(algorithm: Algorithm, key: Key[Array, ""]) -> TrainState:
    """A fresh state: random parameters, an equal target network, an empty replay."""
    env, sizes = algorithm.env, algorithm.sizes
    key, agent_key, other_key, actors_key = jax.random.split(key, 4)
    agent = init_agent(algorithm.agent, env.obs_size, agent_key)
    online = algorithm.method.init(algorithm, agent, other_key)
    actors = start = None
    if sizes.continues:
        start = jax.tree.map(lambda x: x[0], no_memory(algorithm.agent, env.num_agents, 1))
        if env.hosted is None:
            # Not fold_in(key, 0), which is split(key)[0]: the first iteration starts its episodes from that.
            keys = jax.random.split(actors_key, sizes.num_envs)
            actors = continuing.begin(env, algorithm.agent, keys, sizes.window, algorithm.preferences)
    nothing = jnp.zeros((), jnp.int32)
    worst = Evaluation(*(jnp.asarray(-jnp.inf, jnp.float32) for _ in Evaluation._fields))
    return TrainState(
        key=key,
        replay=replay.init(
            storage.empty_slot(algorithm.storage, env),
            sizes.capacity,
            sizes.window + sizes.length,
            sizes.replay_devices,
            start,
        ),
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
        actors=actors,
    )


def exploration_level(algorithm: Algorithm, hyper: HyperParams, state: TrainState) -> Float[Array, ""]:
    """The epsilon or temperature of now."""
    schedule = exponential_schedule if algorithm.exponential_exploration else linear_schedule
    return schedule(hyper.exploration_start, hyper.exploration_end, hyper.exploration_steps, state.env_steps)


Collected = tuple[Slot, RolloutStats, Start | None]
"""Sequences, statistics, and what they started from where they continue."""


def collect_and_store(
    algorithm: Algorithm,
    hyper: HyperParams,
    state: TrainState,
    key: Key[Array, ""],
    played: Collected | None = None,
) -> tuple[TrainState, RolloutStats, Float[Array, ""]]:
    """Play one batch of sequences with exploration and put them into the replay.

    ``played`` is such a batch, where the environment is stepped outside the compiled program.
    """
    sizes = algorithm.sizes
    level = exploration_level(algorithm, hyper, state)
    policy = (algorithm.env, algorithm.agent, state.learner.online.agent, key, level)
    actors = starts = None
    preferences = algorithm.preferences.at(state.env_steps, hyper.preferences_end)
    exploration = (algorithm.explore, preferences)
    if played is not None:
        slots, stats, starts = played
    elif sizes.continues:
        actors, slots, starts, stats = continuing.collect_on(*policy, state.actors, sizes.length, *exploration)
    else:
        slots, stats = collect(*policy, sizes.num_envs, sizes.length, sizes.auto_reset, *exploration)
    state = state._replace(
        actors=actors,
        replay=replay.add(state.replay, storage.pack(algorithm.storage, slots), starts),
        env_steps=state.env_steps + stats.env_steps,
        episodes=state.episodes + stats.episodes,
    )
    return state, stats, level


Changing = tuple[Learner, Priorities]
"""What updates change."""


def iterate(
    algorithm: Algorithm,
    hyper: HyperParams,
    state: TrainState,
    iteration: Int[Array, ""],
    played: Collected | None = None,
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

    def update(carry: Changing, draw: Array) -> tuple[Changing, Metrics]:
        learner, priorities = carry
        memory = state.replay._replace(**priorities._asdict())
        minibatch = (newest if algorithm.on_policy else sample)(algorithm, now, memory, draw)
        learner, metrics, priority = learn(algorithm, now, learner, minibatch)
        if algorithm.prioritised:
            priorities = replay.update_priorities(priorities, minibatch.places, priority)
        return (learner, priorities), metrics

    draws = learn_keys
    if algorithm.on_policy:
        sizes = algorithm.sizes
        draws = passes(learn_keys[0], sizes.num_envs, sizes.batch_size, sizes.updates_per_iteration)

    def updates(carry: Changing) -> tuple[Changing, Metrics]:
        carry, metrics = jax.lax.scan(update, carry, draws)
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
    size, replacement = algorithm.sizes.batch_size, algorithm.replacement and not algorithm.on_policy
    if algorithm.prioritised:
        alpha, beta = hyper.priority_alpha, hyper.priority_beta
        minibatch = replay.sample_prioritised(memory, key, size, alpha, beta, replacement)
    else:
        minibatch = replay.sample(memory, key, size, replacement)
    return _unpacked(algorithm, minibatch)


def newest(algorithm: Algorithm, hyper: HyperParams, memory: Replay, places: Int[Array, " M"]) -> Minibatch:
    """The newest sequences of these environments: the replay holds no others."""
    del hyper
    return _unpacked(algorithm, replay.read(memory, places, jnp.ones(places.shape[0])))


def _unpacked(algorithm: Algorithm, minibatch: Minibatch) -> Minibatch:
    """A minibatch as losses read it: its first slots are those to burn in."""
    slots, count = storage.unpack(algorithm.storage, minibatch.slots), algorithm.sizes.burn_in
    if not count or minibatch.start is None:
        return minibatch._replace(slots=slots)
    burn_in, slots = jax.tree.map(lambda x: x[:count], slots), jax.tree.map(lambda x: x[count:], slots)
    return minibatch._replace(slots=slots, start=minibatch.start._replace(burn_in=burn_in))


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
    key = jax.random.fold_in(state.key, 0)  # what the next iteration collects with, too: this is only looked at
    minibatch = _unpacked(algorithm, replay.sample(state.replay, key, algorithm.sizes.batch_size))
    signs = algorithm.method.warning_signs(algorithm, hyper, state.learner, minibatch.slots, minibatch.start)
    return {**signs, "target_lag": target_lag(state.learner)}


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
