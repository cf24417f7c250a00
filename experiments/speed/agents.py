"""How long an update takes with each recurrent agent: ``python experiments/speed/agents.py [T ...]``.

QMIX on SMAX 3m, minibatches of 32 sequences of T slots (26, 101 and 401 by default), one device. The agents take turns,
so that a slow minute of the machine meets all of them; ratios are those of the same turn. Prints a Markdown table:
medians, and the range of the ratios.
"""

import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from qmix_jax import make_algorithm
from qmix_jax.algorithms.base import Algorithm
from qmix_jax.bench.pieces import filled_state, learn_piece
from qmix_jax.errors import require
from qmix_jax.networks.agents import unroll
from qmix_jax.running.devices import avoid_wrong_reductions
from qmix_jax.settings.arguments import run_command
from qmix_jax.types import HyperParams

AGENTS = ("gru", "min_gru", "lru", "entities")
LENGTHS = (26, 101, 401)
TURNS, UPDATES, BATCH = 7, 4, 32


def main(*lengths: str) -> None:
    """Measure and print."""
    for length in lengths:
        require(length.isdecimal() and int(length) > 2, "T", length, "a whole number of at least 3")
    print("| T | what | " + " | ".join(f"{agent}, ms" for agent in AGENTS), end=" | ")
    print(" | ".join(f"gru over {agent}" for agent in AGENTS[1:]) + " |")
    print("|---" * (2 * len(AGENTS) + 1) + "|")
    for length in [int(length) for length in lengths] or LENGTHS:
        timed: dict[str, dict[str, Callable[[], float]]] = {"update": {}, "unroll with gradient": {}}
        for agent in AGENTS:
            algorithm, hyper = make_algorithm(settings(agent, length))
            timed["update"][agent] = update(algorithm, hyper)
            timed["unroll with gradient"][agent] = gradient(algorithm)
        for what, functions in timed.items():
            print(f"| {length} | {what} | {row(functions)} |", flush=True)


def settings(agent: str, length: int) -> list[str]:
    """Of the run whose update is timed."""
    sizes = [f"rollout.length={length}", f"env.max_steps={length - 2}", f"replay.batch_size={BATCH}"]
    sizes += [f"replay.capacity={BATCH}", f"rollout.num_envs={BATCH}", f"learner.updates_per_iteration={UPDATES}"]
    return ["algorithm=qmix", "env=smax", "env.scenario=3m", f"agent={agent}", "learner.minibatch_parts=1", *sizes]


def update(algorithm: Algorithm, hyper: HyperParams) -> Callable[[], float]:
    """Seconds of one update."""
    piece = learn_piece(algorithm, hyper, filled_state(algorithm, hyper), 1)
    return lambda: piece.seconds() / UPDATES


def gradient(algorithm: Algorithm) -> Callable[[], float]:
    """Seconds of the agents' unroll and its gradient."""
    env, length = algorithm.env, algorithm.sizes.length
    params = jax.jit(lambda: filled_params(algorithm))()
    obs = jax.random.normal(jax.random.key(1), (length, BATCH, env.num_agents, env.obs_size))
    action = jnp.zeros((length, BATCH, env.num_agents), jnp.int32)
    first = jnp.zeros((length, BATCH), bool).at[0].set(True)

    def total(params: dict) -> jax.Array:
        return jnp.square(unroll(algorithm.agent, params, obs, action, first)).sum()

    run = jax.jit(jax.grad(total)).lower(params).compile()

    def seconds() -> float:
        started = time.perf_counter()
        jax.block_until_ready(run(params))
        return time.perf_counter() - started

    return seconds


def filled_params(algorithm: Algorithm) -> dict:
    """Random parameters of the agents."""
    env = algorithm.env
    hidden = algorithm.agent.initial_hidden(1)
    obs, action = jnp.zeros((1, env.num_agents, env.obs_size)), jnp.zeros((1, env.num_agents), jnp.int32)
    return algorithm.agent.init(jax.random.key(0), hidden, obs, action)


def row(functions: dict[str, Callable[[], float]]) -> str:
    """Milliseconds of each agent, and the others' ratios to the first."""
    for function in functions.values():
        function()
    rounds = [{agent: function() for agent, function in functions.items()} for _ in range(TURNS)]
    cells = [f"{1000 * statistics.median(seconds[agent] for seconds in rounds):.1f}" for agent in AGENTS]
    for agent in AGENTS[1:]:
        ratios = [seconds[AGENTS[0]] / seconds[agent] for seconds in rounds]
        cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    return " | ".join(cells)


if __name__ == "__main__":
    avoid_wrong_reductions()
    jax.config.update("jax_num_cpu_devices", 1)
    run_command(__doc__ or "", None, lambda lengths: main(*lengths))
