"""The pieces of one iteration of one seed, each compiled and timed alone.

``env`` steps the environments, ``act`` chooses actions, ``learn`` does the updates: the necessary parts of one.
``collect`` (environments, actions and storing) and ``sample`` (reading minibatches) show where the rest of ``whole``
goes.
"""

import math
import time
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp

from qmix_jax.acting.explore import draw, masked_argmax
from qmix_jax.algorithms import loop as qmix
from qmix_jax.algorithms.base import Algorithm
from qmix_jax.networks.agents import NO_ACTION, act
from qmix_jax.types import HyperParams, TrainState

VARIANTS = 4
"""Number of different inputs of a piece: with a single one, XLA would move work out of the loop."""

Step = Callable[..., tuple[Any, Any]]
"""``(carry, index, *constants) -> (carry, output)``."""


class Piece:
    """A compiled loop of ``iterations`` calls of ``step``, which keeps its carry from one run to the next."""

    def __init__(self, step: Step, carry: Any, *constants: Any, iterations: int) -> None:
        def loop(carry: Any, *constants: Any) -> Any:
            indices = jnp.arange(iterations, dtype=jnp.int32)
            return jax.lax.scan(lambda c, i: step(c, i, *constants), carry, indices)

        self.carry = jax.tree.map(lambda x: x.copy(), carry)  # a copy, since every run donates it
        self._constants = constants
        self._iterations = iterations
        self._run = jax.jit(loop, donate_argnums=0).lower(self.carry, *constants).compile()

    def seconds(self) -> float:
        """Run once; return the seconds per iteration."""
        started = time.perf_counter()
        self.carry, output = self._run(self.carry, *self._constants)
        jax.block_until_ready((self.carry, output))
        return (time.perf_counter() - started) / self._iterations


def filled_state(algorithm: Algorithm, hyper: HyperParams) -> TrainState:
    """A state as in the middle of a run: all of the replay can be sampled (most sequences are empty)."""
    state = jax.jit(lambda key: qmix.init(algorithm, key))(jax.random.key(0))
    collect = jax.jit(lambda state: qmix.collect_and_store(algorithm, hyper, state, state.key)[0], donate_argnums=0)
    state = collect(state)
    return state._replace(replay=state.replay._replace(size=jnp.asarray(algorithm.sizes.capacity, jnp.int32)))


def iterations_for(algorithm: Algorithm, env_steps: int) -> int:
    """The smallest number of iterations with ``env_steps`` steps."""
    return math.ceil(env_steps / (algorithm.sizes.num_envs * (algorithm.sizes.length - 1)))


def make_pieces(algorithm: Algorithm, hyper: HyperParams, iterations: int) -> dict[str, Piece]:
    """All pieces, compiled."""
    state = filled_state(algorithm, hyper)
    return {
        "env": env_piece(algorithm, iterations),
        "act": act_piece(algorithm, hyper, state, iterations),
        "learn": learn_piece(algorithm, hyper, state, iterations),
        "collect": collect_piece(algorithm, hyper, state, iterations),
        "sample": sample_piece(algorithm, hyper, state, iterations),
        "whole": whole_piece(algorithm, hyper, state, iterations),
    }


def env_piece(algorithm: Algorithm, iterations: int) -> Piece:
    """Steps of all environments with random actions; ended episodes restart from a fresh start state."""
    env, sizes = algorithm.env, algorithm.sizes
    count = sizes.num_envs

    def starts(key: jax.Array) -> tuple[Any, Any]:
        return jax.vmap(env.reset)(jax.random.split(key, count))

    def iteration(carry: Any, _: jax.Array, noise: jax.Array) -> tuple[Any, Any]:
        key, current = carry
        key, reset_key, step_key = jax.random.split(key, 3)
        fresh = starts(reset_key)

        def tick(current: Any, random: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
            (env_state, seen), (at, keys) = current, random
            action = masked_argmax(noise[at % VARIANTS], seen.avail_actions).astype(jnp.int32)
            *following, outcome = jax.vmap(env.step)(keys, env_state, action)
            return _choose(outcome.last, fresh, tuple(following)), outcome.reward

        steps = jnp.arange(sizes.length - 1)
        keys = jax.random.split(step_key, (sizes.length - 1, count))
        current, rewards = jax.lax.scan(tick, current, (steps, keys))
        return (key, current), rewards

    noise = jax.random.uniform(jax.random.key(1), (VARIANTS, count, env.num_agents, env.num_actions))
    key = jax.random.key(0)
    return Piece(iteration, (key, jax.jit(starts)(key)), noise, iterations=iterations)


def act_piece(algorithm: Algorithm, hyper: HyperParams, state: TrainState, iterations: int) -> Piece:
    """Epsilon-greedy actions for random observations."""
    env, agent, sizes = algorithm.env, algorithm.agent, algorithm.sizes
    count = sizes.num_envs

    def iteration(carry: Any, _: jax.Array, params: Any, obs: jax.Array, avail: jax.Array) -> tuple[Any, Any]:
        key, actors = carry
        key, act_key = jax.random.split(key)

        steps = jnp.arange(sizes.length - 1)
        noise = jax.random.gumbel(act_key, (sizes.length - 1, count, env.num_agents, env.num_actions))

        def tick(actors: Any, random: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
            at, noise = random
            hidden, q = act(agent, params, actors[0], obs[at % VARIANTS], actors[1])
            action = draw(noise, algorithm.explore(q, avail, hyper.exploration_end))
            return (hidden, action), None

        actors = jax.lax.scan(tick, actors, (steps, noise))[0]
        return (key, actors), None

    actors = (agent.initial_hidden(count), jnp.full((count, env.num_agents), NO_ACTION, jnp.int32))
    obs = jax.random.normal(jax.random.key(1), (VARIANTS, count, env.num_agents, env.obs_size))
    avail = jnp.ones((count, env.num_agents, env.num_actions), bool)
    params = state.learner.online.agent
    return Piece(iteration, (jax.random.key(0), actors), params, obs, avail, iterations=iterations)


def learn_piece(algorithm: Algorithm, hyper: HyperParams, state: TrainState, iterations: int) -> Piece:
    """The updates of an iteration, on a minibatch sampled before."""

    def iteration(learner: Any, _: jax.Array, hyper: HyperParams, minibatch: Any) -> tuple[Any, Any]:
        def update(learner: Any, _: None) -> tuple[Any, Any]:
            learner, metrics, priority = qmix.learn(algorithm, hyper, learner, minibatch)
            return learner, (metrics, priority)

        return jax.lax.scan(update, learner, None, length=algorithm.sizes.updates_per_iteration)

    minibatch = new_minibatch(algorithm, hyper, state)
    return Piece(iteration, state.learner, hyper, minibatch, iterations=iterations)


def new_minibatch(algorithm: Algorithm, hyper: HyperParams, state: TrainState) -> Any:
    """A minibatch of the newest sequences, the only ones in a :func:`filled_state` that are not empty."""
    return _sample(algorithm, hyper, state.replay._replace(size=jnp.int32(algorithm.sizes.num_envs)))


def collect_piece(algorithm: Algorithm, hyper: HyperParams, state: TrainState, iterations: int) -> Piece:
    """Collecting sequences and adding them to the replay."""

    def iteration(state: Any, _: jax.Array, hyper: HyperParams) -> tuple[Any, Any]:
        key, collect_key = jax.random.split(state.key)
        state, *rest = qmix.collect_and_store(algorithm, hyper, state, collect_key)
        return state._replace(key=key), rest

    return Piece(iteration, state, hyper, iterations=iterations)


def sample_piece(algorithm: Algorithm, hyper: HyperParams, state: TrainState, iterations: int) -> Piece:
    """Sampling the minibatches of an iteration from the whole replay."""

    def iteration(carry: Any, _: jax.Array, hyper: HyperParams, memory: Any) -> tuple[Any, Any]:
        def draw(carry: Any, _: None) -> tuple[Any, None]:
            key, sample_key = jax.random.split(carry[0])
            return (key, qmix.sample(algorithm, hyper, memory, sample_key)), None

        return jax.lax.scan(draw, carry, None, length=algorithm.sizes.updates_per_iteration)

    carry = (jax.random.key(0), _sample(algorithm, hyper, state.replay))
    return Piece(iteration, carry, hyper, state.replay, iterations=iterations)


def whole_piece(algorithm: Algorithm, hyper: HyperParams, state: TrainState, iterations: int) -> Piece:
    """Complete iterations with updates, as in a run."""

    def iteration(state: Any, index: jax.Array, hyper: HyperParams) -> tuple[Any, Any]:
        return qmix.iterate(algorithm, hyper, state, index + algorithm.sizes.warmup_iterations)

    return Piece(iteration, state, hyper, iterations=iterations)


def evaluation_seconds(algorithm: Algorithm) -> Callable[[], float]:
    """A function that runs one evaluation, as at the end of an epoch, and returns its seconds."""
    agent_params = jax.jit(lambda key: qmix.init(algorithm, key).learner.online.agent)(jax.random.key(0))
    compiled = jax.jit(lambda params: qmix.evaluate(algorithm, params)).lower(agent_params).compile()

    def seconds() -> float:
        started = time.perf_counter()
        jax.block_until_ready(compiled(agent_params))
        return time.perf_counter() - started

    return seconds


def _sample(algorithm: Algorithm, hyper: HyperParams, memory: Any) -> Any:
    return jax.jit(lambda memory, key: qmix.sample(algorithm, hyper, memory, key))(memory, jax.random.key(2))


def _choose(condition: jax.Array, yes: Any, no: Any) -> Any:
    def choose(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (x.ndim - 1)), x, y)

    return jax.tree.map(choose, yes, no)


def env_steps(piece: Piece) -> int:
    """Environment steps of the ``whole`` piece so far."""
    return int(cast(TrainState, piece.carry).env_steps)
