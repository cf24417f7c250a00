"""A run that was interrupted, killed or extended is the run that was not."""

import dataclasses
import json
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from wandb_record import history

from qmix_jax import library
from qmix_jax.errors import ConfigError
from qmix_jax.logging.files import check_folder
from qmix_jax.running.resume import check_idle, check_same, how_to_resume, locked, settings_to_resume
from qmix_jax.running.waves import Waves
from qmix_jax.settings.command_line import check, compose_config
from qmix_jax.settings.reading import parse, to_container

SETTINGS = (
    "experiment=two_step_game",
    "num_seeds=3",
    "evaluation.interval_env_steps=100",
    "agent.hidden_size=8",
    "rollout.num_envs=5",
    "replay.batch_size=8",
    "learner.warmup_env_steps=0",
    "checkpoint.every_minutes=0",
    "logger.plot=false",
)
EPOCHS = 4


def command(*arguments: str) -> list[str]:
    """Of settings that are given twice the later ones, for a command line refuses them."""
    last = {argument.partition("=")[0]: argument for argument in arguments}
    return [sys.executable, "-m", "qmix_jax.train", *last.values()]


def train(folder: Path, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*before, *command(*arguments)], capture_output=True, text=True, timeout=600, check=False, cwd=folder
    )


SMALL_FILES = """
import os, resource, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
os.execv(sys.argv[2], sys.argv[2:])
"""
results = runpy.run_path(str(Path(__file__).parents[2] / "experiments" / "soak.py"))["results"]


def metrics(run_dir: Path) -> list[dict]:
    """Rows of a run without the time that they took."""
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def wandb_history(run_dir: Path) -> list[dict]:
    """What the offline W&B record of the aggregate says of each epoch, without the time that it took."""
    (file,) = [path for path in run_dir.glob("wandb/offline-run-*/*.wandb") if "seed" not in path.name]
    return history(file)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    ended = train(folder, *SETTINGS, f"total_env_steps={100 * EPOCHS}", "run_dir=run")
    assert ended.returncode == 0, ended.stderr
    return folder / "run"


def test_a_run_that_is_extended_is_one_run(whole, tmp_path):
    half = train(tmp_path, *SETTINGS, f"total_env_steps={50 * EPOCHS}", "run_dir=run")
    assert half.returncode == 0, half.stderr
    assert len(metrics(tmp_path / "run")) == 3 * EPOCHS / 2
    rest = train(tmp_path, "resume=run", f"total_env_steps={100 * EPOCHS}")
    assert rest.returncode == 0, rest.stderr
    assert f"resuming after epoch {EPOCHS // 2}" in rest.stdout
    assert results(tmp_path / "run") == results(whole)
    assert wandb_history(tmp_path / "run") == wandb_history(whole)
    assert [row["env_steps"] for row in wandb_history(whole)] == [100 * (epoch + 1) for epoch in range(EPOCHS)]
    # Once more, with nothing left to do, and another folder than the present one.
    again = train(tmp_path.parent, f"resume={tmp_path / 'run'}")
    assert again.returncode == 0, again.stderr
    assert results(tmp_path / "run") == results(whole)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_epoch_and_the_run_can_go_on(whole, tmp_path, number, status):
    run_dir = tmp_path / "run"
    arguments = (*SETTINGS, f"total_env_steps={100 * EPOCHS}", "run_dir=run", "checkpoint.every_minutes=60")
    slow = start_until(tmp_path, arguments, lambda: (run_dir / "metrics.jsonl").exists() and metrics(run_dir))
    slow.send_signal(number)
    out, err = slow.communicate(timeout=60)
    if slow.returncode == 0:
        pytest.fail("the run was over before the signal came: make it longer")
    assert slow.returncode == status, err
    assert "Traceback" not in err
    assert "resume with: python -m qmix_jax.train resume=run" in out
    assert json.loads((run_dir / "summary.json").read_text())["interrupted"] is True
    assert train(tmp_path, "resume=run").returncode == 0
    assert results(run_dir)["metrics"][: 3 * EPOCHS] == results(whole)["metrics"]


def start_until(folder: Path, arguments: tuple[str, ...], ready, **options) -> subprocess.Popen:
    """Start a run and wait until ``ready()``, or until it has ended."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    process = subprocess.Popen(command(*arguments), cwd=folder, **options)
    while process.poll() is None and not ready():
        time.sleep(0.002)
    return process


def test_a_disk_that_is_full_ends_in_an_error_and_earlier_checkpoints_stay(whole, tmp_path):
    """Files may not grow beyond a size that the settings already reach: nothing is trained, nothing lost."""
    shutil.copytree(whole, tmp_path / "run")
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())

    small_files = (sys.executable, "-c", SMALL_FILES, "2000")
    ended = train(tmp_path, "resume=run", f"total_env_steps={100 * EPOCHS + 100}", before=small_files)
    assert ended.returncode == 2
    assert ended.stderr == "error: run_dir=run: cannot be written: File too large\n"
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == kept


@pytest.mark.parametrize("limit", [8_000, 60_000])
def test_a_disk_that_fills_up_does_not_end_training(whole, tmp_path, limit):
    """Only the settings, or all but the checkpoint, can be written."""
    few = (*SETTINGS, "total_env_steps=600", "run_dir=run", "logger.wandb.mode=disabled")
    ended = train(tmp_path, *few, before=(sys.executable, "-c", SMALL_FILES, str(limit)))
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    told = [line for line in ended.stderr.splitlines() if "File too large" in line]
    assert "warning: could not save a checkpoint, the run goes on: File too large" in told
    assert "env_steps=600" in ended.stdout
    run = tmp_path / "run"
    assert not list(run.rglob("*.partial"))
    assert not list((run / "checkpoints").iterdir())
    if limit == 8_000:
        assert "warning: could not save policies/seed_0/" in ended.stderr
        assert re.search("^warning: not saved: .* and [0-9]+ more$", ended.stderr, re.MULTILINE)
    else:
        assert len(told) == 1
        assert len(metrics(run)) == 18
        assert (run / "policies" / "seed_2" / "best.json").exists()


@pytest.mark.parametrize(("rule", "status"), [("stop", 1), ("freeze", 0)])
def test_numbers_that_go_wrong_are_told_and_saved(tmp_path, rule, status):
    wrong = ("optimizer.learning_rate=1e30", "learner.max_grad_norm=null", "logger.wandb.mode=disabled")
    ended = train(tmp_path, *SETTINGS, *wrong, "total_env_steps=300", "run_dir=run", f"on_nonfinite={rule}")
    assert ended.returncode == status
    assert "Traceback" not in ended.stderr
    for seed in (0, 1, 2):
        told = re.findall(rf"^warning: seed {seed}: .* of update \d+ are not finite", ended.stderr, re.MULTILINE)
        assert len(told) == 1
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["interrupted"] is (rule == "stop")
    found = summary["nonfinite"]
    assert [item["seed"] for item in found] == [0, 1, 2]
    assert all(item["update"] >= 1 and item["env_steps"] == 100 for item in found)
    assert len(metrics(tmp_path / "run")) == (3 if rule == "stop" else 9)


class TestSettings:
    @pytest.fixture(scope="class")
    @staticmethod
    def container() -> dict:
        return to_container(compose_config([*SETTINGS, "run_dir=run"]))

    def test_true_needs_a_folder(self):
        with pytest.raises(ConfigError, match=r"^resume=true: needs run_dir="):
            settings_to_resume({"resume": True, "run_dir": None}, ["resume"])

    def test_a_folder_that_holds_no_run_is_refused(self, tmp_path, container):
        with pytest.raises(ConfigError, match=rf"^resume={tmp_path}: not the folder of a run"):
            settings_to_resume({**container, "resume": str(tmp_path)}, ["resume"])

    def test_the_settings_are_those_of_the_folder(self, tmp_path, container):
        save(tmp_path, container)
        given = to_container(compose_config([f"resume={tmp_path}", "total_env_steps=7", "logger.wandb.mode=disabled"]))
        settings = settings_to_resume(given, ["resume", "total_env_steps", "logger.wandb.mode"])
        changed = {"resume": str(tmp_path), "run_dir": str(tmp_path), "total_env_steps": 7}
        wandb = {**container["logger"]["wandb"], "mode": "disabled"}
        assert settings == {**container, **changed, "logger": {**container["logger"], "wandb": wandb}}

    @pytest.mark.parametrize("key", ["gamma", "env.scenario", "experiment", "run_dir"])
    def test_other_settings_beside_a_folder_are_refused(self, tmp_path, container, key):
        save(tmp_path, container)
        with pytest.raises(ConfigError, match=f"^{key}"):
            settings_to_resume({**container, "resume": str(tmp_path)}, ["resume", key])

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            (["gamma=0.5"], "gamma=0.5 (was 0.99)"),
            (["agent.hidden_size=9"], "agent.hidden_size=9 (was 8)"),
            (["env=penalty"], "env._target_=qmix_jax.envs.matrix.make_penalty"),
            (["replay=prioritised"], "replay.priority.alpha="),
        ],
    )
    def test_another_run_is_refused_by_name(self, container, changes, named):
        other = to_container(compose_config([*SETTINGS, *changes]))
        with pytest.raises(ConfigError) as error:
            check_same(other, container, Path("run"))
        assert named in str(error.value)

    def test_what_may_change_may(self, container):
        changes = ["total_env_steps=9", "logger.plot=true", "devices.count=1", "checkpoint.keep=9", "run_dir=other"]
        check_same(to_container(compose_config([*SETTINGS, *changes])), container, Path("run"))

    def test_untrusted_settings_run_no_code_that_was_not_named(self, tmp_path, container):
        untrusted = {**container, "env": {"_target_": "os.system", "command": "touch taken"}}
        save(tmp_path, untrusted)
        with pytest.raises(ConfigError, match=r"names env._target_=os.system, which does not come with qmix_jax"):
            settings_to_resume({**container, "resume": str(tmp_path)}, ["resume"])
        named = {**container, "resume": str(tmp_path), "env": {"_target_": "os.system"}}
        assert settings_to_resume(named, ["resume", "env._target_"])["env"] == untrusted["env"]

    def test_the_way_to_resume_names_parts_of_one_s_own(self, tmp_path, container, monkeypatch):
        assert how_to_resume(container, Path("my run"), False) == "python -m qmix_jax.train 'resume=my run'"
        monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "example_package"))
        own = to_container(compose_config(["env=custom", "env._target_=example_envs.grid.make_env"]))
        save(tmp_path, own)
        command = shlex.split(how_to_resume(own, tmp_path, False))
        assert command[3:] == [f"resume={tmp_path}", "env._target_=example_envs.grid.make_env"]
        check(command[3:])
        given = {**to_container(compose_config(command[3:])), "resume": str(tmp_path)}
        assert settings_to_resume(given, ["resume", "env._target_"])["env"] == own["env"]

    def test_the_way_to_resume_names_the_other_processes(self, tmp_path):
        together = ["distributed.coordinator=host:1234", "distributed.num_processes=2"]
        own = to_container(compose_config([*SETTINGS, *together, "distributed.process_id=0", f"run_dir={tmp_path}"]))
        save(tmp_path, own)
        command, _, told = how_to_resume(own, tmp_path, False).partition(" (")
        assert told == "and each up to 1)"
        arguments = shlex.split(command)[3:]
        assert arguments == [f"resume={tmp_path}", *together, "distributed.process_id=0"]
        (asked,) = check(arguments)
        assert asked.distributed.num_processes == 2
        auto = {**own, "distributed": {"auto": True, "coordinator": None, "num_processes": 2, "process_id": None}}
        assert how_to_resume(auto, Path("run"), False).endswith(" resume=run distributed.auto=true")

    def test_a_word_for_false_is_no_folder(self):
        for word, meant in (("no", "false"), ("Off", "false"), ("yes", "true")):
            with pytest.raises(ConfigError, match=f"did you mean resume={meant}"):
                settings_to_resume({"resume": word}, ["resume"])

    def test_code_that_settings_name_otherwise_needs_the_command_again(self, container):
        hosted = {"_target_": "qmix_jax.envs.hosted.pettingzoo.make_pettingzoo", "name": "mine:make"}
        assert how_to_resume({"env": hosted}, Path("run"), False) == "the same command, with run_dir=run resume=true"
        in_python = "qmix_jax.run([...]) as before, with 'run_dir=run' and 'resume=true'"
        assert how_to_resume(container, Path("run"), True) == in_python


def save(run_dir: Path, container: dict) -> None:
    (run_dir / "config.json").write_text(json.dumps(container))


def test_a_folder_that_cannot_hold_a_run_is_refused_before_anything_is_compiled(tmp_path):
    (tmp_path / "file").touch()
    for name, words in (
        ("file", "is a file"),
        ("file/run", "cannot be"),
        ("x" * 300, "cannot be used: File name too long"),
    ):
        with pytest.raises(ConfigError, match=f"^run_dir=.*{words}"):
            check_folder("run_dir", tmp_path / name)
    for name in ("new/folder", "a[1]", "../up", "x" * 200, "$HOME\n~"):
        check_folder("run_dir", tmp_path / name)


def test_a_folder_is_trained_in_by_one_process_only(tmp_path):
    again = locked(tmp_path)
    with locked(tmp_path), pytest.raises(ConfigError, match=rf"^run_dir={tmp_path}: another process is training there"):
        again.__enter__()
    with locked(tmp_path):
        pass


def test_a_second_start_is_refused_before_anything_else(tmp_path):
    distributed = parse(to_container(compose_config(["env=two_step"]))).distributed
    check_idle(tmp_path / "new", distributed)
    check_idle(tmp_path, distributed)
    with locked(tmp_path):
        with pytest.raises(ConfigError, match="another process is training there"):
            check_idle(tmp_path, distributed)
        # One of several processes that train there together.
        check_idle(tmp_path, dataclasses.replace(distributed, coordinator="localhost:1"))


def test_a_snapshot_goes_on_bit_for_bit_in_another_layout():
    """Taken from waves of two seeds, put back into waves of one."""
    algorithm, hyper = library.make_algorithm([*SETTINGS, "total_env_steps=400"])
    devices = jax.local_devices()[:1]
    first = Waves(algorithm, hyper, [0, 1, 2], 1, devices)
    first.compile()
    first.epoch()
    snapshot = first.snapshot()
    expected = first.epoch()
    second = Waves(algorithm, hyper, [0, 1, 2], 1, devices)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), snapshot) == jax.tree.map(
        lambda x: (x.shape, x.dtype), second.snapshot_like()
    )
    second.restore(snapshot, 1)
    second.compile()
    jax.tree.map(np.testing.assert_array_equal, second.epoch(), expected)
    padded = Waves(algorithm, hyper, [0, 1, 2], 2, devices)
    padded.restore(snapshot, 1)
    jax.tree.map(np.testing.assert_array_equal, padded.snapshot(), snapshot)
