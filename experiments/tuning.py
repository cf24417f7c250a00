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
from script import call, checked, start, whole

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

Settings = dict[str, Any]

BASE: Settings = {
    "rollout.num_envs": 16,
    "rollout.length": "null",
    "learner.updates_per_iteration": 8,
    "replay.capacity": 2000,
    "replay.batch_size": 32,
    "replay.obs_dtype": "float16",
    "target.td_lambda": 0.9,
    "target.update_interval": 25,
    "optimizer.learning_rate": "2e-3",
    "optimizer.learning_rate_end": 0,
    "exploration.preference_share": 0,
    "epsilon_share": 0.15,
}
DEFAULT: Settings = {  # the default as it was when the trials named now_... were made
    "target.td_lambda": 0.6,
    "mixer.hypernet_layers": 2,
    "replay.capacity": 1000,
    "replay.obs_dtype": "float32",
}
SOFT: Settings = {"target.update": "soft", "target.tau": 0.04}
TRIALS: dict[str, Settings] = {
    "base": {},
    "epsilon_30": {"epsilon_share": 0.3},
    "hypernet_2": {"mixer.hypernet_layers": 2},
    "epsilon_end_01": {"exploration.epsilon_end": 0.01},
    "q_lambda": {"target": "q_lambda"},
    "updates_16": {"learner.updates_per_iteration": 16},
    "hidden_128": {"agent.hidden_size": 128, "mixer.embed_size": 64},
    "layer_norm": {"agent.norm": "layer"},
    "capacity_300": {"replay.capacity": 300},
    "updates_16_capacity_300": {"learner.updates_per_iteration": 16, "replay.capacity": 300},
    "lambda_6": {"target.td_lambda": 0.6},
    "copy_100": {"target.update_interval": 100},
    "lambda_6_copy_100": {"target.td_lambda": 0.6, "target.update_interval": 100},
    "lambda_8": {"target.td_lambda": 0.8},
    "lambda_6_hypernet_2": {"target.td_lambda": 0.6, "mixer.hypernet_layers": 2},
    "lambda_8_hypernet_2": {"target.td_lambda": 0.8, "mixer.hypernet_layers": 2},
    "q_lambda_8": {"target": "q_lambda", "target.td_lambda": 0.8},
    "lambda_6_updates_16": {"target.td_lambda": 0.6, "learner.updates_per_iteration": 16},
    "lambda_6_hidden_128": {"target.td_lambda": 0.6, "agent.hidden_size": 128},
    "lambda_6_again": {"target.td_lambda": 0.6},
    "final": {"target.td_lambda": 0.6},
    "lambda_6_hypernet_2_updates_16": {
        "target.td_lambda": 0.6,
        "mixer.hypernet_layers": 2,
        "learner.updates_per_iteration": 16,
    },
    "lambda_6_hypernet_2_init_1": {"target.td_lambda": 0.6, "mixer.hypernet_layers": 2, "mixer.init_scale": 1},
    "lambda_4_hypernet_2": {"target.td_lambda": 0.4, "mixer.hypernet_layers": 2},
    "mixer_big": {"mixer.hypernet_layers": 2, "mixer.embed_size": 64},
    "now": DEFAULT,
    "now_lambda_0": {**DEFAULT, "target.td_lambda": 0},
    "now_lambda_3_updates_16_rate_1": {
        **DEFAULT,
        "target.td_lambda": 0.3,
        "learner.updates_per_iteration": 16,
        "optimizer.learning_rate": "1e-3",
    },
    "now_bootstrap": {**DEFAULT, "env.time_limit": "bootstrap"},
    "now_bootstrap_hidden_128": {**DEFAULT, "env.time_limit": "bootstrap", "agent.hidden_size": 128},
    "now_lambda_3": {**DEFAULT, "target.td_lambda": 0.3},
    "now_lambda_8": {**DEFAULT, "target.td_lambda": 0.8},
    "now_rate_1": {**DEFAULT, "optimizer.learning_rate": "1e-3"},
    "now_rate_05": {**DEFAULT, "optimizer.learning_rate": "5e-4"},
    "now_batch_64": {**DEFAULT, "replay.batch_size": 64},
    "now_updates_16": {**DEFAULT, "learner.updates_per_iteration": 16},
    "now_updates_16_rate_1": {**DEFAULT, "learner.updates_per_iteration": 16, "optimizer.learning_rate": "1e-3"},
    "now_batch_16_updates_16": {**DEFAULT, "learner.updates_per_iteration": 16, "replay.batch_size": 16},
    "now_batch_16_updates_16_rate_1": {
        **DEFAULT,
        "learner.updates_per_iteration": 16,
        "replay.batch_size": 16,
        "optimizer.learning_rate": "1e-3",
    },
    "now_batch_8_updates_32_rate_1": {
        **DEFAULT,
        "learner.updates_per_iteration": 32,
        "replay.batch_size": 8,
        "optimizer.learning_rate": "1e-3",
    },
    "now_hidden_128": {**DEFAULT, "agent.hidden_size": 128},
    "now_layer_norm": {**DEFAULT, "agent.norm": "layer"},
    "layer_norm_rate_1": {**DEFAULT, "agent.norm": "layer", "optimizer.learning_rate": "1e-3"},
    "layer_norm_rate_4": {**DEFAULT, "agent.norm": "layer", "optimizer.learning_rate": "4e-3"},
    "layer_norm_updates_16": {**DEFAULT, "agent.norm": "layer", "learner.updates_per_iteration": 16},
    "layer_norm_lambda_3": {**DEFAULT, "agent.norm": "layer", "target.td_lambda": 0.3},
    "layer_norm_lambda_8": {**DEFAULT, "agent.norm": "layer", "target.td_lambda": 0.8},
    "layer_norm_q_lambda": {**DEFAULT, "agent.norm": "layer", "target": "q_lambda", "target.td_lambda": 0.8},
    "layer_norm_hidden_128": {**DEFAULT, "agent.norm": "layer", "agent.hidden_size": 128},
    "layer_norm_prioritised": {**DEFAULT, "agent.norm": "layer", "replay": "prioritised"},
    "layer_norm_mixer_64": {**DEFAULT, "agent.norm": "layer", "mixer.embed_size": 64},
    "now_lambda_3_hidden_128": {**DEFAULT, "target.td_lambda": 0.3, "agent.hidden_size": 128},
    "now_mixer_64": {**DEFAULT, "mixer.embed_size": 64},
    "now_batch_64_rate_3": {**DEFAULT, "replay.batch_size": 64, "optimizer.learning_rate": "3e-3"},
    "now_rate_4": {**DEFAULT, "optimizer.learning_rate": "4e-3"},
    "now_capacity_5000": {**DEFAULT, "replay.capacity": 5000},
    "now_iql": {**DEFAULT, "algorithm": "iql"},
    "now_prioritised": {**DEFAULT, "replay": "prioritised"},
    "now_envs_8": {**DEFAULT, "rollout.num_envs": 8, "learner.updates_per_iteration": 4},
    "now_soft": {**DEFAULT, "target.update": "soft", "target.tau": 0.04},
    "now_reward_10": {**DEFAULT, "reward.scale": 10},
    "now_epsilon_end_01": {**DEFAULT, "exploration.epsilon_end": 0.01},
    "now_one_layer": {**DEFAULT, "mixer.hypernet_layers": 1},
    "now_q_lambda": {**DEFAULT, "target": "q_lambda", "target.td_lambda": 0.8},
    "now_copy_10": {**DEFAULT, "target.update_interval": 10},
    "now_gamma_97": {**DEFAULT, "gamma": 0.97},
    "now_vdn": {**DEFAULT, "algorithm": "vdn"},
    # Today's default, and the way to it. Those named first_... were measured with a working copy, before these were
    # settings. repeat: an agent's random action is held for a number of steps that is Pareto distributed. together: in
    # half of the environments it is the same for all agents. own: each agent has a preference of its own.
    "preferences": {**DEFAULT, "agent.norm": "layer", "exploration.preference_share": 0.5},
    **{
        name: {**DEFAULT, "agent.norm": "layer", "working copy": words}
        for name, words in {
            "first_repeat": "random actions repeated",
            "first_repeat_together": "random actions repeated, half of the environments by all agents together",
            "first_preference_episode": "half of the environments, whole episodes, sizes .01 to .3",
            "first_preference_episode_own": "half of the environments, whole episodes, sizes .01 to .3, own",
            "first_preference_10_half": "half of the environments, ten steps, half of the time, sizes .03 to 1",
            "first_preference_10_all": "all environments, ten steps, half of the time, sizes .03 to 1",
        }.items()
    },
    **{
        f"preferences_{name}": {
            **DEFAULT,
            "agent.norm": "layer",
            "exploration.preference_share": 0.5,
            **change,
        }
        for name, change in {
            "gamma_97": {"gamma": 0.97},
            "gamma_995": {"gamma": 0.995},
            "gamma_998": {"gamma": 0.998},
            "gamma_1": {"gamma": 1},
            "q_lambda": {"target": "q_lambda"},
            "q_lambda_8": {"target": "q_lambda", "target.td_lambda": 0.8},
            "epsilon_end_01": {"exploration.epsilon_end": 0.01},
            "mixer_64": {"mixer.embed_size": 64},
            "lambda_2": {"target.td_lambda": 0.2},
            "lambda_4": {"target.td_lambda": 0.4},
            "lambda_8": {"target.td_lambda": 0.8},
            "soft": SOFT,
            "prioritised": {"replay": "prioritised"},
            "reward_10": {"reward.scale": 10},
            "single_q": {"target.double_q": "false"},
            "updates_4": {"learner.updates_per_iteration": 4},
            "batch_64": {"replay.batch_size": 64},
            "capacity_5000": {"replay.capacity": 5000},
            "envs_8": {"rollout.num_envs": 8, "learner.updates_per_iteration": 4},
            "hidden_128": {"agent.hidden_size": 128},
            "long": {"exploration.preference_steps": 20},
            **{agent: {"agent": agent} for agent in ("deep_gru", "feed_forward", "min_gru")},
            "soft_long": {**SOFT, "exploration.preference_steps": 20},
            "soft_gamma_998": {**SOFT, "gamma": 0.998},
        }.items()
    },
}
FIXED = ["num_seeds=1", "devices.count=1", "logger.wandb.mode=disabled", "logger.plot=false", "resume=true"]
FIXED += ["checkpoint.every_minutes=10", "checkpoint.keep=1"]


def command_of(trial: str, scenario: str, steps: int, seed: int) -> list[str]:
    """The settings of one run, without what does not change its numbers."""
    settings = {**BASE, **TRIALS[trial]}
    share = settings.pop("epsilon_share")
    settings["exploration.epsilon_steps"] = round(share * steps)
    if settings.get("algorithm") in ("vdn", "iql"):
        settings = {key: value for key, value in settings.items() if not key.startswith("mixer.")}
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
        if not (RUNS / name / "summary.json").exists():
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
