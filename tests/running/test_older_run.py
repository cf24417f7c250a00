"""A run folder made before modules moved into rooms (commit 6c49ec0) is still resumed and played.

``golden/older_run`` was left by ``python -m qmix_jax.train env=two_step num_seeds=2 total_env_steps=400 ...`` (all
settings are in its ``config.json``); ``continued.jsonl`` holds the metrics that the same commit had at 800 steps.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qmix_jax import evaluate
from qmix_jax.logging.moved import MOVED, current_settings, current_target

OLDER = Path(__file__).parents[1] / "golden" / "older_run"


@pytest.fixture
def older(tmp_path) -> Path:
    return Path(shutil.copytree(OLDER, tmp_path / "run"))


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_it_is_resumed_with_the_numbers_of_its_time(older):
    command = [sys.executable, "-m", "qmix_jax.train", f"resume={older}", "total_env_steps=800", "logger.plot=false"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "after epoch 2, 400 environment steps" in done.stdout
    now, then = rows(older / "metrics.jsonl"), rows(older / "continued.jsonl")
    assert len(now) == len(then) == 8
    for row, expected in zip(now, then, strict=True):
        for name, value in expected.items():
            if value is None or isinstance(value, str):
                assert row[name] == value, name
            else:
                np.testing.assert_allclose(row[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_its_policies_are_played(older, tmp_path):
    output = tmp_path / "evaluation.json"
    evaluate.main([f"run_dir={older}", "episodes=3", f"output={output}"])
    played = json.loads(output.read_text())["policies"]
    assert [policy["return"]["mean"] for policy in played] == [8.0, 7.0]


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_a_saved_target_is_found_where_it_is_now(old, new):
    assert current_target(f"{old}.Name") == f"{new}.Name"
    assert current_settings({"part": {"_target_": f"{old}.f", "n": 1}, "seed": 0}) == {
        "part": {"_target_": f"{new}.f", "n": 1},
        "seed": 0,
    }


def test_layer_norm_has_another_name():
    older = {"agent": {"hidden_size": 8, "layer_norm": True}, "mixer": {"layer_norm": True}}
    assert current_settings(older) == {"agent": {"hidden_size": 8, "norm": "layer"}, "mixer": {"layer_norm": True}}
    assert current_settings({"agent": {"layer_norm": False}}) == {"agent": {"norm": "none"}}


def test_other_targets_stay():
    assert current_target("my_package.agents.Agent") == "my_package.agents.Agent"


def test_what_one_environment_gained_is_added_to_it_alone():
    ours, other = {"_target_": "qmix_jax.envs.smax.make_smax", "scenario": "3m"}, {"_target_": "mine.make"}
    assert current_settings({"env": ours})["env"] == {**ours, "physics": "smax", "terrain": False}
    assert current_settings({"env": {**ours, "physics": "smac"}})["env"]["physics"] == "smac"
    assert current_settings({"env": other})["env"] == other
