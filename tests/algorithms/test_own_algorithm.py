"""An algorithm and a mixer from outside the project train through the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

PACKAGE = Path(__file__).parents[1] / "example_package"
OWN = {
    "algorithm": ["algorithm._target_=example_algorithms.critic.WithCritic", "+algorithm.critic_size=4"],
    "mixer": ["mixer=none", "mixer._target_=example_algorithms.dueling.DuelingMixer", "+mixer.mean_weight=0.2"],
}
SMALL = [
    "env=two_step",
    "total_env_steps=400",
    "rollout.num_envs=4",
    "replay.batch_size=8",
    "learner.warmup_env_steps=0",
    "evaluation.interval_env_steps=200",
    "agent.hidden_size=8",
    "logger.wandb.mode=disabled",
    "logger.plot=false",
    "devices.count=1",
]


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "qmix_jax.train", *SMALL, f"run_dir={folder}", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_an_algorithm_and_a_mixer_of_ones_own_train(tmp_path):
    done = train(tmp_path / "run", *OWN["algorithm"], *OWN["mixer"])
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["updates"] > 0
    assert np.isfinite([row["loss"] for row in rows]).all()
    saved = load_file(tmp_path / "run/policies/seed_0/final.safetensors")
    assert "q_kernel" in saved
    assert not any("critic" in name for name in saved), "only the agents act"


def test_a_wrong_setting_of_ones_own_algorithm_is_one_line(tmp_path):
    done = train(tmp_path / "run", OWN["algorithm"][0], "+algorithm.critic_sise=4")
    assert done.returncode == 2
    assert "algorithm.critic_sise=4: unknown; did you mean 'algorithm.critic_size'?" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
