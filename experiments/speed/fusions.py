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
import math
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

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

PROJECT = "/qmix_jax/"
SIZES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2, "s32": 4, "u32": 4, "f32": 4}
FREE = {"parameter", "constant", "bitcast", "get-tuple-element", "tuple", "while", "call", "conditional", "after-all"}
"""Operations that compute nothing themselves."""
INSTRUCTION = re.compile(
    r"^ +(?P<root>ROOT )?%(?P<name>[\w.\-]+) = (?P<shape>\([^=]*\)|\S+) "
    r"(?P<opcode>[\w\-]+)\((?P<operands>[^)]*)\)(?P<rest>.*)$"
)


class Instruction(NamedTuple):
    """One line of a compiled program."""

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]
    rest: str
    is_root: bool

    @property
    def called(self) -> str:
        """The computation of a fusion."""
        found = re.search(r"calls=%([\w.\-]+)", self.rest)
        return found[1] if found else ""


Computation = dict[str, Instruction]


class Row(NamedTuple):
    """An operation of one update."""

    name: str
    origin: str
    calls: float
    milliseconds: float
    flop: float
    bytes: float


def numbers(shape: str) -> int:
    """How many numbers an array of this shape, like ``f32[96,64]{1,0}``, has."""
    return math.prod(int(size) for size in re.search(r"\[([\d,]*)\]", shape)[1].split(",") if size)  # pyright: ignore


def size_in_bytes(shape: str) -> int:
    """Of an array, or of a tuple of arrays."""
    arrays = re.findall(r"(\w+)(\[[\d,]*\])", shape)
    return sum(SIZES.get(kind, 8) * numbers(each) for kind, each in arrays)


def parsed(text: str) -> dict[str, Computation]:
    """The computations of a compiled program's text, by name."""
    found: dict[str, Computation] = {}
    current: Computation = {}
    for line in text.splitlines():
        head = re.match(r"^(?:ENTRY )?%([\w.\-]+) \(.*\{$", line)
        if head:
            current = found[head[1]] = {}
        elif match := INSTRUCTION.match(line):
            operands = tuple(re.findall(r"%([\w.\-]+)", match["operands"]))
            name = match["name"]
            current[name] = Instruction(
                name, match["opcode"], match["shape"], operands, match["rest"], bool(match["root"])
            )
    return found


def flop(instruction: Instruction, inside: Computation, all_of_them: dict[str, Computation]) -> float:
    """Operations on numbers of one call."""
    if instruction.opcode == "fusion":
        fused = all_of_them[instruction.called]
        return sum(flop(each, fused, all_of_them) for each in fused.values())
    if instruction.opcode == "dot":
        left = inside[instruction.operands[0]].shape
        sizes = [int(size) for size in re.search(r"\[([\d,]*)\]", left)[1].split(",")]  # pyright: ignore
        axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.rest)[1]  # pyright: ignore
        return 2 * numbers(instruction.shape) * math.prod(sizes[int(axis)] for axis in axes.split(","))
    if instruction.opcode in FREE | {"copy", "slice", "dynamic-slice", "broadcast", "transpose", "concatenate", "iota"}:
        return 0
    if instruction.opcode == "dynamic-update-slice":
        return 0
    if instruction.opcode == "reduce":
        return numbers(inside[instruction.operands[0]].shape)
    return 0 if instruction.shape.startswith("(") else numbers(instruction.shape)


def moved(instruction: Instruction, inside: Computation, all_of_them: dict[str, Computation]) -> float:
    """Bytes that one call reads and writes."""
    if instruction.opcode != "fusion":
        fused = {name: inside[name] for name in instruction.operands if name in inside}
        return _slices({**fused, instruction.name: instruction._replace(is_root=True)}, list(fused))
    fused = all_of_them[instruction.called]
    return _slices(fused, [name for name, each in fused.items() if each.opcode == "parameter"])


def _slices(fused: Computation, read: list[str]) -> float:
    """What is read of these inputs, and written by the root: of large arrays only the slices in use."""
    total = 0.0
    for name in read:
        users = [each for each in fused.values() if name in each.operands]
        if users and all(_takes(each, "dynamic-slice", name) for each in users):
            total += sum(size_in_bytes(each.shape) for each in users)
        elif not (users and all(_takes(each, "dynamic-update-slice", name) for each in users)):
            total += size_in_bytes(fused[name].shape)
    root = next(each for each in fused.values() if each.is_root)
    while root.opcode == "bitcast":
        root = fused[root.operands[0]]
    is_change = root.opcode == "dynamic-update-slice"
    return total + size_in_bytes(fused[root.operands[1]].shape if is_change else root.shape)


def _takes(user: Instruction, opcode: str, name: str) -> bool:
    """Whether ``user`` takes a slice of this array, or puts one there."""
    return user.opcode == opcode and user.operands[0] == name


class Origins:
    """Which function of the project an operation comes from, by the tables at the head of a program's text."""

    def __init__(self, text: str) -> None:
        self._files = dict(_table(text, "FileNames", r'(\d+) "(.*)"'))
        self._functions = dict(_table(text, "FunctionNames", r'(\d+) "(.*)"'))
        places = _table(text, "FileLocations", r"(\d+) \{file_name_id=(\d+) function_name_id=(\d+) line=(\d+)")
        self._places = {number: rest for number, *rest in places}
        frames = _table(text, "StackFrames", r"(\d+) \{file_location_id=(\d+)(?: parent_frame_id=(\d+))?")
        self._frames = {number: rest for number, *rest in frames}

    def of(self, instruction: Instruction) -> str:
        """``function:line``, or nothing where the program does not say."""
        found = re.search(r"stack_frame_id=(\d+)", instruction.rest)
        frame = found[1] if found else "0"
        while frame in self._frames:
            place, parent = self._frames[frame]
            file, function, line = self._places[place]
            if PROJECT in self._files[file]:
                return f"{self._functions[function].replace('<locals>.', '')}:{line}"
            frame = str(int(parent or 1) - 1)
        return ""


def _table(text: str, name: str, pattern: str) -> Iterator[tuple[Any, ...]]:
    lines = iter(text.splitlines())
    for line in lines:
        if line == name:
            break
    for line in lines:
        match = re.match(pattern, line)
        if match is None:
            return
        yield match.groups()


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
