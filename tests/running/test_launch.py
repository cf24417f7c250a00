"""Every scenario's plain command starts on a small machine, and what was chosen for it stays."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from qmix_jax.envs.smax.scenarios import SCENARIOS
from qmix_jax.errors import ConfigError
from qmix_jax.running import launch, resume
from qmix_jax.running.hosts import Hosts
from qmix_jax.running.memory import free
from qmix_jax.running.memory import plan as memory
from qmix_jax.settings.cells import lanes
from qmix_jax.settings.command_line import compose_config
from qmix_jax.settings.reading import parse, to_container

TRAIN = (sys.executable, "-m", "qmix_jax.train")
LAPTOP = 12 * 2**30
"""What is free on a laptop with 16 GiB beside a desktop and a browser."""


def prepared(*arguments: str) -> launch.Prepared:
    config = parse(to_container(compose_config(arguments)))
    seeds = list(range(config.num_seeds))
    return launch.prepare(config, [], lanes(0, seeds), Hosts(len(seeds)))


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_the_plain_command_fits_on_a_laptop(monkeypatch, scenario):
    monkeypatch.setattr(free, "_free_in_machine", lambda: LAPTOP)
    ready = prepared("env=smax", f"env.scenario={scenario}")
    assert ready.plan.total <= LAPTOP
    assert ready.plan.capacity == ready.waves.algorithm.sizes.capacity
    assert ready.plan.capacity == 1000 or scenario in ("bane_vs_bane", "27m_vs_30m")
    assert ready.plan.capacity >= 300


def test_limits_of_a_control_group_count(monkeypatch):
    monkeypatch.setattr(free, "_free_in_machine", lambda: LAPTOP)
    monkeypatch.setattr(free, "_free_in_control_groups", lambda: [2 * 2**30])
    plan = prepared("env=smax", "env.scenario=10m_vs_11m").plan
    assert plan.num_devices == 1
    assert memory.SMALLEST <= plan.capacity < 1000
    assert plan.total <= memory.ROOMY * 2 * 2**30


def resumed(folder: Path, *arguments: str) -> launch.Request:
    container = to_container(compose_config([*arguments, f"run_dir={folder}", "resume=true"]))
    request, is_resumed = launch._of_the_folder(launch.Request(parse(container), container, [], folder))
    assert is_resumed
    return request


def test_a_replay_that_was_chosen_once_stays(tmp_path):
    saved = to_container(compose_config(["env=two_step"]))
    saved["replay"]["capacity"] = 350
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    (tmp_path / "config.json").write_text(json.dumps(saved))
    request = resumed(tmp_path, "env=two_step")
    assert (request.config.replay.capacity, request.container["replay"]["capacity"]) == (350, 350)
    with pytest.raises(ConfigError, match=r"replay.capacity=400 \(was 350\)"):
        resumed(tmp_path, "env=two_step", "replay.capacity=400")
    saved["replay"]["capacity"] = None
    (tmp_path / "config.json").write_text(json.dumps(saved))
    with pytest.raises(ConfigError, match=r"replay.capacity=None: must be a whole number"):
        resumed(tmp_path, "env=two_step")


def test_a_run_without_its_settings_is_not_trained_over(tmp_path):
    (tmp_path / "checkpoints" / "00000009").mkdir(parents=True)
    with pytest.raises(ConfigError, match="holds a run without its settings"):
        resumed(tmp_path, "env=two_step")


def test_a_run_that_another_process_has_made_meanwhile_is_not_trained_over(tmp_path, monkeypatch):
    container = to_container(compose_config(["env=two_step", f"run_dir={tmp_path}", "resume=true"]))
    request = launch.Request(parse(container), container, [], tmp_path)
    ready = prepared("env=two_step")

    def prepare(*_: object) -> launch.Prepared:
        (tmp_path / "metrics.jsonl").write_text("{}\n")
        return ready

    monkeypatch.setattr(launch, "prepare", prepare)
    with pytest.raises(ConfigError, match="already holds a run"):
        launch.run(request, keep_process=True)
    assert not (tmp_path / "config.json").exists()


def test_runs_that_start_at_the_same_second_have_folders_of_their_own(tmp_path):
    name = tmp_path / "day" / "12-00-00-qmix-smax"
    made = [resume.make_run_dir(name, own_name=True) for _ in range(3)]
    assert [path.name.removeprefix(name.name) for path in made] == ["", "-2", "-3"]
    assert resume.make_run_dir(name) == name  # asked for: it may be there


def test_a_fork_of_a_process_that_has_trained_is_refused(monkeypatch):
    monkeypatch.setattr(launch, "_pids", {os.getpid() + 1})
    with pytest.raises(ConfigError, match="spawn"):
        launch._refuse_forks()
    monkeypatch.setattr(launch, "_pids", set())
    launch._refuse_forks()
    launch._refuse_forks()


GROUPS = Path("/sys/fs/cgroup/memory")


@pytest.mark.slow
def test_a_run_stays_below_an_enforced_limit(tmp_path):
    """Ten marines by the plain command take 5 GB by default; here they get 2 GB, are saved, and go on."""
    group = GROUPS / f"qmix_jax_test_{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("needs the right to make a control group (version 1)")
    try:
        (group / "memory.limit_in_bytes").write_text(str(2 * 2**30))
        run = tmp_path / "run"
        plain = ["env=smax", "env.scenario=10m_vs_11m", f"run_dir={run}", "total_env_steps=1000"]
        short = ["evaluation.interval_env_steps=1000", "learner.updates_per_iteration=1", "learner.warmup_env_steps=0"]
        quiet = ["logger.plot=false", "logger.wandb.mode=disabled"]
        for arguments in ([*plain, *short, *quiet], [f"resume={run}", "total_env_steps=3000"]):
            ended = subprocess.run(
                ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh", *TRAIN, *arguments],
                capture_output=True,
                text=True,
                check=False,
            )
            assert ended.returncode == 0, ended.stdout + ended.stderr
        capacity = json.loads((run / "config.json").read_text())["replay"]["capacity"]
        assert memory.SMALLEST <= capacity < 1000
    finally:
        group.rmdir()


PEAK = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
sys.exit(status)
"""
"""Runs a command and prints its peak; a process of its own, since what pytest has taken would count."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is counted in other units elsewhere")
@pytest.mark.parametrize(("capacity", "num_seeds"), [(1000, 1), (1000, 2), (6000, 2)])
def test_the_plan_is_the_peak_of_the_process(tmp_path, capacity, num_seeds):
    """Two devices, which share one seed's minibatches, compiled from nothing; checkpoints with copies."""
    own = ["env=smax", "env.scenario=3m", f"run_dir={tmp_path / 'run'}", f"replay.capacity={capacity}"]
    sizes = [f"num_seeds={num_seeds}", "devices.count=2", "replay.batch_size=32", "evaluation.episodes=32"]
    short = ["total_env_steps=4000", "evaluation.interval_env_steps=2000", "checkpoint.every_minutes=0"]
    quiet = ["logger.plot=false", "logger.wandb.mode=disabled"]
    ended = subprocess.run(
        [sys.executable, "-c", PEAK, *TRAIN, *own, *sizes, *short, *quiet],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    number, unit = re.search(r"memory: ([\d.]+) ([GM]iB)", ended.stdout).groups()
    planned = float(number) * {"MiB": 2**20, "GiB": 2**30}[unit]
    peak = int(re.search(r"^peak (\d+)", ended.stdout, re.MULTILINE)[1])
    assert 0.9 * peak < planned < 1.2 * peak  # how much compiling takes differs between processors by a tenth
