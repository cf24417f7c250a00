"""Predator-prey with a penalty for catching alone: which methods learn to catch together?

``python experiments/predator_prey.py list`` shows the cases and what is there of them;
``python experiments/predator_prey.py run SEED [CASE ...]`` trains the missing ones into ``runs/predator_prey``, one
after another (an interrupted run is resumed); ``python experiments/predator_prey.py report`` prints a table of what
there is and writes ``experiments/results/predator_prey/{results.json,curves.png}``.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from script import call, checked, finished_seeds, start, train, whole

from qmix_jax.logging.files import write_json
from qmix_jax.results.curves import read_metrics

RUNS = Path("runs/predator_prey")
OUT = Path(__file__).parent / "results" / "predator_prey"
STEPS, INTERVAL = 200_000, 20_000
BEST = 40.0
SETTINGS = [
    "env=predator_prey",
    f"total_env_steps={STEPS}",
    "rollout.num_envs=32",
    "rollout.length=51",  # the first 50 transitions of each episode; evaluation plays all 200
    "replay.batch_size=16",
    f"evaluation.interval_env_steps={INTERVAL}",
    "evaluation.episodes=64",
    "logger.wandb.mode=disabled",
]
WEIGHTED = ["algorithm.alpha=0.1"]  # as in the paper on this game
METHODS: dict[str, list[str]] = {
    "cw_qmix": WEIGHTED,
    "ow_qmix": WEIGHTED,
    "qtran": [],
    "qplex": [],
    "qmix": [],
    "qatten": [],
    "vdn": [],
    "iql": [],
}
PENALTIES = ("-2", "-1.5", "-1", "-0.5", "-0")
CASES = {f"{method}{penalty}": (method, penalty) for penalty in PENALTIES for method in METHODS}
"""By name: ``cw_qmix-2`` is CW-QMIX with a penalty of -2, ``qmix-0`` QMIX without one."""


def main(command: str = "list", *arguments: str) -> None:
    """``list``, ``run`` or ``report``."""
    call({"list": show, "run": run, "report": report}, command, arguments)


def show() -> None:
    """The cases, and the seeds that are finished."""
    for name in CASES:
        print(name, *finished(name))


def finished(name: str) -> list[int]:
    """Seeds of a case whose run is complete."""
    return finished_seeds(RUNS, name)


def run(seed: str, *names: str) -> None:
    """Train what is missing of one seed."""
    number = whole("seed", seed)
    for name in checked("case", names, CASES) or CASES:
        method, penalty = CASES[name]
        if number not in finished(name):
            own = [
                f"env.penalty={float(penalty) + 0.0:g}",
                f"seed={number}",
                f"run_dir={RUNS / f'{name}_seed{number}'}",
            ]
            train(*SETTINGS, f"algorithm={method}", *METHODS[method], *own, "resume=true")


def report() -> None:
    """Print the table; save numbers and figure. What was recorded before stays, but for seeds that are there again."""
    path = OUT / "results.json"
    before = json.loads(path.read_text(encoding="utf-8"))["cases"] if path.is_file() else {}
    found = {name: merged(before.get(name), scores(name)) for name in CASES if name in before or finished(name)}
    print("| method, penalty | seeds | final return | final share of episodes with four caught | best return |")
    print("|---|---|---|---|---|")
    for name, score in found.items():
        cells = [", ".join(f"{x:.{places}f}" for x in score[key]) for key, places in KEYS.items()]
        method, penalty = CASES[name]
        print(f"| {method}, {float(penalty) + 0.0:g} | {len(score['seeds'])} | {' | '.join(cells)} |")
    OUT.mkdir(parents=True, exist_ok=True)
    write_json(path, {"settings": SETTINGS, "methods": METHODS, "cases": found})
    draw(found)


KEYS = {"final_return": 1, "final_win_rate": 2, "best_return": 1}


def scores(name: str) -> dict[str, Any]:
    """Greedy returns and win rates of all finished seeds of a case, by evaluation."""
    seeds = finished(name)
    rows = [list(read_metrics(RUNS / f"{name}_seed{seed}")) for seed in seeds]
    returns = [[row["eval_return"] for row in of_seed] for of_seed in rows]
    return {
        "seeds": seeds,
        "env_steps": [[row["env_steps"] for row in of_seed] for of_seed in rows],
        "updates": [of_seed[-1]["updates"] for of_seed in rows],
        "returns": returns,
        "final_return": [each[-1] for each in returns],
        "final_win_rate": [of_seed[-1]["eval_win_rate"] for of_seed in rows],
        "best_return": [max(each) for each in returns],
    }


def merged(before: dict[str, Any] | None, now: dict[str, Any]) -> dict[str, Any]:
    """All seeds of a case, in order: those of ``now``, and those recorded before that are not among them."""
    kept = before or {key: [] for key in now}
    places = [place for place, seed in enumerate(kept["seeds"]) if seed not in now["seeds"]]
    both = {key: [*(kept[key][place] for place in places), *now[key]] for key in now}
    order = np.argsort(both["seeds"], kind="stable")
    return {key: [values[place] for place in order] for key, values in both.items()}


def draw(found: dict[str, Any]) -> None:
    """Greedy returns over environment steps, a panel for each penalty; below ``LOWEST`` the curves are cut."""
    penalties = sorted({CASES[name][1] for name in found}, key=float)
    figure = Figure(figsize=(3.2 * len(penalties) + 1.2, 3.8), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(1, len(penalties), squeeze=False, sharey=True)
    for axes, penalty in zip(grid[0], penalties, strict=True):
        for name in (name for name in found if CASES[name][1] == penalty):
            method = CASES[name][0]
            colour = f"C{list(METHODS).index(method)}"
            for number, (steps, returns) in enumerate(
                zip(found[name]["env_steps"], found[name]["returns"], strict=True)
            ):
                shown = np.maximum(returns, LOWEST)
                axes.plot(np.divide(steps, 1000), shown, color=colour, linewidth=1.6, label=None if number else method)
        axes.axhline(BEST, color="#999999", linewidth=0.8)
        axes.set(
            xlabel="thousand environment steps",
            ylabel="" if axes is not grid[0, 0] else "greedy return",
            title=f"penalty {float(penalty) + 0.0:g}",
            ylim=(LOWEST, BEST + 2),
        )
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(OUT / "curves.png")


LOWEST = -40.0


if __name__ == "__main__":
    start(__doc__, main)
