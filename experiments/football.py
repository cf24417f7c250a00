"""Google Research Football: learning curves and speed (docs/football.md says how to install it).

``python experiments/football.py run SEED [METHOD ...]`` trains QMIX and VDN on academy_3_vs_1_with_keeper, one after
the other, into ``runs/football``; a run that was interrupted goes on. ``report`` prints a table of what there is so far
and writes ``experiments/results/football/{results.json,curves.png}``. ``speed [WORKERS ...]`` prints environment steps
per second of 8 environments in 2, 4 and 8 worker processes, with the policy that acts in them and without learning,
each beside a bare loop over one environment.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from hosted import bare_loop, cpu_seconds
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from script import call, checked, start, train, whole

from qmix_jax.acting.hosted_rollout import HostedActor
from qmix_jax.library import make_algorithm
from qmix_jax.logging.files import write_json
from qmix_jax.networks.agents import init_agent
from qmix_jax.results.curves import read_metrics

RUNS = Path("runs/football")
OUT = Path(__file__).parent / "results" / "football"
METHODS = ("qmix", "vdn")
ENV = ["env=football", "env.scenario=academy_3_vs_1_with_keeper", "env.agents=3", "env.rewards=checkpoints"]
SETTINGS = [
    *ENV,
    "rollout.num_envs=8",
    "rollout.overlap=true",
    "learner.updates_per_iteration=16",
    "target.td_lambda=0.8",
    "target.update_interval=50",
    "optimizer.learning_rate=5e-4",
    "optimizer.learning_rate_end=null",
    "exploration.epsilon_steps=50000",
    "total_env_steps=600000",
    "evaluation.interval_env_steps=12000",
    "evaluation.episodes=32",
    "logger.wandb.mode=disabled",
    "checkpoint.every_minutes=3",
]
WORKERS = (2, 4, 8)


def main(command: str = "report", *arguments: str) -> None:
    """``run``, ``report`` or ``speed``."""
    call({"run": run, "report": report, "speed": speed}, command, arguments)


def run(seed: str, *methods: str) -> None:
    """Train, or go on training."""
    number = whole("seed", seed)
    for method in checked("method", methods, METHODS) or METHODS:
        own = [f"algorithm={method}", f"seed={number}", f"run_dir={RUNS / f'{method}_seed{number}'}", "resume=true"]
        train(*SETTINGS, *own)


def report() -> None:
    """Print the table; save numbers and figure. Runs that are not at their end count as far as they are.

    What was recorded before stays, but for runs that are there again.
    """
    path = OUT / "results.json"
    before = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.is_file() else {}
    now = {folder.parent.name: curve(folder.parent) for folder in RUNS.glob("*/metrics.jsonl")}
    found = dict(sorted((before | now).items()))
    print(
        "| run | steps | episodes | training score rate, last epoch | greedy score rate, last | best | greedy return |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, each in found.items():
        rates, returns = each["eval_win_rate"], each["eval_return"]
        print(
            f"| {name.replace('_', ', ')} | {each['env_steps'][-1]:,} | {each['episodes'][-1]:,} | "
            f"{each['train_win_rate'][-1]:.3f} | {rates[-1]:.3f} | {max(rates):.3f} | {returns[-1]:.2f} |"
        )
    OUT.mkdir(parents=True, exist_ok=True)
    write_json(path, {"settings": SETTINGS, "runs": found})
    draw(found)


def curve(folder: Path) -> dict[str, list[Any]]:
    """What is drawn of a run, by evaluation."""
    rows = list(read_metrics(folder))
    names = ("env_steps", "episodes", "train_win_rate", "train_return", "eval_win_rate", "eval_return")
    return {name: [row[name] for row in rows] for name in names}


def draw(found: dict[str, dict[str, list[Any]]]) -> None:
    """Score rates and returns over environment steps; training episodes dashed."""
    figure = Figure(figsize=(10, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = {"win_rate": "episodes with a goal", "return": "return (checkpoints and goals)"}
    for axes, (metric, words) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        for number, (name, each) in enumerate(found.items()):
            steps = [step / 1000 for step in each["env_steps"]]
            for kind, style in (("eval", "-"), ("train", "--")):
                label = f"{name.replace('_', ', ')}, {'greedy' if kind == 'eval' else 'exploring'}"
                axes.plot(steps, each[f"{kind}_{metric}"], style, color=f"C{number}", label=label)
        axes.set(xlabel="thousand environment steps", ylabel=words)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(OUT / "curves.png")


def speed(*workers: str) -> None:
    """Print environment steps per second and per second of one core, and of a bare loop over one environment."""
    counts = [whole("workers", number, least=1) for number in workers] or WORKERS
    print(
        "| workers | environment steps/s | per CPU second | bare loop: steps/s | per CPU second |",
        "|---|---|---|---|---|",
        sep="\n",
    )
    for count in counts:
        algorithm, _ = make_algorithm([*ENV, f"env.workers={count}", "rollout.num_envs=8"])
        actor = HostedActor(algorithm.env, algorithm.agent, 8)
        params = init_agent(algorithm.agent, algorithm.env.obs_size, jax.random.key(0))
        play(actor, params, 10)
        bare, pooled = bare_loop(algorithm.env, 400), play(actor, params, 100)
        algorithm.env.hosted.close()
        print(f"| {count} | {pooled[0]:.0f} | {pooled[1]:.0f} | {bare[0]:.0f} | {bare[1]:.0f} |", flush=True)


def play(actor: HostedActor, params: Any, ticks: int) -> tuple[float, float]:
    """Environment steps per second of exploring sequences, and per CPU second of all processes."""
    start, used = time.monotonic(), cpu_seconds(os.getpid())
    _, stats = actor.collect(params, jnp.ones(()), 0, ticks + 1, True)
    steps = float(stats.env_steps)
    return steps / (time.monotonic() - start), steps / (cpu_seconds(os.getpid()) - used)


if __name__ == "__main__":
    start(__doc__, main)
