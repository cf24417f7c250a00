"""The scripts in experiments/: what cannot be used is one line and exit status 2, before anything is trained."""

import subprocess
import sys
from pathlib import Path

import pytest

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
