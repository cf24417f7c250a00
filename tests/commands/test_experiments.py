"""The scripts in experiments/: what cannot be used is one line and exit status 2, before anything is trained."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from qmix_jax.errors import ConfigError

ROOT = Path(__file__).parents[2]
BAD = {
    "ablation.py": [
        ("", "run"),
        ("rum 3m", "run"),
        ("run 3n", "3m"),
        ("run 3m on_step", "one_step"),
        ("run", "SCENARIO"),
    ],
    "checkpoint_cost.py": [("x", "whole number"), ("sav 1", "[ROUNDS]"), ("save", "GIB"), ("save -1", "whole number")],
    "football.py": [("spee", "speed"), ("run", "SEED"), ("run 0 qmxi", "qmix"), ("speed 0", "whole number")],
    "hosted.py": [
        ("lst", "list"),
        ("run", "SEED"),
        ("run x", "whole number"),
        ("run 0 steps=2M", "whole number"),
        ("run 0 step=2", "steps"),
        ("speed lbf-8x8", "lbf-8x8-2p-3f"),
    ],
    "matrix_games.py": [
        ("qmxi", "qmix"),
        ("try", "GAME"),
        ("try qtran_gme qtran", "qtran_game"),
        ("try qtran_game qtrn", "qtran"),
        ("try qtran_game qtran gama=1", "gamma"),
    ],
    "predator_prey.py": [("rn", "run"), ("run", "SEED"), ("run x", "whole number"), ("run 0 qmix-3", "qmix-2")],
    "report.py": [("", "NAME"), ("new", "RUN_DIR"), ("new nowhere", "summary.json")],
    "soak.py": [("x", "whole number"), ("0", "at least 1"), ("1 2", "[KILLS]")],
    "tuning.py": [
        ("", "run"),
        ("run nosuch", "SCENARIO"),
        ("run nosuch 3m 100 100", "trial=nosuch"),
        ("run now 3m x 100", "whole number"),
        ("run now 3y 100 100", "3m"),
        ("run now 3m 100 1", "at least 100"),
        ("run final 3m 100 100", "at least 100"),
        ("report 3y", "3m"),
    ],
    "two_step.py": [("qmxi", "qmix")],
    "wandb_cost.py": [("x", "whole number"), ("1 0", "at least 1"), ("1 2 3", "[EPOCHS]")],
    "smax/balance.py": [("3y", "3m")],
    "smax/distributions.py": [("3y", "3m")],
    "smax/speed.py": [("3y", "3m")],
    "smax/training.py": [("gama=1", "gamma"), ("--scenarios 3y", "3m")],
    "speed/agents.py": [("x", "whole number"), ("2", "at least 3")],
    "speed/fusions.py": [("gama=1", "gamma")],
    "speed/scaling.py": [("--seeds 1,x", "whole numbers"), ("--scenarios 3y", "3m"), ("gama=1", "gamma")],
    "speed/start_time.py": [("gama=1", "gamma")],
    "speed/update_time.py": [("gama=1", "gamma")],
}
"""By script: arguments, and what the line about them says."""

START = """
import contextlib, io, os, runpy, sys
script, *cases = sys.argv[1:]
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
sys.path[0] = os.path.dirname(script)
for case in cases:
    sys.argv = [script, *case.split()]
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            runpy.run_path(script, run_name="__main__")
            status = 0
        except SystemExit as end:
            status = end.code
        except Exception as error:
            status = repr(error)
    print(repr((status, said.getvalue())))
"""


def test_every_script_is_here():
    internal = {"script.py", "gpu_profile.py", "gpu_check.py", "tuning_trials.py", "speed/program_text.py"}
    scripts = {str(path.relative_to(ROOT / "experiments")) for path in (ROOT / "experiments").rglob("*.py")}
    assert {name for name in scripts if not name.startswith("benchmark")} - internal == set(BAD)


@pytest.mark.skipif(sys.platform != "linux", reason="the affinity of a process")
@pytest.mark.parametrize("script", BAD)
def test_bad_arguments_are_one_line(script: str, tmp_path: Path):
    path = ROOT / "experiments" / script
    command = [sys.executable, "-c", START, str(path), *(arguments for arguments, _ in BAD[script])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for (arguments, word), found in zip(BAD[script], done.stdout.splitlines(), strict=True):
        status, said = eval(found)
        assert status == 2, (arguments, found)
        assert len(said.splitlines()) == 1, (arguments, said)
        assert said.startswith("error: "), (arguments, said)
        assert word in said, (arguments, said)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    return importlib.import_module


@pytest.mark.parametrize("script", ["predator_prey", "ablation", "tuning"])
def test_an_interrupted_run_is_gone_on_with(script: str, load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module = load(script)
    name, arguments = {
        "predator_prey": ("vdn-2_seed7", ("7", "vdn-2")),
        "ablation": ("3m_base", ("3m", "base")),
        "tuning": ("now-3m-100-100", ("now", "3m", "100", "100")),
    }[script]
    trained = []
    monkeypatch.setattr(module, "RUNS", tmp_path)
    if script == "tuning":
        monkeypatch.setattr(module, "RECORDS", tmp_path / "trials.jsonl")
        monkeypatch.setattr(module, "record", lambda *_: None)
        monkeypatch.setattr(module.subprocess, "run", lambda command, check: trained.append(command))
    else:
        monkeypatch.setattr(module, "train", lambda *given: trained.append(given))
    (tmp_path / name).mkdir()
    for interrupted in (True, False):
        (tmp_path / name / "summary.json").write_text(json.dumps({"interrupted": interrupted}))
        module.run(*arguments)
    assert ["resume=true" in given for given in trained] == [True]


def test_an_interrupted_run_is_not_archived(load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module = load("report")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    for file in module.FILES:
        (tmp_path / file).write_text('{"interrupted": true}')
    with pytest.raises(ConfigError, match="this one was interrupted"):
        module.main("new", str(tmp_path))
    assert not module.RESULTS.exists()


def test_the_two_step_games_record_keeps_other_algorithms(load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module = load("two_step")
    monkeypatch.setattr(module, "OUT", tmp_path)
    module.save({"iql": {"greedy_return": [7.0]}})  # has no values to draw
    assert not (tmp_path / "values.png").exists()
    values = {state: [[7.0, 7.0], [7.0, 7.0]] for state in module.STATES}
    module.save({"vdn": {"greedy_return": [7.0], "values": values, "published_values": values}})
    assert list(json.loads((tmp_path / "results.json").read_text())) == ["iql", "vdn"]
    assert (tmp_path / "values.png").stat().st_size > 1000


def test_a_policy_is_named_after_its_environment_without_dots(load, tmp_path: Path):
    (tmp_path / "summary.json").write_text(json.dumps({"env": "predator_prey-0.5"}))
    assert load("benchmark_policies").name_of(tmp_path) == "predator_prey_0_5"


def test_matrix_games_use_more_devices_than_seeds(load, monkeypatch: pytest.MonkeyPatch):
    module = load("matrix_games")
    given = []

    class StoppedError(Exception):
        pass

    def waves(*arguments: object) -> None:
        given.append(arguments[2:])
        raise StoppedError

    monkeypatch.setattr(module, "Waves", waves)
    monkeypatch.setattr(module, "make_algorithm", lambda settings: (None, None))
    for devices in (1, 3, 32):
        monkeypatch.setattr(module.jax, "device_count", lambda count=devices: count)
        with pytest.raises(StoppedError):
            module.trained("vdn", "climbing", range(20))
    assert given == [(list(range(20)), each) for each in (20, 7, 1)]
