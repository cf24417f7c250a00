"""The scripts of experiments/speed, on the smallest environment; that each names what it measures and measures it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SIZES = ["rollout.num_envs=2", "replay.capacity=40", "replay.batch_size=4", "learner.warmup_env_steps=0"]
SMALL = ["env=two_step", *SIZES]


def run(script: str, *arguments: str, settings: tuple[str, ...] = tuple(SMALL), before: tuple[str, ...] = ()) -> str:
    command = [*before, sys.executable, str(ROOT / "experiments" / "speed" / script), *arguments, *settings]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="taskset")
def test_pieces_of_an_update(tmp_path):
    file = tmp_path / "rows.jsonl"
    table = run("update_time.py", "--rounds", "1", "--save", str(file), before=("taskset", "-c", "0"))
    record = json.loads(file.read_text(encoding="utf-8"))
    rows = record["rows"]
    assert all(row["milliseconds"] > 0 for row in rows.values())
    assert all(f"| {name} | " in table for name in rows)
    # A sequence of 3 slots, 4 of them, 2 agents: 24 rows of 64 units through kernels of 64 x 192, twice.
    assert rows["GRU, forward"]["flop"] == 2 * 2 * 24 * 64 * 192
    assert rows["GRU, backward"]["flop"] >= 5 * 2 * 24 * 64 * 192
    assert rows["whole update"]["flop"] > 3 * rows["GRU, forward"]["flop"]


def test_parts_of_a_start(tmp_path):
    file = tmp_path / "parts.jsonl"
    table = run("start_time.py", "--save", str(file))
    parts = json.loads(file.read_text(encoding="utf-8"))["parts"]
    assert sum(wall for name, (wall, _) in parts.items() if name != "all") == pytest.approx(parts["all"][0])
    assert "\n1 updates" in table or "\n8 updates" in table


@pytest.mark.slow
def test_scaling(tmp_path):
    file = tmp_path / "points.jsonl"
    arguments = ("--seeds", "1,2", "--scenarios", "3m", "--env-steps", "64", "--save", str(file), "rollout.length=8")
    run("scaling.py", *arguments, settings=tuple(SIZES))
    points = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [point["seeds"] for point in points] == [1, 2]
    assert all(point["steps"] > 0 and point["program"] > 0 for point in points)
