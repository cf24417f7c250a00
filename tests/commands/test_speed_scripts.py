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


@pytest.mark.skipif(sys.platform != "linux", reason="taskset")
def test_operations_of_an_update(tmp_path):
    file = tmp_path / "rows.jsonl"
    table = run("fusions.py", "--rows", "5", "--calls", "2", "--save", str(file), before=("taskset", "-c", "0"))
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    milliseconds = [row["milliseconds"] for row in rows]
    assert milliseconds == sorted(milliseconds, reverse=True)
    assert all(f"| {row['name']} | {row['origin']} | " in table for row in rows[:5])
    assert any(row["origin"].startswith("gru_unroll:") for row in rows)
    # The target network's unroll and the online one's with its gradient: seven products of 24 rows and [64, 192].
    of_gru = sum(row["flop"] for row in rows if row["origin"].startswith(("gru_unroll:", "_gates:", "_project.")))
    assert of_gru > 7 * 2 * 24 * 64 * 192


def test_flop_and_bytes_are_counted_from_shapes():
    sys.path.insert(0, str(ROOT / "experiments" / "speed"))
    try:
        import program_text
    finally:
        sys.path.pop(0)
    text = """
FileNames
1 "/home/someone/qmix_jax/networks/gru.py"
2 "/usr/lib/python3/site-packages/jax/numpy.py"

FunctionNames
1 "gru.<locals>.step"
2 "dot"

FileLocations
1 {file_name_id=1 function_name_id=1 line=66 end_line=66 column=1 end_column=2}
2 {file_name_id=2 function_name_id=2 line=5 end_line=5 column=1 end_column=2}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}

%fused (p0: f32[10,4], p1: f32[4,8], p2: s32[]) -> f32[10,8] {
  %p0 = f32[10,4]{1,0} parameter(0)
  %p2 = s32[] parameter(2)
  %part = f32[2,4]{1,0} dynamic-slice(%p0, %p2, %p2), dynamic_slice_sizes={2,4}
  %p1 = f32[4,8]{1,0} parameter(1)
  %product = f32[2,8]{1,0} dot(%part, %p1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %out = f32[2,8]{1,0} tanh(%product)
}

%put (p0.1: f32[10,8], p1.1: f32[2,8], p2.1: s32[]) -> f32[10,8] {
  %p0.1 = f32[10,8]{1,0} parameter(0)
  %p1.1 = f32[2,8]{1,0} parameter(1)
  %p2.1 = s32[] parameter(2)
  ROOT %changed = f32[10,8]{1,0} dynamic-update-slice(%p0.1, %p1.1, %p2.1, %p2.1)
}

ENTRY %main (a: f32[10,4], b: f32[4,8], c: s32[], d: f32[10,8]) -> f32[10,8] {
  %a = f32[10,4]{1,0} parameter(0)
  %b = f32[4,8]{1,0} parameter(1)
  %c = s32[] parameter(2)
  %d = f32[10,8]{1,0} parameter(3)
  %f = f32[2,8]{1,0} fusion(%a, %b, %c), kind=kLoop, calls=%fused, metadata={op_name="x" stack_frame_id=2}
  ROOT %g = f32[10,8]{1,0} fusion(%d, %f, %c), kind=kLoop, calls=%put
}
"""
    found, origins = program_text.parsed(text), program_text.Origins(text)
    computed, put = found["main"]["f"], found["main"]["g"]
    assert origins.of(computed) == "gru.step:66"
    assert origins.of(put) == ""
    assert program_text.flop(computed, found["main"], found) == 2 * 2 * 8 * 4 + 2 * 8
    assert program_text.flop(put, found["main"], found) == 0
    assert program_text.moved(computed, found["main"], found) == 4 * (2 * 4 + 4 * 8 + 1 + 2 * 8)
    assert program_text.moved(put, found["main"], found) == 4 * (2 * 8 + 1 + 2 * 8)


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
