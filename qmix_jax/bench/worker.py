"""Measure one configuration in its own process: ``python -m qmix_jax.bench.worker REQUEST``, with the request as JSON.

The process has as many CPU devices as a run would have, compiles with an empty cache, and its peak memory is that of
this configuration alone. It answers in lines of JSON on standard output: one after compiling, then one for every line
of standard input. :class:`qmix_jax.bench.process.Process` controls it.
"""

import json
import math
import os
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from qmix_jax.algorithms import loop as qmix
from qmix_jax.algorithms.base import Algorithm
from qmix_jax.bench.pieces import iterations_for
from qmix_jax.bench.process import set_up
from qmix_jax.envs.build import make_env
from qmix_jax.running.devices import tracing
from qmix_jax.running.memory import plan as memory
from qmix_jax.running.programs.lanes import RUN_ONCE, over_lanes
from qmix_jax.running.waves import Waves
from qmix_jax.settings.build import build
from qmix_jax.settings.command_line import compose_config
from qmix_jax.settings.reading import parse, to_container
from qmix_jax.types import HyperParams, TrainState


class Request(NamedTuple):
    """What to run."""

    arguments: list[str]
    """Arguments as for ``python -m qmix_jax.train``."""
    seeds: int
    env_steps: int
    """Environment steps per seed in one run; rounded up to whole iterations."""
    warm_up: bool
    """Start like a new run, without updates; otherwise every iteration learns."""
    evaluate: bool
    """Evaluate at the end, as in an epoch."""
    cache: str | None = None
    """Folder for compiled programs."""


class Loop:
    """The whole loop of several seeds, mapped over devices as in :class:`qmix_jax.running.waves.Waves`."""

    def __init__(self, algorithm: Algorithm, hyper: HyperParams, request: Request, per_device: int | None) -> None:
        self.iterations = iterations_for(algorithm, request.env_steps)
        first = 0 if request.warm_up else algorithm.sizes.warmup_iterations
        algorithm = algorithm._replace(sizes=algorithm.sizes._replace(iterations_per_epoch=self.iterations))
        self._seeds, self._hyper = request.seeds, hyper
        layout = Waves(algorithm, hyper, list(range(request.seeds)), per_device)
        algorithm, mesh, self._wave_size = layout.algorithm, layout.mesh, layout.wave_size
        waves = math.ceil(request.seeds / self._wave_size)
        self._keys = [self._wave_of_keys(index) for index in range(waves)]

        def run(state: TrainState, hyper: HyperParams) -> Any:
            start = jnp.asarray(first, jnp.int32)
            if request.evaluate:
                return qmix.epoch(algorithm, hyper, state, start)
            indices = start + jnp.arange(self.iterations, dtype=jnp.int32)
            return jax.lax.scan(lambda s, i: qmix.iterate(algorithm, hyper, s, i), state, indices)

        started = time.perf_counter()
        with tracing():
            init = over_lanes(mesh, lambda key: qmix.init(algorithm, key), (P("lanes"),), RUN_ONCE)
            init = init.lower(self._keys[0])
            loop = over_lanes(mesh, run, (P("lanes"), P()), donate_argnums=0).lower(init.out_info, hyper)
        traced = time.perf_counter()
        with ThreadPoolExecutor() as pool:  # as in a run
            self._init, self._loop = pool.map(lambda program: program.compile(), (init, loop))
        self.trace_seconds = traced - started
        self.compile_seconds = time.perf_counter() - traced

    def _wave_of_keys(self, index: int) -> jax.Array:
        first = index * self._wave_size
        return jax.vmap(jax.random.key)(jnp.arange(first, first + self._wave_size, dtype=jnp.uint32))

    def run(self) -> dict[str, Any]:
        """Train all seeds from the start; return seconds and totals over seeds."""
        started = time.perf_counter()
        states = [self._init(keys) for keys in self._keys]
        for index, state in enumerate(states):
            states[index] = self._loop(state, self._hyper)[0]
        jax.block_until_ready(states)
        seconds = time.perf_counter() - started

        def total(counts: list[jax.Array]) -> int:
            return int(np.concatenate([np.asarray(count) for count in counts])[: self._seeds].sum())

        return {
            "seconds": seconds,
            "env_steps": total([state.env_steps for state in states]),
            "updates": total([state.learner.updates for state in states]),
            "peak_rss_bytes": peak_rss_bytes(),
            "peak_device_bytes": peak_device_bytes(),
        }

    def program_bytes(self) -> dict[str, int]:
        """XLA's memory analysis of the compiled loop on one device."""
        found = self._loop.memory_analysis()
        names = ("argument", "output", "alias", "temp")
        return {name: int(getattr(found, f"{name}_size_in_bytes")) for name in names}


def peak_rss_bytes() -> int:
    """The peak memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_device_bytes() -> int | None:
    """The peak memory of the fullest accelerator so far; None on CPU, which does not count it."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    found = [one["peak_bytes_in_use"] for one in stats if "peak_bytes_in_use" in one]
    return int(max(found)) if found else None


def replay_bytes(algorithm: Algorithm) -> dict[str, float]:
    """Bytes of the replay per environment step and per slot."""
    sizes = algorithm.sizes
    sequence = memory.seed_bytes(algorithm).replay / sizes.capacity
    return {"per_step": sequence / (sizes.length - 1), "per_slot": sequence / sizes.length}


def main() -> None:
    """Answer on the original standard output; redirect what libraries print to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = Request(**json.loads(sys.argv[1]))
    config = parse(to_container(compose_config(request.arguments)))
    set_up(config.devices, request.seeds * config.learner.most_parts, request.cache)
    algorithm, hyper = build(config, make_env(config.parts["env"]))
    devices, per_device = jax.local_devices(), config.devices.seeds_per_device
    plan = memory.check(algorithm, request.seeds, devices, per_device)
    loop = Loop(algorithm, hyper, request, per_device)
    compiled = {
        "trace_seconds": loop.trace_seconds,
        "compile_seconds": loop.compile_seconds,
        "iterations": loop.iterations,
        "devices": f"{len(devices)} {devices[0].platform}",
        "replay_bytes": replay_bytes(algorithm),
        "program_bytes": loop.program_bytes(),
        "estimated_bytes": plan.total,
    }
    _say(answers, compiled)
    for _ in sys.stdin:
        _say(answers, loop.run())


def _say(answers: Any, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(cast(Any, answer)) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
