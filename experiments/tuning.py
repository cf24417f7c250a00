"""Search for one default for SMAX: named trials, each a change of a few settings, recorded one line each.

``python experiments/tuning.py run TRIAL MAP STEPS SEED ...`` trains what is not recorded yet, one seed after the
other, in ``runs/tuning`` (it goes on with a run that was interrupted) and adds a line for each to
``experiments/results/tuning/trials.jsonl``: settings, command, commit, curve, seconds, and how the final policy does in
fresh episodes.
``python experiments/tuning.py report [MAP]`` prints what is recorded as tables.

A trial is ``BASE`` with its settings of ``TRIALS`` on top. Trials use seeds 100 to 999; ``final`` is the chosen
default, trained with seeds 0 to 4, which no choice was made with. Shares are of the run's length.
"""

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_play import PLAYED, fresh_episodes
from script import call, checked, is_finished, start, whole
from tuning_trials import BASE, TRIALS

from qmix_jax.envs.smax.scenarios import find_scenario
from qmix_jax.errors import require
from qmix_jax.running.devices import set_up

RUNS = Path("runs/tuning")
RECORDS = Path(__file__).parent / "results" / "tuning" / "trials.jsonl"
LAST = 3
"""Evaluations at the end whose mean is the score: one of 128 episodes is noisy."""
FRESH = 4000
"""Other episodes that the final policy plays: evaluations in training play the same 128 in all trials."""
AT = (300_000, 400_000, 500_000)
"""Environment steps at which trials are compared that were stopped before their end."""
REPORTED = range(100)
"""Seeds that only ``final`` is trained with."""

FIXED = ["num_seeds=1", "devices.count=1", "logger.wandb.mode=disabled", "logger.plot=false", "resume=true"]
FIXED += ["checkpoint.every_minutes=10", "checkpoint.keep=1"]


def command_of(trial: str, scenario: str, steps: int, seed: int) -> list[str]:
    """The settings of one run, without what does not change its numbers."""
    settings = {**BASE, **TRIALS[trial]}
    share = settings.pop("epsilon_share")
    settings["exploration.epsilon_steps"] = round(share * steps)
    if settings.get("algorithm") in ("vdn", "iql", "qplex"):  # Their mixers have no such settings.
        settings = {key: value for key, value in settings.items() if not key.startswith("mixer.")}
    if settings.get("target.update") == "soft":  # then the target network moves at every update
        del settings["target.update_interval"]
    groups = [f"{key}={value}" for key, value in settings.items() if "." not in key]
    keys = [f"{key}={value}" for key, value in settings.items() if "." in key]
    return ["env=smax", f"env.scenario={scenario}", f"total_env_steps={steps}", f"seed={seed}", *groups, *keys]


def main(command: str = "", *arguments: str) -> None:
    """``run`` or ``report``."""
    call({"run": run, "report": report}, command, arguments)


def run(trial: str, scenario: str, steps: str, seed: str, *more_seeds: str) -> None:
    """Train and record one trial on one map."""
    checked("trial", [trial], TRIALS)
    find_scenario(scenario)
    length, seeds = whole("steps", steps, least=1), [whole("seed", text) for text in (seed, *more_seeds)]
    for number in seeds:
        words = f"at least {len(REPORTED)}; only the trial final uses smaller ones, and it uses no others"
        require((number in REPORTED) == (trial == "final"), "seed", number, words)
    for number in seeds:
        name = f"{trial}-{scenario}-{length}-{number}"
        if any(record["name"] == name for record in records()):
            continue
        arguments = command_of(trial, scenario, length, number)
        command = [sys.executable, "-m", "qmix_jax.train", *arguments, *FIXED, f"run_dir={RUNS / name}"]
        if not is_finished(RUNS / name):
            subprocess.run(command, check=False)  # one that was stopped by hand is recorded as far as it came
        record(name, arguments)


def record(name: str, arguments: list[str]) -> None:
    """Add one finished run to the records."""
    trial, scenario, steps, seed = name.split("-")
    if not (RUNS / name / "metrics.jsonl").exists():
        raise SystemExit(f"{name}: failed")
    rows = [json.loads(row) for row in (RUNS / name / "metrics.jsonl").read_text().splitlines()]
    git = ["git", "rev-parse", "--short", "HEAD"]
    line = {
        "name": name,
        "trial": trial,
        "map": scenario,
        "steps": int(steps),
        "seed": int(seed),
        "settings": TRIALS[trial],
        "command": " ".join(["python -m qmix_jax.train", *arguments]),
        "commit": subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip(),
        "finished": time.strftime("%Y-%m-%d %H:%M"),
        "seconds": round(rows[-1]["seconds"]),
        "stopped": not (RUNS / name / "summary.json").exists() or rows[-1]["env_steps"] < int(steps),
        "updates": int(rows[-1]["updates"]),
        "env_steps": [int(row["env_steps"]) for row in rows],
        "win_rate": [round(row["eval_win_rate"], 4) for row in rows],
        "return": [round(row["eval_return"], 3) for row in rows],
        "train_win_rate": [round(row["train_win_rate"], 3) for row in rows],
    }
    policy = RUNS / name / "policies" / f"seed_{seed}" / "final"
    if policy.with_suffix(".json").is_file():
        set_up()
        line[PLAYED] = fresh_episodes(policy, FRESH)
    RECORDS.parent.mkdir(parents=True, exist_ok=True)
    with RECORDS.open("a") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def records() -> list[dict[str, Any]]:
    """All recorded runs, oldest first."""
    return [json.loads(line) for line in RECORDS.read_text().splitlines()] if RECORDS.exists() else []


def value_at(line: dict[str, Any], at: int) -> float:
    """The mean of the evaluations around an environment step; not a number where the run did not come so far."""
    near = [value for step, value in zip(line["env_steps"], line["win_rate"], strict=True) if abs(step - at) <= 60_000]
    return float(np.mean(near)) if line["env_steps"][-1] >= at - 10_000 else float("nan")


def report(*maps: str) -> None:
    """Print a table for each map and length of run, the best trial first."""
    checked("map", maps, {line["map"] for line in records()})
    tables: dict[tuple[str, int], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for line in records():
        tables[line["map"], line["steps"]][line["trial"]].append(line)
    for (scenario, steps), trials in sorted(tables.items()):
        if maps and scenario not in maps:
            continue
        head = [
            "seeds",
            f"mean of the last {LAST}",
            "at the end",
            "best",
            f"{FRESH} fresh episodes",
            *(f"at {at:,}" for at in AT),
            "updates",
            "seconds",
        ]
        print(f"\n| {scenario}, {steps:,} steps | " + " | ".join(head) + " |\n" + "|---" * (len(head) + 1) + "|")
        score = {name: np.mean([line["win_rate"][-LAST:] for line in lines]) for name, lines in trials.items()}
        for name in sorted(trials, key=lambda name: -score[name]):
            lines = trials[name]
            ends = ", ".join(f"{line['win_rate'][-1]:.3f}" for line in lines)
            curves = [np.mean([value_at(line, at) for line in lines]) for at in AT]
            stopped = " (stopped)" if any(line.get("stopped") for line in lines) else ""
            cells = [name + stopped, ", ".join(str(line["seed"]) for line in lines), f"{score[name]:.3f}", ends]
            cells += [f"{np.mean([max(line['win_rate']) for line in lines]):.3f}"]
            cells += [", ".join(f"{line[PLAYED]['win_rate'][0]:.3f}" if PLAYED in line else "-" for line in lines)]
            cells += ["" if np.isnan(value) else f"{value:.3f}" for value in curves]
            cells += [str(lines[0]["updates"]), f"{np.mean([line['seconds'] for line in lines]):.0f}"]
            print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    start(__doc__, main)
