"""Measure speed and memory, print, and write ``bench.json`` and ``bench.png``."""

import dataclasses
import functools
import os
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qmix_jax.bench.process import Process, ProcessError, set_up, worker_command
from qmix_jax.bench.settings import CURVES, Settings
from qmix_jax.bench.spread import Spread, alternate, ratio, spread
from qmix_jax.errors import ConfigError, writing
from qmix_jax.running.devices import cores
from qmix_jax.settings.command_line import compose_config
from qmix_jax.settings.config import Config
from qmix_jax.settings.reading import parse as parse_config
from qmix_jax.settings.reading import to_container

if TYPE_CHECKING:
    from qmix_jax.algorithms.base import Algorithm
    from qmix_jax.types import HyperParams

say = functools.partial(print, flush=True)  # unbuffered, so that lines appear at once in a file too
NECESSARY = ("env", "act", "learn")
"""The necessary pieces of an iteration; ``whole`` over their sum is the overhead."""


def measure(settings: Settings, arguments: Sequence[str]) -> dict[str, Any]:
    """Measure everything that ``settings`` ask for, print each result at once, and write the report."""
    config = parse_config(to_container(compose_config(arguments)))
    set_up(config.devices, num_devices=1)

    from qmix_jax.envs.build import make_env
    from qmix_jax.settings.build import build

    algorithm, hyper = build(config, make_env(config.parts["env"]))
    _check(settings, config, algorithm)
    report = _describe(settings, config, algorithm, arguments)
    report["start"] = _start(settings, arguments)
    report |= _pieces(settings, algorithm, hyper)
    report["curves"] = _curves(settings, arguments)
    if settings.baseline is not None:
        report["baseline"] = _baseline(settings, algorithm, hyper)
    if settings.peer is not None:
        report["peer"] = _peer(settings, config, arguments, algorithm)
    _write(settings, report)
    return report


def _check(settings: Settings, config: Config, algorithm: "Algorithm") -> None:
    """Find invalid settings before anything takes time."""
    if config.run_dir is not None:
        raise ConfigError(f"run_dir={config.run_dir}: has no effect here; use bench.output={config.run_dir}")
    if algorithm.env.hosted is not None:
        raise ConfigError(f"env: {algorithm.env.name} is stepped by worker processes; give one in JAX, like env=smax")
    if settings.scenarios and "scenario" not in config.parts["env"]:
        raise ConfigError(f"bench.scenarios={settings.scenarios}: {algorithm.env.name} has no setting env.scenario")
    if settings.peer is not None:
        from qmix_jax.bench.peer import peer_config, peer_file

        peer_file(settings.peer)
        peer_config(config, algorithm.sizes.length, 1, settings.env_steps)
        if settings.env_steps < 2 * config.learner.warmup_env_steps:
            raise ConfigError(
                f"bench.env_steps={settings.env_steps}: half of it would be without updates; use at least "
                f"{2 * config.learner.warmup_env_steps}, better ten times learner.warmup_env_steps"
            )


def _describe(settings: Settings, config: Config, algorithm: "Algorithm", arguments: Sequence[str]) -> dict[str, Any]:
    """Describe what is measured, and the machine."""
    import jax

    from qmix_jax.results.summary import provenance

    env, sizes = algorithm.env, algorithm.sizes
    device = jax.local_devices()[0]
    machine = f"{cores()} cores, {_processor()}" if device.platform == "cpu" else device.device_kind
    load = os.getloadavg()[0]
    title = f"{config.algorithm.name} on {env.name}"
    say(
        f"{title}: {env.num_agents} agents, {sizes.num_envs} environments, {sizes.length} slots, "
        f"{sizes.updates_per_iteration} updates of {sizes.batch_size} sequences\n"
        f"machine: {machine}; load {load:.1f} before measuring"
    )
    return {
        "title": title,
        "arguments": list(arguments),
        "bench": dataclasses.asdict(settings),
        "sizes": sizes._asdict(),
        "machine": {"device": device.device_kind, "platform": device.platform, "description": machine, "load": load},
        **provenance(),
    }


def _start(settings: Settings, arguments: Sequence[str]) -> dict[str, Any]:
    """Time tracing and compiling of a run, evaluation included: with an empty cache, and a second time."""
    with tempfile.TemporaryDirectory() as cache:
        command = worker_command(arguments, 1, settings.env_steps, evaluate=True, cache=cache)
        with Process(command) as first:
            first.run()
        with Process(command) as second:
            pass
    compiled = first.compiled
    again = second.compiled["trace_seconds"] + second.compiled["compile_seconds"]
    memory = compiled["program_bytes"]
    program = memory["argument"] + memory["output"] - memory["alias"] + memory["temp"]
    peak = first.runs[0]["peak_rss_bytes"]
    say(
        f"start: trace {compiled['trace_seconds']:.1f} s, compile {compiled['compile_seconds']:.1f} s; "
        f"a second time, from the compilation cache, {again:.1f} s\n"
        f"memory: {_mib(program)} for the compiled program on one device with its state, "
        f"{_mib(compiled['estimated_bytes'])} estimated before compiling, {_mib(peak)} peak of the process "
        f"(compiling included)\n"
        f"replay: {compiled['replay_bytes']['per_step']:.0f} bytes per environment step"
    )
    return {**compiled, "second_start_seconds": again, "program_total_bytes": program, "peak_rss_bytes": peak}


def _pieces(settings: Settings, algorithm: "Algorithm", hyper: "HyperParams") -> dict[str, Any]:
    """Time the pieces of an iteration of one seed, alternating."""
    from qmix_jax.bench.pieces import env_steps, evaluation_seconds, iterations_for, make_pieces

    sizes = algorithm.sizes
    iterations = iterations_for(algorithm, settings.env_steps)
    pieces = make_pieces(algorithm, hyper, iterations)
    evaluate = evaluation_seconds(algorithm)
    timed = {name: piece.seconds for name, piece in pieces.items()}
    alternate({**timed, "evaluate": evaluate}, 1)  # warm-up: the first run touches new memory
    before = env_steps(pieces["whole"])
    seconds = alternate(timed, settings.repetitions)
    steps = (env_steps(pieces["whole"]) - before) / (iterations * settings.repetitions)
    necessary = [sum(parts) for parts in zip(*(seconds[name] for name in NECESSARY), strict=True)]
    evaluation = spread(alternate({"evaluate": evaluate}, settings.repetitions)["evaluate"])
    overhead = ratio(seconds["whole"], necessary)
    env_rate = spread([steps / value for value in seconds["whole"]])
    update_rate = spread([sizes.updates_per_iteration / value for value in seconds["whole"]])
    say(f"one iteration of one seed, {steps:.0f} environment steps, in ms; median (minimum to maximum):")
    for name, values in seconds.items():
        say(f"  {name:8} {_milli(spread(values))}")
    say(
        f"overhead: whole / (env + act + learn) = {overhead}\n"
        f"speed: {env_rate} environment steps/s, {update_rate} updates/s, without evaluation\n"
        f"one evaluation of {sizes.evaluation_episodes} episodes: {_milli(evaluation)} ms"
    )
    return {
        "iterations": iterations,
        "iteration_seconds": {name: spread(values)._asdict() for name, values in seconds.items()},
        "overhead": overhead._asdict(),
        "env_steps_per_iteration": steps,
        "env_steps_per_second": env_rate._asdict(),
        "updates_per_second": update_rate._asdict(),
        "evaluation_seconds": evaluation._asdict(),
    }


def _curves(settings: Settings, arguments: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Total speed along the requested curves; each point is a process of its own, one after the other."""
    curves = {}
    if settings.seeds and settings.peer is None:
        say("curve over seeds:")
        curves["seeds"] = [_point(settings, arguments, seeds=int(text), value=int(text)) for text in settings.seeds]
    for name, key in CURVES.items():
        values = getattr(settings, name)
        if values:
            say(f"curve over {key}, one seed:")
            curves[name] = [_point(settings, [*arguments, f"{key}={value}"], 1, value) for value in values]
    return curves


def _point(settings: Settings, arguments: Sequence[str], seeds: int, value: Any) -> dict[str, Any]:
    from qmix_jax.bench.peer import summary

    try:
        with Process(worker_command(arguments, seeds, settings.env_steps)) as process:
            process.run()  # warm-up: the first run touches new memory
            process.runs.clear()
            alternate({"": process.env_steps_per_second}, settings.repetitions)
            found = summary(process.compiled, process.runs)
    except ProcessError as error:  # one point that does not fit in memory must not lose the others
        say(f"  {value}: {str(error).splitlines()[-1]}")
        return {"value": value, "error": str(error)}
    start = found["trace_seconds"] + found["compile_seconds"]
    say(
        f"  {value}: {Spread(**found['env_steps_per_second'])} environment steps/s, "
        f"{Spread(**found['updates_per_second'])} updates/s; {start:.1f} s to trace and compile, "
        f"{_mib(found['peak_rss_bytes'])} peak"
    )
    return {"value": value, **found}


def _baseline(settings: Settings, algorithm: "Algorithm", hyper: "HyperParams") -> dict[str, Any]:
    from qmix_jax.bench.baselines import compare
    from qmix_jax.bench.pieces import iterations_for

    name = str(settings.baseline)
    iterations = iterations_for(algorithm, settings.env_steps)
    parts = compare(name, algorithm, hyper, iterations, settings.repetitions)
    say(f"baseline {name}, in ms for the updates of one iteration, alternating:")
    for what, part in parts.items():
        say(
            f"  {what}: ours {_milli(Spread(**part['fast']))}, plain {_milli(Spread(**part['plain']))}; "
            f"{Spread(**part['speedup'])} times as fast"
        )
    return {"name": name, "parts": parts}


def _peer(settings: Settings, config: Config, arguments: Sequence[str], algorithm: "Algorithm") -> list[dict[str, Any]]:
    from qmix_jax.bench.peer import compare

    found = []
    for text in settings.seeds or ["1"]:
        compared = compare(
            config,
            arguments,
            algorithm.sizes.length,
            checkout=str(settings.peer),
            python=settings.peer_python,
            seeds=int(text),
            env_steps=settings.env_steps,
            repetitions=settings.repetitions,
            say=say,
        )
        found.append(compared)
        for name in ("ours", "peer"):
            one = compared[name]
            say(
                f"  {name}: {Spread(**one['env_steps_per_second'])} environment steps/s "
                f"({one['env_steps']} steps, {one['updates']} updates per run); trace {one['trace_seconds']:.1f} s, "
                f"compile {one['compile_seconds']:.1f} s; {one['replay_bytes']['per_step']:.0f} replay bytes per step; "
                f"{_mib(one['peak_rss_bytes'])} peak"
            )
        ratios = compared["ratios"]
        say(
            f"  ours / peer: {Spread(**ratios['env_steps_per_second'])} environment steps/s, "
            f"{ratios['trace_and_compile_seconds']:.2f} trace and compile, "
            f"{ratios['replay_bytes_per_step']:.2f} replay bytes, {ratios['peak_rss_bytes']:.2f} peak memory"
        )
    return found


def _write(settings: Settings, report: dict[str, Any]) -> None:
    from qmix_jax.bench.figure import draw
    from qmix_jax.logging import write_json

    folder = Path(settings.output)
    with writing("bench.output", folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "bench.json", report)
        draw(report, folder / "bench.png")
    say(f"results in {folder}")


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _milli(seconds: Spread) -> Spread:
    return Spread(*(value * 1e3 for value in seconds))


def _mib(count: float) -> str:
    return f"{count / 2**20:.0f} MiB"
