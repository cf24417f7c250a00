"""experiments/hosted.py: every case is a command that can be run, and what it reports is what the runs say."""

import json
import sys
from pathlib import Path

import pytest

from qmix_jax.errors import ConfigError
from qmix_jax.settings.command_line import check

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hosted(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    import hosted

    monkeypatch.setattr(hosted, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(hosted, "OUT", tmp_path / "out")
    yield hosted
    sys.modules.pop("hosted", None)


def test_every_case_can_be_run(hosted):
    for name in hosted.CASES:
        check(hosted.settings(name))
    for task in hosted.SPEED_TASKS:
        for sizes in hosted.SPEED_SIZES:
            check(hosted.speed_settings(task, *sizes))


def write(folder: Path, returns: list[float], interrupted: bool = False) -> None:
    folder.mkdir(parents=True)
    summary = {"interrupted": interrupted, "env_steps": 1000 * len(returns)}
    (folder / "summary.json").write_text(json.dumps(summary))
    rows = [
        {"seed": 0, "env_steps": 1000 * (at + 1), "seconds": 2.0 * at, "eval_return": value}
        for at, value in enumerate(returns)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_report_is_of_the_finished_runs(hosted, capsys):
    write(hosted.RUNS / "lbf-8x8-2p-3f-vdn_seed0", [0.25, 0.875, 0.75])
    write(hosted.RUNS / "spread-mpe2-qmix_seed3", [-400.0, -380.0])
    hosted.main("list")
    assert "lbf-8x8-2p-3f-vdn 0\n" in capsys.readouterr().out
    hosted.main("report")
    said = capsys.readouterr().out
    assert "| lbf-8x8-2p-3f-vdn | 1 | 3,000 | 0.75 | 0.88 |  |" in said
    assert "| spread-mpe2-qmix | 1 | 2,000 | -380.00 | -380.00 | -126.6 x 3 |" in said
    assert json.loads((hosted.OUT / "results.json").read_text())["cases"].keys() == {
        "lbf-8x8-2p-3f-vdn",
        "spread-mpe2-qmix",
    }
    assert (hosted.OUT / "curves.png").stat().st_size > 1000


def test_a_run_that_was_interrupted_is_resumed_and_not_reported(hosted, monkeypatch, capsys):
    write(hosted.RUNS / "spread-jax-vdn_seed0", [-400.0])
    write(hosted.RUNS / "spread-jax-vdn_seed1", [-400.0], interrupted=True)
    hosted.main("list")
    assert "spread-jax-vdn 0\n" in capsys.readouterr().out
    trained = []
    monkeypatch.setattr(hosted, "train", lambda *arguments: trained.append(arguments))
    for seed in ("0", "1"):
        hosted.main("run", seed, "spread-jax-vdn", "steps=1000")
    assert [{"seed=1", "resume=true"} <= set(arguments) for arguments in trained] == [True]


def test_versions_in_jax_are_drawn_beside_the_hosted_ones(hosted):
    assert set(hosted.IN_JAX) | set(hosted.IN_JAX.values()) <= set(hosted.TASKS)
    assert "rollout.overlap=true" in hosted.settings("lbf-8x8-2p-3f-qmix")
    assert "rollout.overlap=true" not in hosted.settings("jumanji-8x8-2p-3f-qmix")


def test_a_bare_loop_is_timed_in_this_process(hosted):
    env = hosted.make_algorithm([*hosted.TASKS["lbf-8x8-2p-3f"], "rollout.num_envs=1"])[0].env
    assert all(rate > 0 for rate in hosted.bare_loop(env, 60))


def test_speed_is_the_median_of_the_epochs_after_the_first_two(hosted):
    times = [0.0, 50.0, 51.0, 61.0, 63.0]
    rows = [{"env_steps": 1000 * at, "seconds": seconds} for at, seconds in enumerate(times)]
    assert hosted.steps_per_second(rows) == 500


def test_a_case_that_is_none_is_one_line(hosted):
    with pytest.raises(ConfigError, match="case=lbf-8x8-2p-3f-vdm: unknown; did you mean 'lbf-8x8-2p-3f-vdn'"):
        hosted.main("run", "0", "lbf-8x8-2p-3f-vdm")


def test_a_run_that_was_shorter_than_asked_for_goes_on(hosted, monkeypatch):
    write(hosted.RUNS / "spread-jax-vdn_seed0", [-400.0, -300.0])
    trained = []
    monkeypatch.setattr(hosted, "train", lambda *arguments: trained.append(arguments))
    hosted.main("run", "0", "spread-jax-vdn", "steps=2000")
    assert not trained
    hosted.main("run", "0", "spread-jax-vdn", "steps=3000")
    assert {"total_env_steps=3000", "resume=true"} <= set(trained[0])
