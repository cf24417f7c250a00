"""Several runs from one command line, one after the other (Hydra's ``--multirun``)."""

import json
import subprocess
import sys
from pathlib import Path

SETTINGS = (
    "env=two_step",
    "total_env_steps=100",
    "evaluation.interval_env_steps=100",
    "evaluation.episodes=2",
    "learner.warmup_env_steps=20",
    "replay.batch_size=4",
    "rollout.num_envs=4",
    "mixer.embed_size=4",
    "logger.plot=false",
    "logger.wandb.mode=disabled",
)


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "qmix_jax.train", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=folder)


def test_each_job_has_its_folder_and_options_stand_anywhere(tmp_path):
    ended = train(tmp_path, *SETTINGS, "agent.hidden_size=4", "hydra.sweep.dir=jobs", "--multirun", "gamma=0.9,0.99")
    assert ended.returncode == 0, ended.stderr
    folders = sorted(path for path in (tmp_path / "jobs").iterdir() if path.is_dir())
    assert [folder.name for folder in folders] == ["0", "1"]
    gammas = [json.loads((folder / "config.json").read_text())["gamma"] for folder in folders]
    assert gammas == [0.9, 0.99]
    assert all((folder / "summary.json").exists() for folder in folders)


def test_a_later_job_that_cannot_be_built_is_refused_before_the_first_is_trained(tmp_path):
    """That an agent has no negative size is known to the agent alone."""
    ended = train(tmp_path, *SETTINGS, "--multirun", "hydra.sweep.dir=jobs", "agent.hidden_size=4,-1")
    assert ended.returncode == 2
    assert ended.stderr == "error: agent.hidden_size=-1: must be at least 1\n"
    assert not list(tmp_path.rglob("config.json"))
