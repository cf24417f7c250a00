"""QMIX with our SMAX and with JaxMARL's: seconds to trace and compile, and steps and updates per second.

Both sides have the same settings, but for ``env=smax`` and ``env=smax_jaxmarl``. What is compiled are a run's start and
its epoch, evaluation included. Epochs of the two alternate; the evaluation in them plays one episode. Seconds are
processor seconds of one core: what else runs on the machine counts less.

Usage: JAX_PLATFORMS=cpu taskset -c 0 python experiments/smax/training.py [--env-steps 2048] [--repeats 3]
       [--scenarios 3m 3s5z] [replay.capacity=200 ...]
"""

import argparse
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from qmix_jax.envs.build import make_env
from qmix_jax.envs.smax.scenarios import find_scenario
from qmix_jax.running.waves import Waves
from qmix_jax.settings.arguments import run_command
from qmix_jax.settings.build import build
from qmix_jax.settings.command_line import compose_config
from qmix_jax.settings.reading import parse, to_container

SCENARIOS = ("3m", "3s5z", "5m_vs_6m", "27m_vs_30m")
SIDES = {"ours": "smax", "jaxmarl": "smax_jaxmarl"}
SETTINGS = ("replay.capacity=200", "evaluation.episodes=1", "num_seeds=1", "learner.warmup_env_steps=0")


class Epoch(NamedTuple):
    """What was measured of one."""

    seconds: float
    env_steps: int
    updates: int


class Side:
    """A run whose epochs are timed."""

    def __init__(self, arguments: Sequence[str], env_steps: int) -> None:
        config = parse(to_container(compose_config(arguments)))
        algorithm, hyper = build(config, make_env(config.parts["env"]))
        sizes = algorithm.sizes
        iterations = -(-env_steps // (sizes.num_envs * (sizes.length - 1)))
        sizes = sizes._replace(iterations_per_epoch=iterations, warmup_iterations=0)
        self.waves: Any = Waves(algorithm._replace(sizes=sizes), hyper, [0])
        begin = time.process_time()
        self.waves.compile()
        self.compiling = time.process_time() - begin
        self.before = 0, 0

    def epoch(self) -> Epoch:
        """Train for one epoch."""
        begin = time.process_time()
        rows = self.waves.epoch()
        seconds = time.process_time() - begin
        after = int(np.max(rows["env_steps"])), int(np.max(rows["updates"]))
        env_steps, updates = (new - old for new, old in zip(after, self.before, strict=True))
        self.before = after
        return Epoch(seconds, env_steps, updates)


def measure(scenario: str, settings: Sequence[str], env_steps: int, repeats: int) -> str:
    """One scenario's line of the table."""
    sides = {
        name: Side([f"env={env}", f"env.scenario={scenario}", *SETTINGS, *settings], env_steps)
        for name, env in SIDES.items()
    }
    for side in sides.values():
        side.epoch()
    rounds = [{name: side.epoch() for name, side in sides.items()} for _ in range(repeats)]
    epochs = {name: [found[name] for found in rounds] for name in sides}
    rates = {name: [epoch.env_steps / epoch.seconds for epoch in found] for name, found in epochs.items()}
    updates = {name: max(epoch.updates / epoch.seconds for epoch in found) for name, found in epochs.items()}
    ratios = [ours / theirs for ours, theirs in zip(rates["ours"], rates["jaxmarl"], strict=True)]
    compiling = {name: side.compiling for name, side in sides.items()}
    cells = [
        scenario,
        f"{max(rates['ours']):.0f}",
        f"{max(rates['jaxmarl']):.0f}",
        f"{min(ratios):.2f} to {max(ratios):.2f}",
        f"{updates['ours']:.1f}, {updates['jaxmarl']:.1f}",
        f"{compiling['ours']:.1f}",
        f"{compiling['jaxmarl']:.1f}",
        f"{compiling['ours'] / compiling['jaxmarl']:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", nargs="*", default=SCENARIOS)
    parser.add_argument("--env-steps", type=int, default=2048, help="of an epoch")
    parser.add_argument("--repeats", type=int, default=3)
    options, settings = parser.parse_known_args()
    run_command(__doc__ or "", settings, lambda settings: print_table(options, settings))


def print_table(options: argparse.Namespace, settings: list[str]) -> None:
    """All scenarios, line by line."""
    for scenario in options.scenarios:
        find_scenario(scenario)
        parse(to_container(compose_config(["env=smax", f"env.scenario={scenario}", *SETTINGS, *settings])))
    print(
        "| scenario | steps/s, ours | JaxMARL's | ratios | updates/s | compile s, ours | JaxMARL's | ratio |",
        flush=True,
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for scenario in options.scenarios:
        print(measure(scenario, settings, options.env_steps, options.repeats), flush=True)


if __name__ == "__main__":
    main()
