"""Where the time of a start goes, from the interpreter's first line to the end of the first epoch, part by part.

Usage: python experiments/speed/start_time.py [--save FILE] experiment=simple_spread

The other arguments are those of ``python -m qmix_jax.train``. It takes the steps of that command in their order, with
its compilation cache and kept programs: the second start is the one to look at. Processor seconds are those of all
threads, and do not grow when other programs run; seconds do.
"""

import argparse
import contextlib
import functools
import gc
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PARTS: dict[str, tuple[float, float]] = {"interpreter": (time.process_time(), time.process_time())}
"""Seconds and processor seconds by part; the interpreter's own seconds are its processor's."""


@contextlib.contextmanager
def part(name: str) -> Iterator[None]:
    wall, processor = time.perf_counter(), time.process_time()
    yield
    PARTS[name] = (time.perf_counter() - wall, time.process_time() - processor)


def start(arguments: list[str]) -> int:
    """Everything up to the first epoch. Returns the updates that it made."""
    gc.disable()  # as the command does
    with part("import: command line"):
        from qmix_jax import train  # noqa: F401 - what the command imports first
        from qmix_jax.running.devices import cores, set_up
        from qmix_jax.settings import command_line
        from qmix_jax.settings.cells import cells
        from qmix_jax.settings.reading import parse, to_container
    with part("settings: check"):
        command_line.check(arguments)
    with part("settings: Hydra's own composition"):
        container = to_container(command_line.compose_config(arguments))
        config = parse(container)
        cells(container, config)
    with part("import: jax"):
        set_up("cpu", min(cores(), config.num_seeds * config.learner.most_parts))
        import jax

        jax.local_devices()
    with part("environment"):
        from qmix_jax.envs.build import make_env

        env = make_env(config.parts["env"])
    with part("import: running, logging, results"):
        from qmix_jax.running import launch  # noqa: F401 - what the command imports next
        from qmix_jax.running.memory import plan as memory
        from qmix_jax.running.memory.seed import SeedBytes, seed_bytes
        from qmix_jax.running.programs.kept import programs_of
        from qmix_jax.settings.build import build
    with part("build"):
        algorithm, hyper = build(config, env)
    with part("memory plan"):
        programs = programs_of(config)
        measure = None if programs is None else functools.partial(programs.numbers, SeedBytes, seed_bytes)
        plan = memory.check(algorithm, config.num_seeds, jax.local_devices(), measure=measure)
    sizes = algorithm.sizes._replace(capacity=plan.capacity, iterations_per_epoch=1, warmup_iterations=0)
    return first_epoch(algorithm._replace(sizes=sizes), hyper, config)


def first_epoch(algorithm: Any, hyper: Any, config: Any) -> int:
    """Compile as a run does, and run for one iteration that learns."""
    import jax
    import jax.numpy as jnp

    from qmix_jax.running.devices import tracing
    from qmix_jax.running.programs.kept import programs_of
    from qmix_jax.running.waves import Waves

    waves: Any = Waves(algorithm, hyper, list(range(config.num_seeds)))

    def whole(x: Any, spec: Any = None) -> Any:
        sharding = waves._sharding if spec is None else jax.sharding.NamedSharding(waves.mesh, spec)
        return jax.ShapeDtypeStruct((waves.wave_size, *x.shape), x.dtype, sharding=sharding)

    with tracing():
        with part("trace: initial state"):
            state = waves._one_state()
            states = jax.tree.map(whole, state, waves._specs(state))
        numbers = jax.tree.map(lambda x: whole(jax.ShapeDtypeStruct((), x.dtype)), waves.hyper)
        arguments = (states, numbers, jax.ShapeDtypeStruct((), jnp.int32))
        with part("programs: read, or trace and keep"):
            programs = programs_of(config)
            if programs is not None:
                waves._use_kept(programs, arguments)
        with part("lower: epoch, and trace it if it was not kept"):
            lowered = waves._epoch_function.lower(*arguments)
    with part("compile, or read the cache: epoch"):
        program = lowered.compile()
    with part("initial state: lower, compile or read, run"):
        waves.start()
    waves._use(program)
    with part("first iteration and evaluation"):
        rows = waves.epoch()
    return int(rows["updates"].max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", type=Path, help="append what was measured to this file, as a line of JSON")
    options, settings = parser.parse_known_args()
    try:
        updates = start(settings)
    except ValueError as error:
        from qmix_jax.errors import ConfigError  # here, since imports are part of what is measured

        if not isinstance(error, ConfigError):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    PARTS["all"] = tuple(map(sum, zip(*PARTS.values(), strict=True)))  # pyright: ignore[reportArgumentType]
    print("| part | s | processor s |\n|---|---|---|")
    for name, (wall, processor) in PARTS.items():
        print(f"| {name} | {wall:.2f} | {processor:.2f} |")
    print(f"\n{updates} updates; {len(os.sched_getaffinity(0))} cores")
    if options.save:
        with options.save.open("a") as file:
            file.write(json.dumps({"settings": settings, "parts": PARTS}) + "\n")


if __name__ == "__main__":
    main()
