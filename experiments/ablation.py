"""SMAX 3m and 2s3z, QMIX: one choice changed at a time, five seeds, equal environment steps.

``python experiments/ablation.py run SCENARIO [VARIANT ...]`` trains into ``runs/ablation`` and skips finished variants;
``python experiments/ablation.py report`` prints a table with 95% intervals (Student's t over seeds)
and writes ``experiments/results/ablation/{results.json,ablation.png}``.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from script import call, checked, is_finished, start, train

from qmix_jax.logging.files import write_json
from qmix_jax.results.confidence import mean_interval
from qmix_jax.results.curves import read_metrics

RUNS = Path("runs/ablation")
OUT = Path(__file__).parent / "results" / "ablation"
STEPS = {"3m": 200_000, "2s3z": 240_000}
SETTINGS = (  # of the time before layer norm and whole episodes
    "optimizer.learning_rate=2e-3",
    "optimizer.learning_rate_end=0",
    "rollout.num_envs=32",
    "rollout.length=64",
    "replay.capacity=2000",
    "replay.obs_dtype=float16",
    "learner.updates_per_iteration=4",
    "target.update_interval=100",
    "agent=gru",
    "agent.norm=none",
    "exploration.preference_share=0",
)
BASE = "TD(0.6), uniform, 1 layer"
VARIANTS = {
    "base": (BASE, ["mixer.hypernet_layers=1"]),
    "one_step": ("one-step targets", ["target=one_step", "mixer.hypernet_layers=1"]),
    "q_lambda": ("Q(0.6) targets", ["target=q_lambda", "mixer.hypernet_layers=1"]),
    "per": ("prioritised replay", ["replay=prioritised", "replay.capacity=2000", "mixer.hypernet_layers=1"]),
    "layers2": ("hypernetworks of 2 layers", ["mixer.hypernet_layers=2"]),
    "cross": ("cross-channel, fixed", ["mixer=cross_channel"]),
    "cross_learned": ("cross-channel, learned", ["mixer=cross_channel", "mixer.learned=true"]),
}
LAST = 3
"""The score is the mean of this many final evaluations: a single one of 128 episodes is noisy."""


def main(command: str = "", *arguments: str) -> None:
    """``run`` or ``report``."""
    call({"run": run, "report": report}, command, arguments)


def run(scenario: str, *names: str) -> None:
    """Train the variants that are not finished."""
    checked("scenario", [scenario], STEPS)
    steps = STEPS[scenario]
    for name in checked("variant", names, VARIANTS) or VARIANTS:
        run_dir = RUNS / f"{scenario}_{name}"
        if is_finished(run_dir):
            continue
        settings = ["env=smax", f"env.scenario={scenario}", *SETTINGS]
        settings += [f"total_env_steps={steps}", f"exploration.epsilon_steps={steps * 3 // 10}", "num_seeds=5"]
        settings += [f"evaluation.interval_env_steps={steps // 8}", "logger.wandb.mode=disabled"]
        train(*settings, f"run_dir={run_dir}", "resume=true", *VARIANTS[name][1])


def report() -> None:
    """Print the table, and save figure and numbers."""
    found: dict[str, Any] = {}
    figure = Figure(figsize=(11, 4 * len(STEPS)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(STEPS), 2, squeeze=False)
    for (curves, dots), scenario in zip(grid, STEPS, strict=True):
        names = [name for name in VARIANTS if is_finished(RUNS / f"{scenario}_{name}")]
        found[scenario] = {name: scores(RUNS / f"{scenario}_{name}") for name in names}
        print(f"\n| {scenario} | each seed | mean | 95% interval |\n|---|---|---|---|")
        for name in names:
            each, mean, low, high = (found[scenario][name][key] for key in ("each", "mean", "low", "high"))
            shown = ", ".join(f"{x:.2f}" for x in each)
            print(f"| {VARIANTS[name][0]} | {shown} | {mean:.3f} | {low:.3f} to {high:.3f} |")
        draw(curves, dots, scenario, found[scenario])
    OUT.mkdir(parents=True, exist_ok=True)
    write_json(OUT / "results.json", found)
    figure.savefig(OUT / "ablation.png")


def scores(run_dir: Path) -> dict[str, Any]:
    """Greedy win rates: each seed's mean over the last evaluations with their interval, and the mean curve."""
    rows = read_metrics(run_dir)
    seeds = sorted({row["seed"] for row in rows})
    wins = np.array([[row["eval_win_rate"] for row in rows if row["seed"] == seed] for seed in seeds])
    steps = np.array([[row["env_steps"] for row in rows if row["seed"] == seed] for seed in seeds])
    each = wins[:, -LAST:].mean(axis=1)
    mean, low, high = mean_interval(each)
    return {
        "each": each,
        "mean": mean,
        "low": max(low, 0.0),
        "high": min(high, 1.0),
        "steps": steps.mean(axis=0),
        "curve": wins.mean(axis=0),
    }


def draw(curves: Axes, dots: Axes, scenario: str, found: dict[str, Any]) -> None:
    """Mean curves on the left, scores with intervals on the right, in the same colours."""
    for place, (name, score) in enumerate(found.items()):
        colour = f"C{place}"
        curves.plot(score["steps"], score["curve"], color=colour, linewidth=2.5 if name == "base" else 1.2)
        dots.plot([score["low"], score["high"]], [place, place], color=colour, linewidth=2)
        dots.plot(score["each"], [place] * len(score["each"]), "o", color=colour, alpha=0.35, markersize=5)
        dots.plot(score["mean"], place, "D", color=colour, markersize=8)
    dots.set_yticks(range(len(found)), [VARIANTS[name][0] for name in found])
    dots.invert_yaxis()
    dots.set_xlabel(f"greedy win rate, mean of the last {LAST} evaluations")
    curves.set(xlabel="environment steps per seed", ylabel="greedy win rate", title=f"SMAX {scenario}: mean of 5 seeds")
    dots.set_title(f"SMAX {scenario}: seeds, mean and 95% interval")
    curves.locator_params(axis="x", nbins=5)
    for axes in (curves, dots):
        axes.grid(alpha=0.3)


if __name__ == "__main__":
    start(__doc__, main)
