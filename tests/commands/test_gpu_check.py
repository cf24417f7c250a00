"""The check for a GPU, run dry on the CPU."""

import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qmix_jax.bench.process import ProcessError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    return importlib.import_module("gpu_check")


def test_every_part_runs_dry(script, tmp_path, capfd):
    script.main(["dry=true", f"out={tmp_path}"])
    report = json.loads((tmp_path / "gpu_check.json").read_text())
    assert list(report) == ["tests", "bench", "precision", "mapping", "capacity", "profile", "learn"]
    assert "passed" in report["tests"]["result"]
    assert "bench.seeds=[1,8,64]" in report["bench"]["command"]
    assert [row["what"] for row in report["mapping"]["rows"]] == ["2 seeds by vmap", "2 seeds, one after the other"]
    (row,) = report["capacity"]["rows"]
    assert (row["seeds"], row["fits"]) == (2, "yes")
    assert float(row["estimated GB"]) > 0
    assert float(row["peak GB"]) > 0
    assert sum(float(row["share"].rstrip("%")) for row in report["profile"]["rows"]) <= 100.5
    assert "total_env_steps=10000000" in report["learn"]["result"]
    assert "num_seeds=5" in report["learn"]["result"]
    page = (tmp_path / "gpu_check.md").read_text()
    assert all(f"## {name} (" in page for name in report)
    assert "report=" in capfd.readouterr().out


def test_seeds_are_doubled_until_they_do_not_fit_and_then_the_middle_is_tried(script, monkeypatch):
    tried = []

    def measure(_, seeds: int) -> dict[str, Any]:
        tried.append(seeds)
        if seeds > 50:
            raise ProcessError("worker ended\nConfigError: memory" if seeds > 60 else "worker ended\nOut of memory")
        return {"peak_device_bytes": 2e9, "estimated_bytes": 3e9, "speed": "1"}

    monkeypatch.setattr(script, "_measure", measure)
    found = script.capacity(script.Settings())
    assert tried == [8, 16, 32, 64, 48]
    assert found["largest number of seeds that was seen to fit"] == 48
    assert found["rows"][3]["fits"] == "refused by the estimate"
    assert (found["rows"][0]["estimated GB"], found["rows"][0]["peak GB"]) == ("3.00", "2.00")


def test_kernels_are_added_up_over_devices(script):
    profile = importlib.import_module("gpu_profile")

    def plane(name: str, line: str, *events: tuple[str, int]) -> Any:
        made = [SimpleNamespace(name=event, duration_ns=time) for event, time in events]
        return SimpleNamespace(name=name, lines=[SimpleNamespace(name=line, events=made)])

    data = SimpleNamespace(
        planes=[
            plane("/device:GPU:0", "Stream #1", ("gemm", 2_000_000), ("copy", 1_000_000), ("gemm", 2_000_000)),
            plane("/device:GPU:1", "Stream #1", ("gemm", 3_000_000)),
            plane("/host:CPU", "python", ("main", 90_000_000)),
        ]
    )
    assert profile.kernels(data) == [
        {"kernel": "gemm", "calls": 3, "ms": "7.00", "share": "87.5%"},
        {"kernel": "copy", "calls": 1, "ms": "1.00", "share": "12.5%"},
    ]


def test_a_part_that_fails_does_not_stop_the_others(script, monkeypatch, tmp_path, capsys):
    def fail(_) -> dict[str, Any]:
        raise ProcessError("broken")

    monkeypatch.setitem(script.PARTS, "tests", fail)
    monkeypatch.setitem(script.PARTS, "mapping", lambda _: {"rows": []})
    with pytest.raises(SystemExit, match="1"):
        script.main(["only=tests,mapping", f"out={tmp_path}"])
    assert "failed=tests" in capsys.readouterr().out
    assert json.loads((tmp_path / "gpu_check.json").read_text())["tests"]["failed"] == "broken"


def test_what_runs_elsewhere_is_told_whole_paths_and_keeps_records_of_its_own(script, monkeypatch, tmp_path):
    commands = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(script, "run", lambda command, **_: commands.append(command) or "")
    settings = script.Settings(out="here", peer="../JaxMARL", peer_python="python3")
    script.learn(settings)
    for name, command in zip(("run", "record"), commands, strict=True):
        assert command[2] == name
        assert f"folder={tmp_path / 'here/benchmark'}" in command
        assert f"records={tmp_path / 'here/records'}" in command
    told = script.bench_command(settings)
    assert f"bench.output={tmp_path / 'here/bench'}" in told
    assert f"bench.peer={tmp_path / '../JaxMARL'}" in told
    assert "bench.peer_python=python3" in told
    own = script.bench_command(script.Settings(peer="../JaxMARL", peer_python=".venv/bin/python"))
    assert f"bench.peer_python={tmp_path / '.venv/bin/python'}" in own


@pytest.mark.parametrize(("argument", "word"), [("only=profil", "profile"), ("dry=maybe", "dry=maybe")])
def test_bad_input_is_one_line(script, argument, word, capsys):
    with pytest.raises(SystemExit, match="2"):
        script.main([argument])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert word in lines[0]


def test_the_tests_that_it_runs_are_there(script):
    for name in (*script.TESTS, *script.DRY_TESTS):
        assert (ROOT / name).exists(), name
