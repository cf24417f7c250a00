"""Where the time of an update goes on one CPU core: milliseconds, FLOP, bytes and share of the core's peak by piece.

Usage: taskset -c 0 python experiments/speed/update_time.py [--rounds 15] [--save FILE] experiment=simple_spread

The other arguments are those of ``python -m qmix_jax.train``. Each piece is compiled alone and reads what the pieces
before it made. All of them are called in turn, round after round, and the least processor time of a call counts: the
time that other programs take from this one is no part of it. FLOP are those of the matrix products; bytes are those of
a piece's inputs and outputs. ``unaccounted`` is what the whole update takes beyond its pieces.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax.extend.core import jaxprs_in_params
from jax.flatten_util import ravel_pytree

from qmix_jax.algorithms import loop, pieces
from qmix_jax.algorithms.base import Algorithm, LossInfo
from qmix_jax.algorithms.gradient_step import learn
from qmix_jax.bench.pieces import filled_state
from qmix_jax.envs.build import make_env
from qmix_jax.errors import ConfigError
from qmix_jax.learning.values import joint_values, mixer_inputs
from qmix_jax.networks.agents import RecurrentAgent, last_actions, unroll
from qmix_jax.networks.gru import gru_unroll
from qmix_jax.replay.sequences import Minibatch
from qmix_jax.running.devices import set_up
from qmix_jax.running.programs.lanes import COMPILER_OPTIONS
from qmix_jax.settings.arguments import run_command
from qmix_jax.settings.build import build
from qmix_jax.settings.command_line import compose_config
from qmix_jax.settings.reading import parse, to_container
from qmix_jax.types import HyperParams, Learner

SHORTEST = 0.02
"""Seconds of a measurement: a piece is called as often as that takes, since the clock has a resolution."""
PEAK_SIZE = 768


class Piece(NamedTuple):
    """A function with its arguments, and how often an update calls it."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    times: int = 1


class Row(NamedTuple):
    """What was measured of a piece, for one update."""

    milliseconds: float
    flop: float
    bytes: float


def product_flop(jaxpr: Any) -> float:
    """Floating-point operations of the matrix products of a program, loops included."""
    total = 0.0
    for equation in jaxpr.eqns:
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
        for inner in jaxprs_in_params(equation.params):
            total += times * product_flop(inner)
    return total


def size_in_bytes(tree: Any) -> int:
    return sum(
        x.size * x.dtype.itemsize for x in jax.tree.leaves(tree) if not jnp.issubdtype(x.dtype, jax.dtypes.extended)
    )


def update_pieces(algorithm: Algorithm, hyper: HyperParams) -> tuple[dict[str, Piece], Piece]:
    """The pieces of an update in their order, and the whole."""
    state = filled_state(algorithm, hyper)
    memory = state.replay._replace(size=jnp.int32(algorithm.sizes.num_envs))
    key = jax.random.key(2)
    read = Piece(lambda memory, key: loop.sample(algorithm, hyper, memory, key), (memory, key))
    minibatch = jax.jit(read.function)(*read.arguments)
    whole = Piece(lambda learner, minibatch: learn(algorithm, hyper, learner, minibatch), (state.learner, minibatch))
    parts = algorithm.sizes.minibatch_parts
    size = minibatch.places.shape[0] // parts
    part = Minibatch(
        jax.tree.map(lambda x: x[:, :size], minibatch.slots), minibatch.places[:size], minibatch.weights[:size]
    )
    found = {"replay: sample and unpack": read, **part_pieces(algorithm, hyper, state.learner, part)}
    found = {name: piece._replace(times=1 if piece is read else parts) for name, piece in found.items()}
    found["clipping, optimiser, target copy"] = step_piece(algorithm, hyper, state.learner)
    return found, whole


def with_gradient(found: dict[str, Piece], name: str, function: Callable[..., Any], *inputs: Any) -> Any:
    """Add ``function`` of ``inputs`` and its gradient by all of them; returns its output."""
    output, backward = jax.jit(lambda *inputs: jax.vjp(function, *inputs))(*inputs)
    found[f"{name}, forward"] = Piece(function, inputs)
    found[f"{name}, backward"] = Piece(lambda backward, d: backward(d), (backward, output))
    return output


def part_pieces(algorithm: Algorithm, hyper: HyperParams, learner: Learner, part: Minibatch) -> dict[str, Piece]:
    """The pieces of the loss of a minibatch's part."""
    agent: Any = algorithm.agent
    batch, params = part.slots, learner.online.agent
    obs, first = batch.step.obs, batch.first
    previous = last_actions(batch.action, first)
    rows = obs.shape[1] * obs.shape[2]
    keep = jnp.broadcast_to(~first[..., None], obs.shape[:-1]).reshape(-1, rows, 1).astype(obs.dtype)
    found: dict[str, Piece] = {}

    def encoder(params: Any) -> Any:
        return agent.apply(params, obs, previous, method="_first_layer").reshape(-1, rows, agent.hidden_size)

    x = with_gradient(found, "encoder", encoder, params)
    weights = agent.apply(params, method="_weights")
    hidden = with_gradient(
        found, "GRU", lambda weights, x: gru_unroll(weights, x, keep, jnp.zeros_like(x[0])), weights, x
    )
    q = with_gradient(
        found,
        "Q head",
        lambda params, hidden: agent.apply(params, hidden, None, method="values"),
        params,
        hidden.reshape(*obs.shape[:-1], agent.hidden_size),
    )
    mixer = learner.online.mixer

    def q_tot(mixer: Any, q: Any) -> Any:
        return joint_values(algorithm.mixer, mixer, mixer_inputs(q, batch.action, batch.step))

    with_gradient(found, "mixer and action values", q_tot, mixer, q)
    found["target agents"] = Piece(
        lambda params, obs, previous: unroll(agent, params, obs, previous, first), (params, obs, previous)
    )

    def targets(mixer: Any, q: Any) -> Any:
        greedy = pieces.deciding_action(algorithm, q, q, batch)
        values = [
            joint_values(algorithm.mixer, mixer, mixer_inputs(q, action, batch.step))
            for action in (greedy, batch.action)
        ]
        return pieces.targets(algorithm, hyper, learner, batch, *values)[0]

    found["target mixer, greedy actions, targets"] = Piece(targets, (mixer, q))
    return found


def step_piece(algorithm: Algorithm, hyper: HyperParams, learner: Learner) -> Piece:
    """An update whose gradient is given."""

    class Given:
        """A loss with a gradient that costs nothing."""

        def loss(
            self, _algorithm: Any, _hyper: Any, online: Any, learner: Any, minibatch: Any, transitions: Any
        ) -> Any:
            vector = ravel_pytree(online)[0]
            zero = jnp.zeros(())
            info = LossInfo({}, zero, zero, minibatch.weights, learner.returns)
            return 0.5 * (vector**2).sum(), info

    given = algorithm._replace(method=Given(), sizes=algorithm.sizes._replace(minibatch_parts=1))
    empty = Minibatch(
        loop.Slot(*cast(Any, [jnp.zeros((1, 1)) for _ in loop.Slot._fields])), jnp.zeros(1, jnp.int32), jnp.zeros(1)
    )
    return Piece(lambda learner, minibatch: learn(given, hyper, learner, minibatch), (learner, empty))


def measured(all_pieces: dict[str, Piece], rounds: int) -> dict[str, Row]:
    """Least milliseconds of each piece, and what its program says."""
    programs, rows = {}, {}
    for name, piece in all_pieces.items():
        traced = jax.jit(piece.function).trace(*piece.arguments)
        program = traced.lower().compile(compiler_options=COMPILER_OPTIONS)
        programs[name] = program
        moved = size_in_bytes((piece.arguments, traced.out_info))
        rows[name] = Row(math.inf, piece.times * product_flop(traced.jaxpr.jaxpr), piece.times * moved)
    calls = {name: repeats_of(programs[name], piece) for name, piece in all_pieces.items()}
    for _ in range(rounds):
        for name, piece in all_pieces.items():
            taken = seconds(programs[name], piece, calls[name]) / calls[name]
            least = min(rows[name].milliseconds, 1000 * piece.times * taken)
            rows[name] = rows[name]._replace(milliseconds=least)
    return rows


def repeats_of(program: Callable[..., Any], piece: Piece) -> int:
    seconds(program, piece, 1)
    return max(1, math.ceil(SHORTEST / max(seconds(program, piece, 3) / 3, 1e-6)))


def seconds(program: Callable[..., Any], piece: Piece, calls: int) -> float:
    """Processor seconds of so many calls."""
    started = time.process_time()
    output: Any = None
    for _ in range(calls):
        output = program(*piece.arguments)
    jax.block_until_ready(output)
    return time.process_time() - started


def table(rows: dict[str, Row], whole: str, peak: float) -> str:
    """The rows as Markdown, with shares of the peak."""
    lines = ["| piece | ms | MFLOP | MB | GFLOP/s | share of peak |", "|---|---|---|---|---|---|"]
    for name, row in rows.items():
        rate = row.flop / row.milliseconds / 1e6 if row.milliseconds else 0.0
        lines.append(
            f"| {name} | {row.milliseconds:.2f} | {row.flop / 1e6:.0f} | {row.bytes / 1e6:.1f} "
            f"| {rate:.0f} | {rate / peak:.0%} |"
        )
    rest = rows[whole].milliseconds - sum(row.milliseconds for name, row in rows.items() if name != whole)
    lines.append(f"| unaccounted | {rest:.2f} | | | | |")
    return "\n".join(lines)


def main() -> None:
    if len(os.sched_getaffinity(0)) > 1:
        raise SystemExit("start with taskset -c 0: processor time of several threads is no time of one")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--save", type=Path, help="append what was measured to this file, as a line of JSON")
    options, settings = parser.parse_known_args()
    run_command(__doc__ or "", settings, lambda settings: measure_update(options, settings))


def measure_update(options: argparse.Namespace, settings: list[str]) -> None:
    """Measure the update that these settings make, and print the table."""
    set_up("cpu", 1)
    config = parse(to_container(compose_config(settings)))
    algorithm, hyper = build(config, make_env(config.parts["env"]))
    if type(algorithm.agent) is not RecurrentAgent:
        raise ConfigError("agent: the pieces are those of agent=gru agent.shared=true; add these")
    found, whole = update_pieces(algorithm, hyper)
    found["whole update"] = whole
    square = jnp.ones((PEAK_SIZE, PEAK_SIZE))
    found["peak"] = Piece(jnp.matmul, (square, square))
    rows = measured(found, options.rounds)
    peak = rows.pop("peak")
    gflops = peak.flop / peak.milliseconds / 1e6
    print(f"{' '.join(settings)}: peak of one core {gflops:.0f} GFLOP/s, a product of {PEAK_SIZE} x {PEAK_SIZE}\n")
    print(table(rows, "whole update", gflops))
    if options.save:
        record = {
            "settings": settings,
            "peak_gflops": gflops,
            "rows": {name: row._asdict() for name, row in rows.items()},
        }
        with options.save.open("a") as file:
            file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
