"""Runs that are killed, and workers that are killed, stopped or run out of memory, as real processes."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

HERE = Path(__file__).parent
PATIENCE = 240.0
SMALL = [
    "env=pettingzoo",
    "env.workers=2",
    "env.timeout=20",
    "agent.hidden_size=4",
    "algorithm=vdn",
    "rollout.num_envs=2",
    "replay.batch_size=2",
    "replay.capacity=8",
    "learner.warmup_env_steps=0",
    "learner.updates_per_iteration=1",
    "evaluation.interval_env_steps=20",
    "evaluation.episodes=2",
    "checkpoint.every_minutes=0",
    "logger.plot=false",
    "logger.wandb.mode=disabled",
    "logger.progress=false",
]


def command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"qmix_jax.{module}", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[2])])}


class Run:
    """A training run as a process; its messages go to a file."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder, self.said = folder, folder.with_suffix(".txt")
        with self.said.open("a") as file:
            self.process = psutil.Popen(
                command("train", *SMALL, *arguments, f"run_dir={folder}", "resume=true"),
                env=environment(),
                stdout=file,
                stderr=file,
            )

    def workers(self) -> list[psutil.Process]:
        children = self.process.children(recursive=True)
        return [process for process in children if "spawn_main" in " ".join(process.cmdline())]

    def rows(self) -> list[dict]:
        path = self.folder / "metrics.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def end(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):  # It has ended already.
            self.process.kill()
        self.process.wait()

    def wait_for(self, what) -> None:
        end = time.monotonic() + PATIENCE
        while not what():
            assert self.process.poll() is None, self.said.read_text()
            assert time.monotonic() < end, self.said.read_text()
            time.sleep(0.05)


def gone(processes: list[psutil.Process]) -> bool:
    left = psutil.wait_procs(processes, timeout=20)[1]
    return all(process.status() == psutil.STATUS_ZOMBIE for process in left)


@pytest.mark.slow
def test_workers_and_the_run_itself_are_killed_and_nothing_is_lost_or_left(tmp_path):
    arguments = ["env.name=pastures:pasture", "total_env_steps=100000"]
    run = Run(tmp_path / "run", *arguments)
    try:
        run.wait_for(lambda: len(run.rows()) >= 2 and len(run.workers()) == 2)
        run.workers()[0].send_signal(signal.SIGKILL)
        run.wait_for(lambda: "was ended by SIGKILL" in run.said.read_text())
        before = len(run.rows())
        run.wait_for(lambda: len(run.rows()) >= before + 2 and len(run.workers()) == 2)
        stopped = run.workers()[1]
        stopped.send_signal(signal.SIGSTOP)
        run.wait_for(lambda: "has not answered for 20 seconds (env.timeout)" in run.said.read_text())
        assert gone([stopped])
        before = len(run.rows())
        run.wait_for(lambda: len(run.rows()) >= before + 2 and len(run.workers()) == 2)
        workers = run.workers()
    finally:
        run.end()
    assert gone(workers)
    said = run.said.read_text()
    assert said.count("warning: ") == 2, said
    assert "(2 of env.restarts=3)" in said
    known = run.rows()

    run = Run(tmp_path / "run", *arguments)
    try:
        run.wait_for(lambda: len(run.rows()) >= len(known) + 2)
        workers = run.workers()
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(PATIENCE) == 130, run.said.read_text()
    finally:
        run.end()
    assert gone(workers)
    epochs = [row["epoch"] if "epoch" in row else row["env_steps"] for row in run.rows()]
    assert epochs == sorted(set(epochs)), "every epoch once"
    assert (tmp_path / "run" / "summary.json").is_file()


@pytest.mark.slow
def test_an_environment_that_raises_after_100_steps_is_restarted_and_then_ends_the_run_saved(tmp_path):
    run = Run(tmp_path / "run", "env.name=pastures:tiring", "env.restarts=1", "total_env_steps=100000")
    assert run.process.wait(PATIENCE) == 1
    said = run.said.read_text()
    line = r"step \d: RuntimeError: the grass is gone"
    assert len(re.findall(rf"^warning: environment \d, {line}; workers restarted", said, re.MULTILINE)) == 1, said
    assert re.search(rf"the environment failed: environment \d, {line} \(after 1 restarts, env.restarts\)", said), said
    assert "Traceback" not in said
    assert len(run.rows()) >= 2
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["interrupted"] is True
    assert list((tmp_path / "run" / "policies").rglob("*.safetensors"))
    done = subprocess.run(
        command(
            "evaluate", f"run_dir={tmp_path / 'run'}", "episodes=400", "env.name=pastures:tiring", "env.restarts=0"
        ),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(
        rf"error: the environment failed: environment \d+, {line} \(after 0 restarts.*\)\n", done.stderr
    )


def own_mounts() -> bool:
    """Whether a process may have a /dev/shm of its own here."""
    return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not own_mounts(), reason="needs the right to mount a small /dev/shm")
def test_a_full_dev_shm_is_one_line(tmp_path):
    train = command("train", *SMALL, "env.name=pastures:pasture", f"run_dir={tmp_path / 'run'}")
    small = 'mount -t tmpfs -o size=4k tmpfs /dev/shm && head -c 4096 /dev/zero > /dev/shm/full && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", small, "sh", *train],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: environment workers cannot be started: OSError [Errno 28]")
    assert "; free /dev/shm" in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
