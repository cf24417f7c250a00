"""Where the time of an update goes in the compiled program: time, FLOP and bytes of each of XLA's operations.

Usage: taskset -c 0 python experiments/speed/fusions.py [--devices 1] [--rows 20] [--save FILE] env=smax

The other arguments are those of ``python -m qmix_jax.train``. One update is compiled as a run compiles it, on one CPU
device or on two that share the minibatch, and called under JAX's profiler. The table has the operations that took
longest, and the project's function that each comes from. Milliseconds are of one update, all calls and devices
together; the profiler's own time for each call is in them. FLOP are counted from the shapes: two for each
multiplication and addition of a matrix product, one for each number that another operation computes. Bytes are what an
operation reads and writes, of an array that it changes in place only the change. The peak is one core's rate of a
product of 768 x 768; run it on an idle machine, since other programs' time is in an operation's.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from program_text import FREE, Origins, flop, moved, parsed

from qmix_jax.algorithms import loop
from qmix_jax.algorithms.gradient_step import learn
from qmix_jax.bench.pieces import filled_state
from qmix_jax.envs.build import make_env
from qmix_jax.running.devices import cores, set_up
from qmix_jax.running.programs.lanes import over_lanes
from qmix_jax.running.waves import Waves
from qmix_jax.settings.arguments import run_command
from qmix_jax.settings.build import build
from qmix_jax.settings.command_line import compose_config
from qmix_jax.settings.reading import parse, to_container


class Row(NamedTuple):
    """An operation of one update."""

    name: str
    origin: str
    calls: float
    milliseconds: float
    flop: float
    bytes: float


def times(program: Callable[..., Any], arguments: tuple[Any, ...], calls: int) -> tuple[Counter[str], Counter[str]]:
    """Nanoseconds and calls of every operation, all devices together."""
    spent: Counter[str] = Counter()
    count: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(calls):
                jax.block_until_ready(program(*arguments))
        (file,) = Path(folder).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(file))
        for plane in data.planes:
            for line in plane.lines:
                if line.name.startswith("tf_"):
                    for event in line.events:
                        spent[event.name] += event.duration_ns
                        count[event.name] += 1
    return spent, count


def rows_of(program: Any, arguments: tuple[Any, ...], calls: int) -> list[Row]:
    """All operations of a compiled program, the longest first."""
    text = program.as_text()
    computations, origins = parsed(text), Origins(text)
    jax.block_until_ready(program(*arguments))
    spent, count = times(program, arguments, calls)
    found = []
    for inside in computations.values():
        for name, each in inside.items():
            if spent[name] and each.opcode not in FREE:
                often = count[name] / calls
                work = often * flop(each, inside, computations), often * moved(each, inside, computations)
                found.append(Row(name, origins.of(each), often, spent[name] / calls / 1e6, *work))
    return sorted(found, key=lambda row: -row.milliseconds)


def peak_rate() -> float:
    """FLOP in a second of a product of 768 x 768, for each core that this process may use."""
    square = jnp.ones((768, 768))
    product, taken = jax.jit(lambda x: x @ x), []
    for _ in range(20):
        started = time.perf_counter()
        jax.block_until_ready(product(square))
        taken.append(time.perf_counter() - started)
    return 2 * 768**3 / min(taken) / cores()


def joined(rows: list[Row], name: str, origin: str = "") -> Row:
    """Several operations as one."""
    return Row(name, origin, *(sum(row[place] for row in rows) for place in range(2, 6)))  # pyright: ignore


def by_function(rows: list[Row]) -> list[Row]:
    """The operations of each function of the project joined, the longest first."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.origin.partition(":")[0], []).append(row)
    found = [joined(group, f"{len(group)} operations", origin) for origin, group in groups.items()]
    return sorted(found, key=lambda row: -row.milliseconds)


def table(rows: list[Row], most: int, peak: float) -> str:
    """The rows as Markdown: the longest, the rest together, and all."""

    def line(row: Row) -> str:
        seconds = row.milliseconds / 1000
        return (
            f"| {row.name} | {row.origin} | {row.calls:.0f} | {row.milliseconds:.2f} | {row.flop / 1e6:.1f} | "
            f"{row.bytes / 1e6:.1f} | {row.bytes / seconds / 1e9:.1f} | {row.flop / seconds / peak:.0%} |"
        )

    rest = rows[most:]
    lines = ["| operation | from | calls | ms | MFLOP | MB | GB/s | of the peak |", "|---|---|---|---|---|---|---|---|"]
    lines += [line(row) for row in rows[:most]]
    lines += [line(joined(rest, f"{len(rest)} others"))] if rest else []
    return "\n".join([*lines, line(joined(rows, "all"))])


def measure(options: argparse.Namespace, settings: list[str]) -> None:
    """Compile, profile, print."""
    config = parse(to_container(compose_config(settings)))
    set_up("cpu", options.devices)
    algorithm, hyper = build(config, make_env(config.parts["env"]))
    waves = Waves(algorithm, hyper, [0])
    state = filled_state(algorithm, hyper)
    memory = state.replay._replace(size=jnp.int32(algorithm.sizes.num_envs))
    minibatch = jax.jit(lambda memory, key: loop.sample(algorithm, hyper, memory, key))(memory, jax.random.key(2))
    shared = waves.algorithm
    update = over_lanes(
        waves.mesh, lambda learner, minibatch: learn(shared, hyper, learner, minibatch), (P("lanes"), P("lanes"))
    )
    arguments = jax.tree.map(lambda x: jnp.asarray(x)[None], (state.learner, minibatch))
    program = update.lower(*arguments).compile()
    peak = peak_rate()
    rows = rows_of(program, jax.device_put(arguments, waves._sharding), options.calls)
    print(f"{waves.describe()}; peak of one core {peak / 1e9:.0f} GFLOP/s\n")
    print(table(by_function(rows) if options.by_function else rows, options.rows, peak))
    if options.save:
        record = {"settings": settings, "peak": peak, "rows": [row._asdict() for row in rows]}
        with options.save.open("a") as file:
            file.write(json.dumps(record) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, choices=(1, 2), default=1)
    parser.add_argument("--rows", type=int, default=20)
    parser.add_argument("--by-function", action="store_true", help="join the operations of each function")
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--save", type=Path, help="append what was measured to this file, as a line of JSON")
    options, settings = parser.parse_known_args()
    run_command(__doc__ or "", settings, lambda settings: measure(options, settings))


if __name__ == "__main__":
    main()
