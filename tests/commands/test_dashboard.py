"""The W&B report. That runs log what it names is tested in ``tests/logging/test_offline_runs.py``."""

import json

import pytest
import wandb

import qmix_jax
from qmix_jax import dashboard
from qmix_jax.logging.dashboard import SECTIONS, build_report, specification
from qmix_jax.settings.command_line import compose_config
from qmix_jax.settings.reading import to_container


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
