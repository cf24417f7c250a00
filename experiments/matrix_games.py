"""Final payoffs of each algorithm in the climbing and penalty games: ``python experiments/matrix_games.py``.

Random actions (epsilon 1), 20 seeds, 5000 episodes, the settings of ``experiment=two_step_game``. Prints a
Markdown table of the greedy payoffs and writes ``experiments/results/matrix_games/results.json``.
"""

import collections
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from qmix_jax import Waves, make_algorithm
from qmix_jax.logging.files import write_json

OUT = Path(__file__).parent / "results" / "matrix_games"
SEEDS, EPISODES = 20, 5000
GAMES = {"climbing": ["env=climbing"], "penalty k=-100": ["env=penalty"], "penalty k=0": ["env=penalty", "env.k=0"]}
ALGORITHMS = ("iql", "vdn", "qmix")


def main() -> None:
    """Train, print, save."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    results: dict[str, Any] = {}
    print("| game | " + " | ".join(name.upper() for name in ALGORITHMS) + " |")
    print("|---|" + "---|" * len(ALGORITHMS))
    for game, arguments in GAMES.items():
        results[game] = {name: payoffs(name, arguments) for name in ALGORITHMS}
        print(f"| {game} | " + " | ".join(counted(results[game][name]) for name in ALGORITHMS) + " |", flush=True)
    OUT.mkdir(parents=True, exist_ok=True)
    write_json(OUT / "results.json", results)


def payoffs(name: str, arguments: list[str]) -> np.ndarray:
    """Final greedy payoff of every seed."""
    settings = ["experiment=two_step_game", f"algorithm={name}", f"total_env_steps={EPISODES}", *arguments]
    algorithm, hyper = make_algorithm(settings)
    waves = Waves(algorithm, hyper, list(range(SEEDS)))
    waves.compile()
    metrics = waves.epoch()
    while metrics["env_steps"].min() < EPISODES:
        metrics = waves.epoch()
    return metrics["eval_return"]


def counted(returns: np.ndarray) -> str:
    """``11 (3), 7 (17)``: payoffs, each with its number of seeds."""
    counts = collections.Counter(np.round(returns, 1).tolist())
    return ", ".join(f"{value:g} ({count})" for value, count in sorted(counts.items(), reverse=True))


if __name__ == "__main__":
    main()
