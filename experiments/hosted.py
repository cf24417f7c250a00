"""Learning and speed in Python environments: foraging and spread beside their JAX versions, and the robot warehouse.

``python experiments/hosted.py list`` shows the cases and the seeds that are finished; ``run SEED [CASE ...]`` trains
the missing ones into ``runs/hosted``, one after another (an interrupted run is resumed; ``steps=200000`` is shorter);
``report`` prints a table of what there is and writes ``experiments/results/hosted/{results.json,curves.png}``.
``speed [CASE ...]`` trains for a short while with 1 to 8 worker processes and prints environment steps per second,
learning and evaluation included, beside a bare loop over one environment, and EPyMARL.
"""

import contextlib
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from script import call, checked, finished_seeds, start, train, whole

from qmix_jax.library import make_algorithm
from qmix_jax.logging.files import write_json
from qmix_jax.results.curves import read_metrics

RUNS = Path("runs/hosted")
OUT = Path(__file__).parent / "results" / "hosted"
STEPS, INTERVAL = 2_000_000, 25_000
SPREAD = ["gamma=0.9", "target=one_step", "target.update_interval=25"]
"""What env=mpe sets, for both kinds of spread; QMIX's mixer is :data:`SPREAD_MIXER`."""
SPREAD_MIXER = "mixer=qmix_full_scale"
JUMANJI = ["env=jumanji", "env.id=LevelBasedForaging-v0", "env.episode_limit=50"]
TASKS: dict[str, list[str]] = {
    "lbf-8x8-2p-3f": ["env=lbf", "env.id=Foraging-8x8-2p-3f-v3"],
    "lbf-10x10-3p-3f": ["env=lbf", "env.id=Foraging-10x10-3p-3f-v3"],
    "lbf-8x8-2p-2f-coop": ["env=lbf", "env.id=Foraging-8x8-2p-2f-coop-v3"],
    "rware-tiny-2ag": ["env=rware", "env.id=rware-tiny-2ag-v2"],
    "jumanji-8x8-2p-3f": [*JUMANJI, "+env.num_food=3", "+env.force_coop=false"],
    "jumanji-10x10-3p-3f": [
        *JUMANJI,
        "+env.grid_size=10",
        "+env.num_agents=3",
        "+env.num_food=3",
        "+env.force_coop=false",
    ],
    "jumanji-8x8-2p-2f-coop": JUMANJI,
    "spread-mpe2": ["env=pettingzoo", "env.name=mpe2.simple_spread_v3", "+env.N=3", *SPREAD],
    "spread-jax": ["env=mpe", "env.task=simple_spread", "env.max_steps=24", *SPREAD],
}
"""JAX's spread counts one transition more than ``max_steps``; mpe2's episodes have 25."""
IN_JAX = {
    "jumanji-8x8-2p-3f": "lbf-8x8-2p-3f",
    "jumanji-10x10-3p-3f": "lbf-10x10-3p-3f",
    "jumanji-8x8-2p-2f-coop": "lbf-8x8-2p-2f-coop",
    "spread-jax": "spread-mpe2",
}
"""Tasks without workers, and those whose panel they are drawn in."""
METHODS = ("qmix", "vdn", "iql")
CASES = {f"{task}-{method}": (task, method) for task in TASKS for method in METHODS}
SETTINGS = [
    "rollout.num_envs=8",
    f"evaluation.interval_env_steps={INTERVAL}",
    "evaluation.episodes=64",
    "logger.wandb.mode=disabled",
    "checkpoint.keep=1",
]
HOSTED = ["rollout.overlap=true"]
PUBLISHED = {
    "spread-mpe2-iql": "-132.6 x 3",
    "spread-mpe2-vdn": "-131.0 x 3",
    "spread-mpe2-qmix": "-126.6 x 3",
}
"""EPyMARL's returns (Papoudakis et al. 2021); in spread it divides by the number of agents, and its episodes have 25
steps of the older simple_spread_v0. Its tables of foraging and the warehouse are not at hand."""

SPEED_STEPS = 24_000
SPEED_SIZES = ((1, 1), (4, 4), (8, 8), (8, 2))
"""Environments and worker processes; the last is the default on two cores."""
SPEED_TASKS = ("lbf-8x8-2p-3f", "spread-mpe2")
EPYMARL_SPEED = {"lbf-8x8-2p-3f": 3120, "spread-mpe2": 2245}
"""Environment steps per second of EPyMARL's QMIX (its parallel runner, 8 environments in as many processes, a GRU of
64, an evaluation of 8 episodes every 4000 steps): the mean of four runs of 24,000 steps, two idle cores (AMD EPYC)."""
SPEED_SETTINGS = [
    "algorithm=qmix",
    "rollout.auto_reset=false",
    "learner.updates_per_iteration=1",  # one for a batch of episodes, as EPyMARL's parallel runner
    "learner.warmup_env_steps=0",
    f"total_env_steps={SPEED_STEPS}",
    "evaluation.interval_env_steps=4000",
    "evaluation.episodes=8",
    "logger.wandb.mode=disabled",
    "logger.plot=false",
    "logger.progress=false",
    "checkpoint.every_minutes=null",
    "devices.count=1",
]


def main(command: str = "list", *arguments: str) -> None:
    """``list``, ``run``, ``report`` or ``speed``."""
    call({"list": show, "run": run, "report": report, "speed": speed}, command, arguments)


def show() -> None:
    """The cases, and the seeds that are finished."""
    for name in CASES:
        print(name, *finished(name))


def finished(name: str, steps: int = 0) -> list[int]:
    """Seeds of a case whose run is complete, and at least that long."""
    return finished_seeds(RUNS, name, steps)


def settings(name: str, steps: int = STEPS) -> list[str]:
    """What a case learns with, as arguments of ``python -m qmix_jax.train``."""
    task, method = CASES[name]
    hosted = [] if task in IN_JAX else HOSTED
    mixer = [SPREAD_MIXER] if task.startswith("spread") and method == "qmix" else []
    return [*TASKS[task], *SETTINGS, *hosted, *mixer, f"algorithm={method}", f"total_env_steps={steps}"]


def run(seed: str, *arguments: str) -> None:
    """Train what is missing of one seed."""
    names = [argument for argument in arguments if "=" not in argument]
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    checked("argument", list(given), ("steps",))
    number, steps = whole("seed", seed), whole("steps", given.get("steps", str(STEPS)), least=1)
    for name in checked("case", names, CASES) or CASES:
        if number not in finished(name, steps):
            own = [f"seed={number}", f"run_dir={RUNS / f'{name}_seed{number}'}", "resume=true"]
            train(*settings(name, steps), *own)


def report() -> None:
    """Print the table; save numbers and figure. A case without runs here keeps what was recorded of it."""
    record = OUT / "results.json"
    recorded = json.loads(record.read_text(encoding="utf-8"))["cases"] if record.exists() else {}
    here = {name: scores(name) for name in CASES if finished(name)}
    found = {name: here.get(name) or recorded[name] for name in CASES if name in here or name in recorded}
    print("| case | seeds | steps | final greedy return | best | EPyMARL's paper |")
    print("|---|---|---|---|---|---|")
    for name, score in found.items():
        final, best = (", ".join(f"{x:.2f}" for x in score[key]) for key in ("final_return", "best_return"))
        steps = max(each[-1] for each in score["env_steps"])
        print(f"| {name} | {len(score['seeds'])} | {steps:,} | {final} | {best} | {PUBLISHED.get(name, '')} |")
    OUT.mkdir(parents=True, exist_ok=True)
    write_json(record, {"settings": SETTINGS, "cases": found})
    draw(found)


def scores(name: str) -> dict[str, Any]:
    """Greedy returns of all finished seeds of a case, by evaluation."""
    seeds = finished(name)
    rows = [list(read_metrics(RUNS / f"{name}_seed{seed}")) for seed in seeds]
    returns = [[row["eval_return"] for row in of_seed] for of_seed in rows]
    return {
        "seeds": seeds,
        "env_steps": [[row["env_steps"] for row in of_seed] for of_seed in rows],
        "returns": returns,
        "final_return": [each[-1] for each in returns],
        "best_return": [max(each) for each in returns],
    }


def draw(found: dict[str, Any]) -> None:
    """Greedy returns over environment steps: a panel for each hosted task, its version in JAX dashed."""
    shown = {IN_JAX.get(CASES[name][0], CASES[name][0]) for name in found}
    panels = [task for task in TASKS if task in shown]
    if not panels:
        return
    figure = Figure(figsize=(4.5 * len(panels), 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name, score in found.items():
            task, method = CASES[name]
            if IN_JAX.get(task, task) != panel:
                continue
            for number, (steps, returns) in enumerate(zip(score["env_steps"], score["returns"], strict=True)):
                label = None if number else method + (" (JAX)" if task in IN_JAX else "")
                style = "--" if task in IN_JAX else "-"
                axes.plot(
                    [step / 1e6 for step in steps], returns, style, color=f"C{METHODS.index(method)}", label=label
                )
        axes.set(xlabel="million environment steps", ylabel="greedy return", title=panel)
        axes.locator_params("x", nbins=5)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(OUT / "curves.png")


def speed_settings(task: str, num_envs: int, workers: int) -> list[str]:
    """A short run."""
    own = [f"rollout.num_envs={num_envs}", f"env.workers={workers}"]
    return [*TASKS[task], *SPEED_SETTINGS, *own, f"rollout.overlap={'true' if workers > 1 else 'false'}"]


def speed(*names: str) -> None:
    """Print environment steps per second, and per second of one core, beside a bare loop and EPyMARL's.

    A core that other programs use as well shows in the first number alone.
    """
    checked("case", names, SPEED_TASKS)
    print(
        "| task | environments | workers | environment steps/s | per CPU second | bare loop, the same | EPyMARL |",
        "|---|---|---|---|---|---|---|",
        sep="\n",
    )
    for task in names or SPEED_TASKS:
        env = make_algorithm([*TASKS[task], "rollout.num_envs=1"])[0].env
        for num_envs, workers in SPEED_SIZES:
            before = bare_loop(env, 3000)[1]
            rows, per_cpu_second = timed(speed_settings(task, num_envs, workers))
            bare = statistics.mean((before, bare_loop(env, 3000)[1]))
            peer = EPYMARL_SPEED[task] if num_envs == 8 else ""
            print(
                f"| {task} | {num_envs} | {workers} | {steps_per_second(rows):.0f} | {per_cpu_second:.0f} | "
                f"{bare:.0f} | {peer} |",
                flush=True,
            )


def timed(settings: list[str]) -> tuple[list[dict[str, Any]], float]:
    """The metrics of a run, and its environment steps per CPU second of all its processes after the second epoch."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        command = [sys.executable, "-m", "qmix_jax.train", *settings, f"run_dir={run_dir}"]
        seen: list[tuple[int, float]] = []
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:
                rows = list(read_metrics(run_dir)) if (run_dir / "metrics.jsonl").exists() else []
                if len(rows) > len(seen):
                    seen.append((rows[-1]["env_steps"], cpu_seconds(process.pid)))
                time.sleep(0.05)
        if process.returncode:
            raise SystemExit(f"error: {' '.join(command)} ended with status {process.returncode}")
        return list(read_metrics(run_dir)), (seen[-1][0] - seen[1][0]) / (seen[-1][1] - seen[1][1])


def cpu_seconds(process: int) -> float:
    """Used so far by a process and those that it has started."""
    family = [psutil.Process(process)]
    family += family[0].children(recursive=True)
    return sum(times.user + times.system for times in (each.cpu_times() for each in family))


def bare_loop(env: Any, steps: int) -> tuple[float, float]:
    """Steps per second and per CPU second of one hosted environment in this process, with random actions."""
    random = np.random.default_rng(0)
    with contextlib.closing(env.hosted.make_drawn_team()) as team:
        view, episodes = team.reset(0), 0
        start = time.monotonic(), time.process_time()
        for _ in range(steps):
            result = team.step(np.array([random.choice(np.flatnonzero(avail)) for avail in view.avail]))
            view = result.view
            if result.terminated or result.truncated:
                episodes += 1
                view = team.reset(episodes)
        return steps / (time.monotonic() - start[0]), steps / (time.process_time() - start[1])


def steps_per_second(rows: list[dict[str, Any]]) -> float:
    """Median over epochs; the first two compile and start the workers."""
    pairs = itertools.pairwise(rows[1:])
    return statistics.median(
        (new["env_steps"] - old["env_steps"]) / (new["seconds"] - old["seconds"]) for old, new in pairs
    )


if __name__ == "__main__":
    start(__doc__, main)
