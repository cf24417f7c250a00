"""Environment steps and resets per second of our SMAX and of JaxMARL's, side by side, and how long each compiles.

Usage: JAX_PLATFORMS=cpu python experiments/smax/speed.py [--envs 16] [--repeats 5] [--ours] [--stored] SCENARIO ...
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from qmix_jax.envs.base import Env
from qmix_jax.envs.jaxmarl import make_smax as make_jaxmarls
from qmix_jax.envs.smax import make_smax
from qmix_jax.envs.smax.scenarios import find_scenario
from qmix_jax.settings.arguments import run_command

SCENARIOS = ("3m", "3s5z", "10m_vs_11m", "27m_vs_30m")


def steps_program(env: Env, num_envs: int, length: int, stored: bool = False) -> Callable:
    """Play ``length`` joint actions in each of ``num_envs`` environments, chosen by chance among the available ones.

    The last step is returned, and so are all rewards. The loop carries the step on, which keeps every one of them from
    being optimised away. With ``stored`` all of them are returned. On large maps much of the time then goes to the
    system, which hands out the memory for them.
    """

    def program(key, noise):
        reset_key, step_key = jax.random.split(key)
        env_state, first = jax.vmap(env.reset)(jax.random.split(reset_key, num_envs))
        keys = jax.random.split(step_key, (length, num_envs))

        def transition(carry, random):
            env_state, step = carry
            noise, keys = random
            action = jnp.argmax(jnp.where(step.avail_actions, noise, -1.0), axis=-1)
            env_state, step, outcome = jax.vmap(env.step)(keys, env_state, action)
            return (env_state, step), (step if stored else None, outcome)

        return jax.lax.scan(transition, (env_state, first), (noise, keys))

    return program


def resets_program(env: Env, num_envs: int, length: int) -> Callable:
    """``length`` times ``num_envs`` resets."""

    def program(key, noise):
        del noise
        keys = jax.random.split(key, (length, num_envs))
        return jax.lax.map(jax.vmap(env.reset), keys)

    return program


def compiled(program: Callable, noise: jax.Array) -> tuple[Callable, float]:
    """The compiled program, and the processor seconds that tracing and compiling took."""
    begin = time.process_time()
    made = jax.jit(program).lower(jax.random.key(0), noise).compile()
    return made, time.process_time() - begin


def seconds(program: Callable, seed: int, noise: jax.Array) -> float:
    """Processor seconds: what else runs on the machine counts less."""
    key = jax.block_until_ready(jax.random.key(seed))
    begin = time.process_time()
    jax.block_until_ready(program(key, noise))
    return time.process_time() - begin


def measure(scenario: str, num_envs: int, length: int, repeats: int, both: bool, stored: bool) -> None:
    sides = {"ours": make_smax(scenario)} | ({"jaxmarl": make_jaxmarls(scenario)} if both else {})
    rates: dict[str, dict[str, float]] = {}
    # Drawn outside: to compile this takes as long as all the rest of our program.
    some = sides["ours"]
    noise = np.random.default_rng(0).random((length, num_envs, some.num_agents, some.num_actions), np.float32)
    noise = jnp.asarray(noise)
    for kind, build in (("steps", partial(steps_program, stored=stored)), ("resets", resets_program)):
        programs, compiling, times = {}, {}, {side: [] for side in sides}
        for side, env in sides.items():
            programs[side], compiling[side] = compiled(build(env, num_envs, length), noise)
            seconds(programs[side], 0, noise)
        for repeat in range(repeats):
            for side, program in programs.items():
                times[side].append(seconds(program, repeat, noise))
        rates[kind] = {side: num_envs * length / min(taken) for side, taken in times.items()}
        rates[f"compile {kind}"] = compiling
        if both:
            found = [theirs / ours for ours, theirs in zip(times["ours"], times["jaxmarl"], strict=True)]
            print(f"{scenario:14s} {kind:15s} ratios of the repeats: {min(found):.2f} to {max(found):.2f}", flush=True)
    for kind, values in rates.items():
        ratio = values["ours"] / values["jaxmarl"] if both else float("nan")
        shown = " ".join(f"{side}={value:.4g}" for side, value in values.items())
        print(f"{scenario:14s} {kind:15s} {shown} ratio={ratio:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", default=SCENARIOS)
    parser.add_argument("--envs", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--ours", action="store_true", help="without JaxMARL's")
    parser.add_argument("--stored", action="store_true", help="every step is returned, not the last one only")
    settings = parser.parse_args()
    run_command(__doc__ or "", settings.scenarios, lambda scenarios: measure_all(settings, scenarios))


def measure_all(settings: argparse.Namespace, scenarios: list[str]) -> None:
    """Check all scenarios, then measure them."""
    for scenario in scenarios:
        find_scenario(scenario)
    for scenario in scenarios:
        measure(scenario, settings.envs, settings.length, settings.repeats, not settings.ours, settings.stored)


if __name__ == "__main__":
    main()
