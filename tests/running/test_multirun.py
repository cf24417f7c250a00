"""Several runs from one command line, one after the other (Hydra's ``--multirun``)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from qmix_jax import train as command
from qmix_jax.errors import ConfigError
from qmix_jax.running import launch
from qmix_jax.running.resume import check_new
from qmix_jax.settings import command_line

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
    assert not list(tmp_path.glob("multirun")), "nothing beside them"
    gammas = [json.loads((folder / "config.json").read_text())["gamma"] for folder in folders]
    assert gammas == [0.9, 0.99]
    assert all((folder / "summary.json").exists() for folder in folders)


def test_a_later_job_that_cannot_be_built_is_refused_before_the_first_is_trained(tmp_path):
    """That an agent has no negative size is known to the agent alone."""
    ended = train(tmp_path, *SETTINGS, "--multirun", "hydra.sweep.dir=jobs", "agent.hidden_size=4,-1")
    assert ended.returncode == 2
    assert ended.stderr == "error: agent.hidden_size=-1: must be at least 1\n"
    assert not list(tmp_path.rglob("config.json"))


def test_a_failed_job_does_not_end_the_others_and_paths_with_dots_resume(tmp_path):
    (tmp_path / "below").mkdir()
    several = ("on_nonfinite=stop", "optimizer.learning_rate=1e38,1e-3", "agent.hidden_size=4")
    ended = train(tmp_path / "below", *SETTINGS, *several, "--multirun", "hydra.sweep.dir=../jobs")
    assert ended.returncode == 1
    lines = ended.stderr.splitlines()
    assert "warning: job 0 of the multirun failed; the others go on" in lines
    assert lines[-1] == "error: 1 of the multirun's jobs failed"
    assert json.loads((tmp_path / "jobs" / "1" / "summary.json").read_text())["env_steps"] >= 100
    resumed = train(tmp_path / "below", "resume=../jobs/1", "total_env_steps=200")
    assert "resuming after epoch" in resumed.stdout, resumed.stderr
    assert json.loads((tmp_path / "jobs" / "1" / "summary.json").read_text())["env_steps"] >= 200


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("resume=run,nowhere total_env_steps=9", "resume=nowhere: not the folder of a run"),
        ("run_dir=${algorithm.name} algorithm=qmix,vdn seed=0,1", "run_dir=qmix: two jobs have this folder"),
        ("run_dir=${seed} seed=1,0", "run_dir=0: already holds a run"),
        ("run_dir=${hydra:job.num} seed=1,0", "run_dir=${hydra:job.num}: ValueError raised while resolving"),
        ("hydra.sweep.dir=run/config.json/x seed=1,0", "hydra.sweep.dir=run/config.json/x: cannot be made"),
        ("hydra.nope=3 seed=1,0", "Could not override 'hydra.nope'"),
        ("seed=range(0,50) gamma=0.9,2", "gamma=2.0: must be at most 1"),
        ("gamma=0.9,2 seed=range(0,50)", "gamma=2.0: must be at most 1"),
    ],
)
def test_what_a_later_job_would_be_refused_for_is_said_first(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train", "--multirun", *arguments.split()])
    monkeypatch.setattr(launch, "run", lambda *_, **__: pytest.fail("it was trained"))
    for folder in ("run", "0"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text("{}")
        (tmp_path / folder / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert words in said.replace("'", "").replace("override hydra.nope", "override 'hydra.nope'")
    assert said.count("\n") == 1


def test_the_folder_of_a_run_that_never_trained_is_free(tmp_path):
    """Stopped while it compiled, perhaps with a setting that is now corrected."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "metrics.jsonl").touch()
    check_new(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match="already holds a run"):
        check_new(tmp_path)


def test_ctrl_c_at_the_start_is_one_line(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["train"])
    monkeypatch.setattr(command_line, "check", interrupted)
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == 130
    assert capsys.readouterr().err == "interrupted; nothing to save\n"
