"""The command line ``python -m qmix_jax.compare``."""

import json
import re
import shlex
from pathlib import Path

import pytest
from compared_runs import write_run

from qmix_jax import compare
from qmix_jax.results.comparison import watch

ROOT = Path(__file__).parents[2]


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit, match="2"):
        compare.main(arguments)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_runs_are_compared(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs" / "a", level=0.9)
    write_run(tmp_path / "runs" / "b", "vdn", level=0.4)
    compare.main(["runs", "by=algorithm,env.scenario", "title=two runs"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("method=qmix env=smax-3m metric=eval_win_rate seeds=4 iqm=0.")
    assert lines[1].startswith("method=vdn")
    assert lines[-1] == "report=report/report.html"
    assert "two runs" in (tmp_path / "report" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no runs given"),
        (["nowhere"], "nowhere: no such file or folder"),
        (["empty"], "empty: no runs found"),
        (["run", "by=optimizer.learning_rat"], "did you mean optimizer.learning_rate?"),
        (["run", "by=algoritm"], "did you mean algorithm"),
        (["run", "by=optimizer.lr"], "by=optimizer.lr: no run has this key; did you mean optimizer.learning_rate?"),
        (["run", "out=run/config.json"], "out=run/config.json: cannot be made"),
        (["run/config.json"], "; did you mean run?"),
        (["run", "--wach"], "--wach: unknown option; did you mean --watch?"),
        (["run", "by="], "by=: is empty"),
        (["run", "metric=eval_wins"], "metric=eval_wins: no run has a value"),
        (["run", "score=last"], "score=last"),
        (["run", "threshold=high"], "threshold=high: must be a number"),
        (["run", "at=10"], "at=10.0: no run came as far"),
        (["run", "runs=x"], "runs=x: unknown key"),
        (["a" * 300], "aaa: no such file or folder"),
        (["run", f"out={'a' * 300}"], "a name in it is too long"),
        (["run", "outt=x"], "did you mean out?"),
        (["run", "out=file/below"], "out=file/below: cannot be made"),
    ],
)
def test_bad_input_is_one_line(arguments, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert words in refused(arguments, capsys)


DAMAGE = {
    "config.json": (b"{", "config.json: cannot be read"),
    "metrics.jsonl": (b"\xff\xfe\n", "metrics.jsonl: line 1 is damaged"),
    "summary.json": (b"[]", "summary.json: is damaged"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_run_is_one_line_or_left_out(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs" / "whole", level=0.9)
    damaged = write_run(tmp_path / "runs" / "damaged", "vdn")
    content, words = DAMAGE[name]
    (damaged / name).write_bytes(content)
    line = refused(["runs"], capsys)
    assert f"runs/damaged/{words}" in line
    assert line.endswith("skip_damaged=true compares the others")
    assert not (tmp_path / "report").exists()
    compare.main(["runs", "skip_damaged=true"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"note: left out: runs/damaged/{words}")
    assert [line.split()[0] for line in lines if line.startswith("method=")] == ["method=qmix"]
    assert f"left out: runs/damaged/{words}" in (tmp_path / "report" / "report.html").read_text()
    assert "whole" not in refused(["runs/damaged", "skip_damaged=true"], capsys)


@pytest.mark.parametrize("name", ["notes.txt", "table.csv", "other.json"])
def test_a_file_that_holds_no_run_is_one_line_or_left_out(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run")
    (tmp_path / name).write_bytes(b"\x00\xff, no table\n")
    assert name in refused(["run", name], capsys)
    compare.main(["run", name, "skip_damaged=true"])
    assert f"note: left out: {name}: " in capsys.readouterr().out


def test_one_curve_of_several_environments_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs" / "a")
    config = write_run(tmp_path / "runs" / "b", first_seed=4) / "config.json"
    config.write_text(config.read_text().replace('"max_steps": 100', '"max_steps": 60'))
    write_run(tmp_path / "runs" / "c", env="2s3z")
    line = refused(["runs", "by=algorithm"], capsys)
    assert "the curve of qmix on smax-3m would mix environments that differ in env.max_steps (100, 60)" in line
    assert line.endswith("use by=algorithm,env.max_steps")
    compare.main(["runs", "by=algorithm,env.max_steps"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("method=")]
    assert [re.findall(r"env=(.*) metric=", line)[0] for line in lines] == [
        "smax-2s3z",
        '"smax-3m max_steps=100"',
        '"smax-3m max_steps=60"',
    ]


@pytest.mark.parametrize("text", [compare.USAGE, (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")])
def test_documented_commands_are_understood(text):
    commands = re.findall(r"^ *python -m qmix_jax.compare (.*)$", text, re.MULTILINE)
    assert len(commands) >= 3
    for command in commands:
        assert compare.parse(shlex.split(command))[0]


def test_help(capsys):
    compare.main(["--help"])
    assert "skip_damaged" in capsys.readouterr().out


def test_the_page_is_written_again_while_runs_go_on(tmp_path, capsys, monkeypatch):
    run = write_run(tmp_path / "run", finished=False)

    def wait(_: float) -> None:
        if (run / "summary.json").exists():
            raise AssertionError("waits though every run has ended")
        (run / "summary.json").write_text(json.dumps({"env": "smax-3m"}))

    monkeypatch.setattr(watch.time, "sleep", wait)
    compare.main([str(run), "--watch", "every=3", f"out={tmp_path / 'report'}"])
    assert capsys.readouterr().out.count("report=") == 2
    assert 'http-equiv="refresh" content="3"' in (tmp_path / "report" / "report.html").read_text()


def test_watching_waits_for_a_folder_that_is_not_there_yet(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(watch.time, "sleep", lambda _: write_run(tmp_path / "run"))
    compare.main([str(tmp_path / "run"), "--watch", f"out={tmp_path / 'report'}"])
    told = capsys.readouterr()
    assert "no such file or folder; trying again" in told.err
    assert told.out.count("report=") == 1
