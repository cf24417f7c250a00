"""The sinks: what ends up on the screen, in metrics.jsonl and with W&B."""

import errno
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import wandb
from rich.console import Console

from qmix_jax.logging import ConsoleSink, EpochMetrics, FileSink, RunInfo, Sinks, WandbSink, strict_json, write_json
from qmix_jax.logging.bar import _short
from qmix_jax.logging.console import progress_line, result_rows
from qmix_jax.logging.files import METRICS_FILE, Unsaved, read_rows
from qmix_jax.logging.wandb import aggregate_metrics, lane_metrics, part_config, parts
from qmix_jax.settings.cells import Cell, Lane, lanes

TOTAL = 1000
SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"
SUMMARY = {
    "algorithm": "qmix",
    "env": "smax/3m",
    "seeds": [3, 4],
    "evaluation": {"return": [18.0, 20.0], "win_rate": [0.9, 1.0], "episode_length": [22.0, 24.0]},
    "best": {"return": [19.0, 20.0], "win_rate": [0.95, 1.0], "episode_length": [21.0, 24.0], "env_steps": [900, 1000]},
}


def run_info(run_dir: Path, **changes) -> RunInfo:
    run = RunInfo(
        run_dir=run_dir,
        config={"gamma": 0.99, "env": {"scenario": "3m"}},
        seeds=[3, 4],
        total_env_steps=TOTAL,
        algorithm="qmix",
        env="smax/3m",
        has_win_rate=True,
    )
    return run._replace(**changes)


def epoch(number: int, **rows) -> EpochMetrics:
    values = {"loss": [0.5, 0.25], "epsilon": [0.1, 0.1], "eval_return": [12.0, 13.0], "eval_win_rate": [0.5, 0.75]}
    return EpochMetrics(
        epoch=number,
        env_steps=np.full(2, number * 10),
        updates=number * 3,
        seconds=number * 2.0,
        rows={name: np.asarray(value, np.float32) for name, value in (values | rows).items()},
    )


class Clock:
    """A clock that only moves when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def plain() -> ConsoleSink:
    return ConsoleSink(Console(file=io.StringIO(), force_terminal=False, width=60), Clock())


@pytest.fixture
def terminal(monkeypatch) -> ConsoleSink:
    monkeypatch.setenv("TERM", "xterm-256color")
    return ConsoleSink(Console(file=io.StringIO(), force_terminal=True, width=80, height=24))


def output(sink: ConsoleSink) -> str:
    assert isinstance(sink.console.file, io.StringIO)
    return sink.console.file.getvalue()


def without_escapes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def test_off_a_terminal_there_is_one_plain_line_a_tenth(plain, tmp_path):
    plain.start(run_info(tmp_path))
    with plain.compiling():
        plain._clock.now += 12.0
    for number in range(1, 101):
        plain.log(epoch(number))
    plain.finish(SUMMARY)
    lines = output(plain).splitlines()
    assert lines[:2] == ["phase=compiling state=started", "phase=compiling state=done seconds=12.0"]
    progress = [line for line in lines if line.startswith("env_steps=")]
    assert [line.split()[0] for line in progress] == [f"env_steps={steps}" for steps in (10, *range(100, 1001, 100))]
    assert all(re.fullmatch(r"\w+=\S+( \w+=\S+)*", line) for line in lines)
    assert output(plain).replace("\n", "").isprintable()


def test_counts_have_three_digits():
    counts = [999, 999.6, 1049, 999_499, 999_936, 1_049_000, 999_700_000]
    assert [_short(count) for count in counts] == ["999", "1k", "1.05k", "999k", "1M", "1.05M", "1G"]


@pytest.mark.parametrize("width", [40, 60])
def test_a_narrow_terminal_shows_every_number(monkeypatch, tmp_path, width):
    monkeypatch.setenv("TERM", "xterm-256color")
    sink = ConsoleSink(Console(file=io.StringIO(), force_terminal=True, width=width, height=24))
    sink.start(run_info(tmp_path))
    sink.log(epoch(25))
    sink.finish({**SUMMARY, "evaluation": {**SUMMARY["evaluation"], "return": [-12345.678, 2.0]}})
    seen = without_escapes(output(sink))
    assert "…" not in seen
    for text in ("250/1k steps 2:30 left", "10 steps/s", "-12345.68"):
        assert text in seen


def test_off_a_terminal_a_line_comes_at_least_every_thirty_seconds(plain, tmp_path):
    plain.start(run_info(tmp_path, total_env_steps=10**9))
    for number in range(1, 11):
        plain.log(epoch(number))
        plain._clock.now += 10.0
    assert output(plain).count("env_steps=") == 2 * 4  # each line also has total_env_steps


def test_a_progress_line_has_means_and_leaves_out_what_is_not_available(tmp_path):
    line = progress_line(epoch(10, eval_win_rate=[np.nan, np.nan], eval_return=[np.nan, 7.0]), run_info(tmp_path))
    assert line == (
        "env_steps=100 total_env_steps=1000 seconds=20.0 seconds_left=180 steps_per_second=10 "
        "loss=0.375 epsilon=0.1 eval_return=7"
    )


def test_a_terminal_shows_compilation_the_bar_and_a_table(terminal, tmp_path):
    terminal.start(run_info(tmp_path))
    with terminal.compiling():
        pass
    terminal.message("a note [with brackets]")
    terminal.log(epoch(25))
    terminal.log(epoch(50, eval_win_rate=[np.nan, np.nan]))
    terminal.finish(SUMMARY)
    seen = without_escapes(output(terminal))
    for text in ("compiling (0.", "a note [with brackets]", "500/1k env steps", "10 steps/s", "1:40 left"):
        assert text in seen
    bar = seen[seen.rindex("epsilon") :]
    assert "return 12.50" in bar
    assert "win rate 62%" in bar, "an epoch without an evaluation keeps the last one on display"
    assert "qmix on smax/3m" in seen
    assert re.search(r"mean\s+19\.00\s+0\.950\s+23\.00\s+19\.50\s+0\.975\s+22\.50", seen)


def test_the_bar_leaves_out_a_win_rate_that_the_environment_has_not(terminal, tmp_path):
    terminal.start(run_info(tmp_path, has_win_rate=False))
    terminal.log(epoch(1))
    terminal.close()
    assert "win rate" not in output(terminal)


def test_an_interrupt_leaves_the_terminal_clean(terminal, tmp_path):
    def train() -> None:
        with Sinks([terminal]) as sinks:
            sinks.start(run_info(tmp_path))
            sinks.log(epoch(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    text = output(terminal)
    assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)


def test_a_failed_compilation_leaves_no_bar_behind(terminal, tmp_path):
    terminal.start(run_info(tmp_path))

    def compile_something() -> None:
        with terminal.compiling():
            raise MemoryError("too large")

    with pytest.raises(MemoryError, match="too large"):
        compile_something()
    text = output(terminal)
    assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)
    assert "env steps" not in text


def test_a_reader_that_goes_away_ends_the_output_and_not_the_run():
    script = """
from qmix_jax.logging import ConsoleSink
sink = ConsoleSink()
for line in range(10_000):
    sink.message(f"line {line}")
print("and something else")
raise SystemExit(7)
"""
    command = [sys.executable, "-c", script]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 7


def test_a_table_without_win_rate_has_no_such_column():
    no_wins = SUMMARY | {key: SUMMARY[key] | {"win_rate": None} for key in ("evaluation", "best")}
    rows = result_rows(no_wins)
    assert [row["seed"] for row in rows] == ["3", "4", "mean"]
    assert list(rows[0]) == ["seed", "return", "episode_length", "best_return", "best_episode_length"]


def test_every_epoch_and_seed_becomes_a_line_of_strict_json_at_once(tmp_path):
    run_dir = tmp_path / "run"
    sink = FileSink()
    sink.start(run_info(run_dir))
    sink.log(epoch(1, loss=[0.1, np.inf], eval_win_rate=[np.nan, 1.0]))
    sink.log(epoch(2))

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    text = (run_dir / "metrics.jsonl").read_text()
    rows = [json.loads(line, parse_constant=refuse) for line in text.splitlines()]
    sink.close()
    sink.close()
    assert [(row["epoch"], row["seed"], row["env_steps"], row["updates"]) for row in rows] == [
        (1, 3, 10, 3),
        (1, 4, 10, 3),
        (2, 3, 20, 6),
        (2, 4, 20, 6),
    ]
    assert rows[0]["loss"] == 0.1
    assert rows[1]["loss"] is None
    assert rows[0]["eval_win_rate"] is None
    assert rows[1]["eval_win_rate"] == 1.0


def test_json_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "x.json").mkdir()
    with pytest.raises(IsADirectoryError):
        write_json(tmp_path / "x.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_json_is_strict_all_the_way_down(tmp_path):
    value = {
        "none": None,
        "yes": True,
        "path": tmp_path,
        "numbers": (np.int32(3), np.float32(0.1), np.float64(0.1), float("nan")),
        "array": np.array([[1.5, -np.inf]]),
        "scalar": np.array(2),
        "truth": np.bool_(True),
    }
    write_json(tmp_path / "value.json", value)
    assert [path.name for path in tmp_path.iterdir()] == ["value.json"]
    assert json.loads((tmp_path / "value.json").read_text()) == {
        "none": None,
        "yes": True,
        "path": str(tmp_path),
        "numbers": [3, 0.1, 0.1, None],
        "array": [[1.5, None]],
        "scalar": 2,
        "truth": True,
    }
    with pytest.raises(TypeError, match="set has no form in JSON"):
        strict_json({1, 2})


def test_what_a_full_disk_refuses_comes_with_the_next_epoch(tmp_path, capsys):
    class FullDisk:
        """Takes three bytes, then none, until there is room again."""

        def __init__(self, file) -> None:
            self.file, self.left, self.closed = file, 3, False

        def write(self, content: bytes) -> int:
            if not self.left:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = self.file.write(content[: self.left])
            self.left -= written
            return written

        def close(self) -> None:
            self.file.close()

    unsaved = Unsaved()
    sink = FileSink(unsaved)
    sink.start(run_info(tmp_path))
    sink._file = disk = FullDisk(sink._file)  # pyright: ignore[reportAttributeAccessIssue]
    sink.log(epoch(1))
    sink.log(epoch(2))
    assert unsaved.names == {METRICS_FILE}
    warned = "warning: could not save metrics.jsonl, the run goes on: No space left on device\n"
    assert capsys.readouterr().err == warned
    disk.left = 10**6
    sink.log(epoch(3))
    sink.close()
    assert not unsaved.names
    assert [row["epoch"] for row in read_rows(tmp_path / METRICS_FILE)] == [1, 1, 2, 2, 3, 3]


def test_closing_several_sinks_reaches_all_of_them():
    closed = []

    class Broken(FileSink):
        def close(self) -> None:
            closed.append("broken")
            raise OSError("disk full")

    class Fine(FileSink):
        def close(self) -> None:
            closed.append("fine")

    with pytest.raises(OSError, match="disk full"):
        Sinks([Fine(), Broken()]).close()
    assert closed == ["broken", "fine"]


def test_wandb_gets_of_a_seed_what_is_available():
    rows = epoch(2, eval_return=[np.nan, 4.0])
    assert "eval_return" not in lane_metrics(rows, 0)
    assert lane_metrics(rows, 1) == {
        "loss": 0.25, "epsilon": 0.1, "eval_return": 4.0, "eval_win_rate": 0.75, "updates": 6, "seconds": 4.0,
        "steps_per_second": 10.0,
    }  # fmt: skip


def test_the_aggregate_has_interquartile_means_intervals_and_extremes():
    flat = aggregate_metrics(epoch(2, train_return=[np.nan, np.nan]), lanes(0, [3, 4]))
    assert (flat["env_steps"], flat["updates"], flat["loss"], flat["steps_per_second"]) == (20, 6, 0.375, 10)
    assert flat["eval_return"] == 12.5
    assert [flat[f"eval_return/{name}"] for name in ("low", "high", "min", "max")] == [12.0, 13.0, 12.0, 13.0]
    assert not [name for name in flat if "train_return" in name]


def test_the_aggregate_of_a_sweep_has_each_cell_that_is_still_trained():
    two_cells = lanes(2, [5])
    flat = aggregate_metrics(epoch(2), two_cells)
    assert (flat["cell_0/eval_return"], flat["cell_1/eval_return"]) == (12.0, 13.0)
    assert "cell_0/eval_return/low" not in flat, "one seed has no interval"
    flat = aggregate_metrics(epoch(2)._replace(active=np.array([False, True])), two_cells)
    assert "cell_0/eval_return" not in flat
    assert flat["cell_1/loss"] == 0.25


def test_wandb_runs_and_their_configurations(tmp_path):
    cell = Cell({"gamma": 0.9}, {"gamma": 0.9, "seed": 0}, None)  # pyright: ignore[reportArgumentType]
    run = run_info(tmp_path, cells=[cell, cell], seeds=[7])
    found = parts(run.lanes, "mine", each=True)
    assert [part.name for part in found] == ["mine/cell_0/seed_7", "mine/cell_1/seed_7", "mine"]
    assert [part.job_type for part in found] == ["seed", "seed", "aggregate"]
    assert [part_config(part, run)["gamma"] for part in found] == [0.9, 0.9, 0.99]
    assert part_config(found[1], run) | {"gamma": 0} == {"gamma": 0, "cell": 1, "seed": 7, "num_seeds": 1}
    assert part_config(found[2], run)["cells"] == {"cell_0": {"gamma": 0.9}, "cell_1": {"gamma": 0.9}}
    assert [part.name for part in parts(run.lanes, "mine", each=False)] == ["mine"]
    (alone,) = parts([Lane(None, 7)], "mine", each=True)
    assert (alone.name, alone.lane) == ("mine", Lane(None, 7))


@pytest.fixture
def lonely_home(tmp_path, monkeypatch) -> Path:
    """A home folder without credentials, and nothing of W&B's in the environment."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_ERROR_REPORTING", "WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.setenv(name, "")  # so that what the sink sets is undone
        monkeypatch.delenv(name)
    return home


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_wandb_needs_no_account_and_stays_in_the_run_folder(mode, lonely_home, tmp_path, monkeypatch, capfd):
    if mode == "online":
        monkeypatch.setattr(wandb, "login", lambda **_: False)
    monkeypatch.setenv("A_TOKEN", "do-not-tell")
    warnings = []
    sink = WandbSink(mode, warn=warnings.append)
    sink.start(run_info(tmp_path / "run"))
    sink.log(epoch(1, eval_win_rate=[np.nan, np.nan]))
    sink.finish(SUMMARY)
    sink.close()
    wandb.teardown()  # its service may still be writing when a run has finished
    assert len(warnings) == (mode == "online")
    assert sink.location is not None
    records = sorted((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(records) == 3
    assert Path(sink.location) in [record.parent for record in records]
    for record in records:
        for text in (b"eval_return", b"final/win_rate", b"best/return", b"scenario"):
            assert text in record.read_bytes()
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not [path for path in files if b"do-not-tell" in path.read_bytes()]
    assert not list(lonely_home.rglob("*"))
    assert capfd.readouterr() == ("", "")


def test_wandb_leaves_no_warning_at_the_exit(tmp_path):
    """Its own temporary folders, made when it is imported, are cleaned up by finalisers that warn."""
    program = "import tempfile\nfrom qmix_jax.logging.wandb_files import leave_quietly\n"
    told = {}
    for ending in ("", "leave_quietly()"):
        command = [sys.executable, "-W", "error", "-c", f"{program}folder = tempfile.TemporaryDirectory()\n{ending}"]
        ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
        told[ending] = "Implicitly cleaning up" in ended.stderr
    assert told == {"": True, "leave_quietly()": False}


def test_wandb_that_cannot_start_is_told_once_and_does_not_stop_the_run(tmp_path, monkeypatch, lonely_home):
    def fail(**_) -> None:
        raise RuntimeError("no space left\nand a long story")

    monkeypatch.setattr(wandb, "init", fail)
    warnings = []
    sink = WandbSink(warn=warnings.append)
    sink.start(run_info(tmp_path))
    for number in range(3):
        sink.log(epoch(number))
    sink.finish(SUMMARY)
    sink.close()
    assert warnings == ["W&B could not start, the run goes on without it: RuntimeError: no space left"]
    assert sink.location is None


def test_wandb_that_breaks_in_the_middle_is_told_once_and_does_not_stop_the_run(tmp_path, monkeypatch, lonely_home):
    class BreaksAtTheSecondEpoch:
        url = "somewhere"
        settings = wandb.Settings()
        id = "one"
        logged = 0

        def define_metric(self, *_, **__) -> None: ...

        def log(self, _, step) -> None:
            self.logged += 1
            if self.logged == 2:
                raise ConnectionError("service is gone")

    broken = BreaksAtTheSecondEpoch()
    monkeypatch.setattr(wandb, "init", lambda **_: broken)
    warnings = []
    sink = WandbSink(warn=warnings.append)
    sink.start(run_info(tmp_path))
    for number in range(5):
        sink.log(epoch(number))
    sink.finish(SUMMARY)
    sink.close()
    assert broken.logged == 2, "the first epoch of the second run was the last thing"
    assert warnings == ["W&B stopped working, the run goes on without it: ConnectionError: service is gone"]


def test_wandb_disabled_does_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(wandb, "init", lambda **_: pytest.fail("W&B was started"))
    sink = WandbSink("disabled")
    sink.start(run_info(tmp_path))
    sink.log(epoch(1))
    sink.finish(SUMMARY)
    sink.close()
    assert not list(tmp_path.iterdir())
