"""What W&B gets beside numbers: pictures, tables, a video, policies, and where a run was made."""

import json
from pathlib import Path

import numpy as np
import pytest
import wandb
from PIL import Image
from wandb_record import records

from qmix_jax.logging import EpochMetrics, FileSink, RunInfo, WandbSink
from qmix_jax.logging.wandb_files import evaluations

LANES = ("seed_0", "seed_1")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunInfo:
    """A run's folder as it is when training has ended."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_ERROR_REPORTING", "WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.setenv(name, "")  # so that what the sink sets is undone
        monkeypatch.delenv(name)
    folder = tmp_path / "my run"
    for name in LANES:
        (folder / "policies" / name).mkdir(parents=True)
        for which in ("best", "final"):
            (folder / "policies" / name / f"{which}.json").write_text(json.dumps({"which": which}))
            (folder / "policies" / name / f"{which}.safetensors").write_bytes(f"{name} {which}".encode())
    for name in ("curves.png", "episode.gif"):
        Image.new("RGB", (4, 4)).save(folder / name)
    return RunInfo(folder, {"gamma": 0.99}, [0, 1], 20, "qmix", "toy", has_win_rate=False, git_commit="0123abcd" * 5)


def log_two_epochs(run: RunInfo, interrupted: bool = False, **options: bool) -> dict[str, list]:
    """Train for two epochs as far as the sinks can tell; returns the records of each W&B run."""
    files, sink = FileSink(), WandbSink("offline", "project", "mine", warn=pytest.fail, **options)
    for each in (files, sink):
        each.start(run)
    for number in (1, 2):
        steps = np.full(2, 10 * number)
        rows = {"env_steps": steps, "eval_return": np.array([1.0, 2.0]), "eval_win_rate": np.full(2, np.nan)}
        for each in (files, sink):
            each.log(EpochMetrics(number, steps, number, float(number), rows))
    sink.finish({"evaluation": {"return": [1.0, 2.0]}, "interrupted": interrupted})
    for each in (files, sink):
        each.close()
    wandb.teardown()  # its service may still be writing when a run has finished
    return {
        file.stem.partition("-")[2].partition("-")[2] or "aggregate": records(file)
        for file in (run.run_dir / "wandb").glob("offline-run-*/*.wandb")
    }


def test_the_aggregate_has_pictures_table_video_and_where_it_was_made(run, tmp_path):
    found = log_two_epochs(run)
    kinds = {name: {record.WhichOneof("record_type") for record in own} for name, own in found.items()}
    assert "stats" not in kinds["seed_0"]
    assert "environment" not in kinds["seed_0"]
    assert not any("artifact" in own for name, own in kinds.items() if name != "aggregate")
    keys = {item.nested_key[0] for record in found["aggregate"] for item in record.history.item if item.nested_key}
    assert {"curves", "episode", "evaluations", "eval_return"} <= keys
    assert "sweep" not in keys
    steps = [
        item.value_json for record in found["aggregate"] for item in record.history.item if "_step" in item.nested_key
    ]
    assert steps == ["1", "2"], "pictures belong to the last epoch, so that a resumed run goes on with the next"
    about = [record.environment for record in found["aggregate"] if record.HasField("environment")]
    assert about[0].git.commit == run.git_commit
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("interrupted", [False, True])
def test_runs_that_ended_too_early_are_no_successes(run, interrupted):
    (found,) = log_two_epochs(run, interrupted, each=False).values()
    assert [each.exit.exit_code for each in found if each.HasField("exit")] == [int(interrupted)]


def test_without_system_nothing_is_said_about_the_machine(run):
    for own in log_two_epochs(run, system=False).values():
        assert not {"environment", "stats"} & {record.WhichOneof("record_type") for record in own}
        assert not any(record.run.git.commit for record in own)


def test_policies_are_artifacts_of_their_seeds(run):
    found = log_two_epochs(run, artifacts=True)
    for name in LANES:
        own = [record.artifact for record in found[name] if record.HasField("artifact")]
        assert [(artifact.name, artifact.type) for artifact in own] == [(f"my-run-{name}", "policy")] * 2
        assert ["best" in own[0].aliases, "final" in own[1].aliases] == [True, True]
        assert {entry.path for entry in own[0].manifest.contents} == {"policy.json", "policy.safetensors"}


def test_the_table_has_only_columns_with_values(run):
    log = FileSink()
    log.start(run)
    rows = {"eval_return": np.array([1.0, 2.0]), "eval_win_rate": np.full(2, np.nan)}
    log.log(EpochMetrics(1, np.array([10, 11]), 1, 0.5, rows))
    log.close()
    columns, lines = evaluations(run.run_dir)
    assert columns == ["seed", "env_steps", "seconds", "eval_return"]
    assert lines == [[0, 10, 0.5, 1.0], [1, 11, 0.5, 2.0]]
