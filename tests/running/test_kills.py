"""``kill -9`` at random moments: while training, while a checkpoint is written, while a run starts."""

import runpy
from pathlib import Path

import pytest

SOAK = runpy.run_path(str(Path(__file__).parents[2] / "experiments" / "soak.py"))


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_again_and_again_is_the_same_run(tmp_path, kills):
    """A start takes ten seconds: three kills always, twenty with the slow tests, a hundred in experiments/soak.py."""
    assert SOAK["soak"](tmp_path, kills=kills, seed=kills)
