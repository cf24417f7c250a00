"""How speed, compiling and memory grow with seeds and with agents.

Usage: python experiments/speed/scaling.py [--seeds 1,2,4,8,16,32,64] [--scenarios 3m,10m_vs_11m,27m_vs_30m]
       [--env-steps 20000] [--save FILE] [replay.capacity=500 ...]

Every scenario with one seed, and the first one with each number of seeds, in a process of its own that compiles with an
empty cache and learns in every iteration. The other arguments are those of ``python -m qmix_jax.train``. Prints one
line of a table as soon as it is measured: environment steps and updates per second over all seeds, seconds to trace
and to compile, XLA's bytes of the program on one device with its state, and the peak of the process.
"""

import argparse
import json
from pathlib import Path

from qmix_jax.bench.process import Process, ProcessError, worker_command
from qmix_jax.envs.smax.scenarios import find_scenario
from qmix_jax.errors import require
from qmix_jax.settings.arguments import run_command
from qmix_jax.settings.command_line import compose_config
from qmix_jax.settings.reading import parse, to_container

HEADER = (
    "| scenario | seeds | steps/s | updates/s | trace s | compile s | program MiB | peak MiB |\n"
    "|---|---|---|---|---|---|---|---|"
)


def measure(arguments: list[str], seeds: int, env_steps: int) -> dict[str, float]:
    """One point: compile, run once to warm up, run once for the clock."""
    with Process(worker_command(arguments, seeds, env_steps)) as process:
        process.run()
        run, compiled = process.run(), process.compiled
    program = compiled["program_bytes"]
    return {
        "steps": run["env_steps"] / run["seconds"],
        "updates": run["updates"] / run["seconds"],
        "trace": compiled["trace_seconds"],
        "compile": compiled["compile_seconds"],
        "program": (program["argument"] + program["output"] - program["alias"] + program["temp"]) / 2**20,
        "peak": run["peak_rss_bytes"] / 2**20,
    }


def line(scenario: str, seeds: int, found: dict[str, float]) -> str:
    return (
        f"| {scenario} | {seeds} | {found['steps']:.0f} | {found['updates']:.1f} | {found['trace']:.1f} | "
        f"{found['compile']:.1f} | {found['program']:.0f} | {found['peak']:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1,2,4,8,16,32,64")
    parser.add_argument("--scenarios", default="3m,10m_vs_11m,27m_vs_30m")
    parser.add_argument("--env-steps", type=int, default=20_000, help="of each seed, in one measurement")
    parser.add_argument("--save", type=Path, help="append what was measured to this file, a line of JSON per point")
    options, settings = parser.parse_known_args()
    run_command(__doc__ or "", settings, lambda settings: measure_all(options, settings))


def measure_all(options: argparse.Namespace, settings: list[str]) -> None:
    """Check all points, then measure them."""
    texts, scenarios = options.seeds.split(","), options.scenarios.split(",")
    for text in texts:
        require(text.isdecimal() and int(text) > 0, "--seeds", options.seeds, "whole numbers, like 1,2,4")
    for scenario in scenarios:
        find_scenario(scenario)
        parse(to_container(compose_config(["env=smax", f"env.scenario={scenario}", *settings])))
    seeds = [int(text) for text in texts]
    points = [(scenarios[0], count) for count in seeds] + [(scenario, 1) for scenario in scenarios[1:]]
    print(HEADER, flush=True)
    for scenario, count in points:
        try:
            found = measure(["env=smax", f"env.scenario={scenario}", *settings], count, options.env_steps)
        except ProcessError as error:
            print(f"| {scenario} | {count} | {str(error).splitlines()[-1]} | | | | | |", flush=True)
            continue
        print(line(scenario, count, found), flush=True)
        if options.save:
            with options.save.open("a") as file:
                file.write(json.dumps({"scenario": scenario, "seeds": count, **found}) + "\n")


if __name__ == "__main__":
    main()
