"""The W&B report, checked against what an offline run really logs."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import wandb
from PIL import Image
from wandb_record import records

import qmix_jax
from qmix_jax import dashboard
from qmix_jax.algorithms import loop
from qmix_jax.logging import EpochMetrics, FileSink, RunInfo, WandbSink
from qmix_jax.logging.dashboard import SECTIONS, build_report, specification
from qmix_jax.settings.command_line import compose_config
from qmix_jax.settings.reading import to_container


@pytest.fixture(scope="module")
def metric_names() -> set[str]:
    """What an epoch of training returns."""
    algorithm, hyper = qmix_jax.make_algorithm(["env=two_step"])
    state = jax.eval_shape(lambda key: loop.init(algorithm, key), jax.random.key(0))
    _, metrics = jax.eval_shape(lambda *x: loop.epoch(algorithm, *x), hyper, state, jnp.int32(0))
    return set(metrics)


def logged(run_dir: Path, names: set[str]) -> dict[str, set[str]]:
    """Keys that an offline run of two seeds logs, by job type; its media and summary among them."""
    for name in ("curves.png", "sweep.png", "episode.gif"):
        run_dir.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(run_dir / name)
    run = RunInfo(run_dir, {}, [0, 1], 10, "qmix", "smax-3m", has_win_rate=True)
    files, sink = FileSink(), WandbSink("offline", "project", "name", warn=pytest.fail)
    for each in (files, sink):
        each.start(run)
        each.log(EpochMetrics(1, np.full(2, 10), 1, 1.0, {name: np.ones(2) for name in names}))
        each.finish({"evaluation": {"return": [1.0, 2.0], "win_rate": [0.5, 0.5]}})
        each.close()
    wandb.teardown()
    found: dict[str, set[str]] = {"aggregate": {"env_steps"}, "seed": {"env_steps"}}
    for file in (run_dir / "wandb").glob("offline-run-*/*.wandb"):
        own = found["seed" if "seed" in file.stem else "aggregate"]
        for record in records(file):
            own |= {item.nested_key[0] for item in record.history.item if item.nested_key}
            for item in (*record.summary.update, *record.history.item):
                own |= {item.key or item.nested_key[0]}
    return found


def test_every_metric_that_the_report_names_is_logged(metric_names, tmp_path, monkeypatch):
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_ERROR_REPORTING"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    found = logged(tmp_path / "run", metric_names)
    for section in SECTIONS:
        for panel in section.panels:
            assert set(panel.metrics) <= found[section.runs], panel.title


def test_every_setting_that_the_report_names_is_in_the_configuration():
    tree = to_container(compose_config([]))
    for panel in (panel for section in SECTIONS for panel in section.panels):
        for key in panel.settings:
            value = tree
            for part in key.split("."):
                assert part in value, key
                value = value[part]


def test_without_an_account_the_specification_is_written_and_one_line_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(wandb, "login", lambda **_: False)
    with pytest.raises(SystemExit, match="2"):
        dashboard.main([f"out={tmp_path / 'spec.json'}", "project=mine", "group=smax_3m"])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "wandb login" in lines[0]
    spec = json.loads((tmp_path / "spec.json").read_text())
    assert spec == json.loads(json.dumps(specification("mine", None, "smax_3m")))


def test_without_the_library_there_is_one_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(qmix_jax.ConfigError, match=r"qmix_jax\[dashboard\]"):
        build_report(specification("mine", None, None))


@pytest.mark.parametrize("arguments", [["projet=x"], ["out=nowhere/spec.json"], ["draft=maybe"]])
def test_bad_input_is_one_line(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        dashboard.main(arguments)
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the library's own
def test_the_library_accepts_the_report():
    pytest.importorskip("wandb_workspaces")
    report = build_report(specification("mine", "me", "smax_3m"))
    grids = [block for block in report.blocks if type(block).__name__ == "PanelGrid"]
    assert [len(grid.panels) for grid in grids] == [len(section.panels) for section in SECTIONS]
    assert "smax_3m" in str(grids[0].runsets[0].filters)
    band = grids[1].panels[0]
    assert (band.groupby_aggfunc, band.groupby_rangefunc, band.groupby.name) == ("mean", "stderr", "algorithm.name")
    for grid in grids:
        for panel in grid.panels:
            assert panel._to_model()
