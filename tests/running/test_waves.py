"""Sweeps: what the command line makes cells of, cells against runs of their own, devices, processes, halving."""

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from wandb_record import history

from qmix_jax import evaluate
from qmix_jax.envs.two_step import make_two_step
from qmix_jax.errors import ConfigError
from qmix_jax.logging import ConsoleSink
from qmix_jax.logging.scores import interquartile_mean, score
from qmix_jax.running.clock import Clock
from qmix_jax.running.hosts import Hosts
from qmix_jax.running.session import Session
from qmix_jax.settings.cells import KEYS, WHOLE, cells
from qmix_jax.settings.command_line import check, compose_config
from qmix_jax.settings.config import SweepConfig
from qmix_jax.settings.reading import parse, to_container

SETTINGS = (
    "experiment=two_step_game",
    "num_seeds=2",
    "evaluation.interval_env_steps=100",
    "agent.hidden_size=8",
    "rollout.num_envs=5",
    "replay.batch_size=8",
    "learner.warmup_env_steps=0",
    "logger.wandb.mode=disabled",
    "logger.plot=false",
)
GRID = ("sweep.lr=[1e-3,1e-2]", "sweep.td_lambda=[0,0.8]", "target=td_lambda")
EPOCHS = 20
STEPS = f"total_env_steps={100 * EPOCHS}"


def make_cells(*arguments: str) -> list[dict[str, float]]:
    container = to_container(compose_config(arguments))
    return [cell.values for cell in cells(container, parse(container))]


def command(*arguments: str) -> list[str]:
    last = {argument.partition("=")[0]: argument for argument in arguments}  # given twice, it would be refused
    return [sys.executable, "-m", "qmix_jax.train", *last.values()]


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    ended = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=600, check=False, cwd=folder)
    assert ended.returncode == 0, ended.stderr
    return ended


def metrics(run_dir: Path) -> list[dict]:
    """Rows of a run without the time that they took."""
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def summary(run_dir: Path) -> dict:
    return json.loads((run_dir / "summary.json").read_text())


# Cells


def test_a_grid_has_every_combination():
    found = make_cells("sweep.lr=[1e-4,5e-4]", "sweep.gamma=[0.9,0.95,0.99]")
    assert len(found) == 6
    assert found[1] == {"lr": 1e-4, "gamma": 0.95}


def test_zip_takes_first_with_first():
    assert make_cells("sweep.design=zip", "sweep.epsilon_end=[0.1,0.2]", "sweep.epsilon_steps=[10,20]") == [
        {"epsilon_end": 0.1, "epsilon_steps": 10},
        {"epsilon_end": 0.2, "epsilon_steps": 20},
    ]


def test_random_draws_from_ranges_and_lists():
    arguments = (
        "sweep.design=random",
        "sweep.samples=200",
        "sweep.lr={low:1e-5,high:1e-1}",
        "sweep.gamma={low:0.9,high:1}",
        "sweep.target_update_interval={low:10,high:1000,log:true}",
        "sweep.reward_scale=[1,2]",
    )
    found = make_cells(*arguments)
    assert found == make_cells(*arguments)
    assert found != make_cells(*arguments, "sweep.seed=1")
    lr, gamma, interval = (np.array([cell[key] for cell in found]) for key in ("lr", "gamma", "target_update_interval"))
    assert 0.4 < (lr < 1e-3).mean() < 0.6, "half of the draws lie below the middle of the logarithms"
    assert 0.4 < (gamma < 0.95).mean() < 0.6
    assert 0.4 < (interval < 100).mean() < 0.6
    assert np.all(interval == np.round(interval))
    assert {cell["reward_scale"] for cell in found} == {1, 2}


def test_random_draws_every_cell_once():
    found = make_cells("sweep.design=random", "sweep.samples=9", "sweep.target_update_interval={low:1,high:9}")
    assert sorted(cell["target_update_interval"] for cell in found) == list(range(1, 10))


def test_every_key_changes_its_number(tmp_path):
    """A key that nothing reads is a defect."""
    needs = {"tau": "target.update=soft", "priority_alpha": "replay=prioritised", "priority_beta": "replay=prioritised"}
    needs |= {f"temperature_{end}": "exploration=softmax" for end in ("start", "end", "steps")}
    from qmix_jax.settings.build import hyper_params

    for key, path in KEYS.items():
        value = 40 if key in WHOLE else 0.3
        container = to_container(compose_config([f"sweep.{key}={value}", needs.get(key, "target.update=hard")]))
        (cell,) = cells(container, parse(container))
        before, after = hyper_params(parse(container)), hyper_params(cell.config)
        changed = {name for name in before._fields if getattr(before, name) != getattr(after, name)}
        level, _, end = key.partition("_")
        name = {"lr": "learning_rate", "tau": "target_tau"}.get(key, key)
        name = f"exploration_{end}" if level in ("epsilon", "temperature") else name
        assert changed == {name}, path
    assert set(KEYS) | {"design", "samples", "seed", "halving"} == set(SweepConfig.__dataclass_fields__)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sweep.hidden_size=[64,128]"], r"sweep.hidden_size=\[64,128\]: not a number that may differ inside one prog"),
        (["sweep.td_lamda=[0,1]"], "unknown key; did you mean sweep.td_lambda"),
        (["sweep.lr=fast"], "sweep.lr=fast: must be a number or a list of numbers"),
        (["sweep.lr=low:1e-4", "sweep.lr=high:1e-2"], "quote the range, for the shell takes braces apart"),
        (["sweep.lr=[]"], r"sweep.lr=\[\]: must hold at least one number"),
        (["sweep.lr=[-1]"], "optimizer.learning_rate=-1.0: must be more than 0 .from sweep.lr"),
        (["sweep.epsilon_start=[0.01]"], "exploration.epsilon_end=0.05: above"),
        (["sweep.tau=[0.1]"], "sweep.tau: has no effect with target.update=hard; use soft"),
        (["sweep.target_update_interval=[5]", "target.update=soft"], "has no effect with target.update=soft"),
        (["sweep.td_lambda=[0.1]", "target=one_step"], "sweep.td_lambda: target.td_lambda is no setting here"),
        (["sweep.priority_beta=[0.1]"], "no setting here; choose replay=prioritised"),
        (["sweep.temperature_end=[0.1]"], "exploration.temperature_end is no setting here; choose exploration=softmax"),
        (["sweep.lr={low:1,high:2}"], "a range needs sweep.design=random"),
        (["sweep.design=random", "sweep.lr={low:2,high:1}"], "sweep.lr.low=2: must be less than"),
        (["sweep.design=random", "sweep.lr={low:0,high:1}"], "must be more than 0"),
        (["sweep.design=random", "sweep.lr={from:0,to:1}"], "must be a list, or"),
        (["sweep.design=zip", "sweep.lr=[1,2]", "sweep.gamma=[0.9]"], "sweep.lr has 2, sweep.gamma has 1"),
        (["sweep.lr=[1,1]"], "two cells with lr=1"),
        (["sweep.gamma=[0.9,0.90000000001]"], "two cells with gamma=0.90000000001"),  # one number on the device
        ([f"sweep.lr=[1{'0' * 400}]"], "must be a number or a list of numbers"),
        (["sweep.design=rnadom"], "did you mean 'random'"),
        (["sweep.halving=2"], "there is nothing to vary"),
        (["sweep.target_update_interval=[1.5]"], "must be a whole number"),
        (["sweep.learning_rate=[1e-3]"], "unknown key; did you mean sweep.lr"),
        (["sweep.target.tau=[0.1]"], "unknown key; did you mean sweep.tau"),
        (["sweep.alpha=[0.5]"], "unknown key; did you mean sweep.priority_alpha"),
        (["sweep.lamda=[0.5]"], "unknown key; did you mean sweep.td_lambda"),
        (["sweep.design=random", "sweep.lr=[1e-3,1e-2]"], "sweep.samples=16: the values make only 2 .* use at most 2"),
        (["sweep.design=random", "sweep.target_update_interval={low:1,high:9}"], "only 9 different cells"),
        (["sweep.design=random", "sweep.target_update_interval={low:1.5,high:9}"], "low=1.5: must be a whole number"),
        (
            ["sweep.design=random", "sweep.samples=1", "sweep.gamma={low:0.9,high:1.001}"],
            "gamma=1.001: must be at most",
        ),
        (["sweep.lr=[1e-3,1e-2]", "sweep.samples=4"], "sweep.samples=4: with sweep.design=grid nothing is drawn"),
        (["sweep.design=zip", "sweep.lr=[1e-3,1e-2]", "sweep.seed=4"], "sweep.seed=4: with sweep.design=zip nothing"),
        (["sweep.gamma=[0.9,0.95]", "gamma=0.99"], "gamma=0.99: sweep.gamma sets it in every cell"),
        (["optimizer.learning_rate=[1e-3,1e-2]"], "takes one number; in one program: sweep.lr="),
        (["optimizer.learning_rate=1e-3,1e-2"], "several values need --multirun; in one program: sweep.lr="),
        (["seed=[1,2]"], "takes one number; several seeds are num_seeds=4"),
        (["seed=1,2"], "several values need --multirun; several seeds are num_seeds=4"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_in_one_line(arguments, words):
    with pytest.raises(ConfigError, match=words) as error:
        check(arguments)
    assert "\n" not in str(error.value)


def test_values_that_differ_after_six_digits_are_cells_of_their_own():
    container = to_container(
        compose_config(["sweep.epsilon_steps=[1234567,1234568]", "sweep.gamma=[0.9999991,0.9999995]"])
    )
    made = cells(container, parse(container))
    assert [cell.name for cell in made][1:3] == [
        "gamma=0.9999991 epsilon_steps=1234568",
        "gamma=0.9999995 epsilon_steps=1234567",
    ]


def test_what_is_drawn_lies_in_the_range():
    arguments = ["sweep.design=random", "sweep.samples=30", "sweep.gamma={low:0.98,high:0.99996}"]
    container = to_container(compose_config(arguments))
    assert max(cell.values["gamma"] for cell in cells(container, parse(container))) <= 0.99996


# Statistics


def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end():
    assert interquartile_mean(np.array([[0, 1, 2, 100], [5, 5, 5, 5]])).tolist() == [1.5, 5.0]
    # Agarwal et al. 2021 take scipy's trim_mean; of 10 values it leaves out 2 and 2.
    assert interquartile_mean(np.arange(10.0) ** 2) == np.mean(np.arange(2.0, 8.0) ** 2)


def test_a_seed_without_a_value_does_not_count_as_the_best_one():
    """Sorted, NaN comes last: four seeds would be scored by their better ones."""
    np.testing.assert_array_equal(interquartile_mean(np.array([[0.1, np.nan, 0.2, 0.3], [1, 2, 3, 4]])), [np.nan, 2.5])


def test_intervals_cover_as_often_as_they_say():
    generator = np.random.default_rng(0)
    found = score(generator.normal(size=(400, 20)))
    covered = np.mean((found.low <= 0) & (found.high >= 0))
    assert 0.85 < covered < 0.97  # percentile intervals are somewhat short with 20 values
    assert np.all((found.min <= found.low) & (found.low <= found.iqm) & (found.iqm <= found.high))


def test_one_seed_has_no_interval_and_equal_seeds_a_point():
    assert np.isnan(score(np.array([[3.0]])).low).all()
    found = score(np.full((2, 4), 7.0))
    assert found.low.tolist() == found.high.tolist() == [7.0, 7.0]


# Cells and devices


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A grid of four cells with two seeds."""
    folder = tmp_path_factory.mktemp("whole")
    train(folder, *SETTINGS, *GRID, STEPS, "run_dir=run", "logger.plot=true", "logger.wandb.mode=offline")
    return folder / "run"


def test_a_cell_is_the_run_with_its_values(whole, tmp_path):
    train(tmp_path, *SETTINGS, "target=td_lambda", "optimizer.learning_rate=1e-2", "target.td_lambda=0.8", STEPS,
          "run_dir=alone")  # fmt: skip
    in_sweep = [{k: v for k, v in row.items() if k != "cell"} for row in metrics(whole) if row["cell"] == 3]
    assert in_sweep == metrics(tmp_path / "alone")
    for name in ("final", "best"):
        files = [whole / "policies/cell_3/seed_1", tmp_path / "alone/policies/seed_1"]
        assert (files[0] / f"{name}.safetensors").read_bytes() == (files[1] / f"{name}.safetensors").read_bytes()


def test_what_a_sweep_leaves(whole):
    rows, result = metrics(whole), summary(whole)
    assert [(row["epoch"], row["cell"], row["seed"]) for row in rows] == [
        (epoch, cell, seed) for epoch in range(1, EPOCHS + 1) for cell in range(4) for seed in range(2)
    ]
    assert [cell["values"] for cell in result["cells"]] == [
        {"lr": lr, "td_lambda": td_lambda} for lr in (1e-3, 1e-2) for td_lambda in (0, 0.8)
    ]
    assert sorted(cell["rank"] for cell in result["cells"]) == [1, 2, 3, 4]
    last = {(row["cell"], row["seed"]): row["eval_return"] for row in rows[-8:]}
    for cell in result["cells"]:
        assert cell["evaluation"]["return"] == [last[cell["cell"], seed] for seed in range(2)]
        assert cell["score"]["iqm"] == np.mean(cell["evaluation"]["return"])
        assert not cell["stopped"]
    best = max(result["cells"], key=lambda cell: cell["score"]["iqm"])
    assert next(cell for cell in result["cells"] if cell["rank"] == 1)["score"] == best["score"]
    for picture in ("curves.png", "sweep.png"):
        assert (whole / picture).stat().st_size > 10_000
    records = {path.stem.split("-", 2)[2]: path for path in whole.glob("wandb/offline-run-*/*-*-*.wandb")}
    assert sorted(records) == [f"cell_{cell}-seed_{seed}" for cell in range(4) for seed in range(2)]
    of_one = history(records["cell_2-seed_1"])
    assert [row["loss"] for row in of_one] == [row["loss"] for row in rows if (row["cell"], row["seed"]) == (2, 1)]
    (aggregate,) = set(whole.glob("wandb/offline-run-*/*.wandb")) - set(records.values())
    told = history(aggregate)[-1]
    for cell in result["cells"]:
        assert told[f"cell_{cell['cell']}/eval_return"] == cell["score"]["iqm"]
        assert told[f"cell_{cell['cell']}/eval_return/low"] == cell["score"]["low"]
    tool = json.loads((whole / "marl_eval.json").read_text())["two_step"]["two_step"]
    assert len(tool) == 4
    run = tool["qmix lr=0.001 td_lambda=0"]["seed_1"]
    assert set(run) == {"absolute_metrics", *(f"step_{epoch}" for epoch in range(EPOCHS))}
    assert run[f"step_{EPOCHS - 1}"]["return"] == [last[0, 1]]


def test_policies_of_the_best_cell_or_another_are_played(whole, capsys):
    best = min(summary(whole)["cells"], key=lambda cell: cell["rank"])
    for arguments, cell in ([], best["cell"]), (["cell=2"], 2):
        evaluate.main([f"run_dir={whole}", "episodes=4", "evaluation_seed=0", *arguments])
        shown = capsys.readouterr().out
        expected = summary(whole)["cells"][cell]["evaluation"]["return"]
        found = re.findall(r"^seed=\d .* return=([0-9.]+)", shown, re.MULTILINE)
        assert [float(x) for x in found] == expected
    with pytest.raises(SystemExit, match="2"):
        evaluate.main([f"run_dir={whole}", "cell=4"])
    assert "cell=4: not in this run (choices: 0, 1, 2, 3)" in capsys.readouterr().err


def test_a_sweep_that_is_extended_is_one_sweep(whole, tmp_path):
    train(tmp_path, *SETTINGS, *GRID, "total_env_steps=100", "run_dir=run")
    assert "resuming after epoch 1" in train(tmp_path, "resume=run", STEPS).stdout
    assert metrics(tmp_path / "run") == metrics(whole)


ON_DEVICES = """
import jax
jax.config.update("jax_num_cpu_devices", 8)
import sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/algorithms"]
import numpy as np
from test_learning_step import ALGORITHM, HYPER, differ
from qmix_jax.mixers.vdn import VDNMixer
from qmix_jax.running.waves import Waves
import jax.numpy as jnp

rates = np.array([1e-3, 1e-2, 1e-3, 1e-2, 5e-3, 0.1], np.float32)
seeds = [1, 1, 2, 2, 3, 4]

def run(count):
    hyper = HYPER._replace(learning_rate=rates, learning_rate_end=rates)
    waves = Waves(ALGORITHM._replace(mixer=VDNMixer(2, 2)), hyper, seeds, None, jax.devices()[:count])
    waves.compile()
    metrics = [waves.epoch() for _ in range(2)]
    return metrics, waves.online()

one = run(1)
for count in (2, 4, 8):  # with 4 the second wave is padded, with 8 there are more devices than lanes
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(run(count)), strict=True):
        np.testing.assert_array_equal(a, b)
assert differ(*(jax.tree.map(lambda x: x[i], one[1]) for i in (0, 1))), "the learning rate has no effect"
"""

SHARING = (
    ON_DEVICES[: ON_DEVICES.index("rates")]
    + """
import tempfile
from pathlib import Path
from qmix_jax.running import checkpoint, snapshot
checkpoint.LARGE = snapshot.LARGE = 64

def run(count, spread=False):
    sizes = ALGORITHM.sizes._replace(minibatch_parts=4, batch_size=8, capacity=24, shared_replay=spread)
    algorithm = ALGORITHM._replace(mixer=VDNMixer(2, 2), sizes=sizes, prioritised=True)
    waves = Waves(algorithm, HYPER, [1, 2], None, jax.devices()[:count])
    assert waves.algorithm.sizes.devices_per_seed == count // 2
    waves.compile()
    metrics = [waves.epoch()]
    rewards = waves._states[0].replay.slots.reward
    blocks = {shard.data.shape[1] for shard in rewards.addressable_shards}
    assert blocks == {24 // (count // 2) if spread else 24}, blocks
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.write_checkpoint(Path(folder) / "1", waves.snapshot(copy=False), {})
        saved = checkpoint.read_checkpoint(Path(folder) / "1")
        after_one = jax.tree.map(np.array, checkpoint.unflatten(waves.snapshot_like(), saved))
    metrics.append(waves.epoch())
    after_two = waves.snapshot()
    waves.restore(after_one, epochs=1)
    for a, b in zip(jax.tree.leaves(metrics[1]), jax.tree.leaves(waves.epoch()), strict=True):
        np.testing.assert_array_equal(a, b)
    return metrics, after_two

two = run(2)
assert two[0][1]["loss"].all() and two[1].learner.updates.all()
for count in (4, 8):
    for a, b in zip(jax.tree.leaves(two), jax.tree.leaves(run(count, spread=count == 8)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
"""
)


@pytest.mark.parametrize("script", [ON_DEVICES, SHARING], ids=["lanes", "sharing"])
def test_lanes_do_not_depend_on_the_number_of_devices(script):
    """The same bits where each device runs one lane at a time, up to rounding where several share one."""
    done = subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__).parents[1])],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# Halving


def test_halving_stops_the_worse_half_again_and_again(tmp_path):
    arguments = (*SETTINGS, "sweep.lr=[1e-5,1e-4,1e-3,1e-2,1e-1]", "sweep.halving=1")
    ended = train(tmp_path, *arguments, "total_env_steps=500", "run_dir=run")
    rows, result = metrics(tmp_path / "run"), summary(tmp_path / "run")
    counted = [{row["cell"] for row in rows if row["epoch"] == epoch} for epoch in range(1, 6)]
    assert [len(found) for found in counted] == [5, 3, 2, 1, 1]
    for more, fewer in itertools.pairwise(counted):
        assert fewer <= more
    assert ended.stdout.count("phase=compiling state=started") <= 3
    assert ended.stdout.count("halving after epoch") == 3
    cells = {cell["cell"]: cell for cell in result["cells"]}
    assert sorted(cell["rank"] for cell in cells.values()) == [1, 2, 3, 4, 5]
    (survivor,) = counted[-1]
    assert result["updates"] == max(row["updates"] for row in rows) > min(row["updates"] for row in rows)
    assert cells[survivor]["rank"] == 1
    assert [cell for cell in cells if not cells[cell]["stopped"]] == [survivor]
    for cell in cells:
        last = max(row["epoch"] for row in rows if row["cell"] == cell)
        assert cells[cell]["env_steps"] == 100 * last
        assert (tmp_path / f"run/policies/cell_{cell}/seed_1/final.safetensors").exists()
    # At each epoch the cells that go on are the best ones.
    at = {(row["epoch"], row["cell"]): [] for row in rows}
    for row in rows:
        at[row["epoch"], row["cell"]].append(row["eval_return"])
    for epoch, (more, fewer) in enumerate(itertools.pairwise(counted[:3]), start=1):
        means = {cell: np.mean(at[epoch, cell]) for cell in more}
        assert min(means[cell] for cell in fewer) >= max(means[cell] for cell in more - fewer)

    train(tmp_path, *arguments, "total_env_steps=200", "run_dir=half")
    train(tmp_path, "resume=half", "total_env_steps=500")
    assert metrics(tmp_path / "half") == rows
    assert summary(tmp_path / "half")["cells"] == result["cells"]


def test_cells_that_were_stopped_before_a_failure_are_not_followed_by_more(tmp_path, monkeypatch):
    """What a failure saves is of the epoch after which cells were stopped; what goes on from it stops no others."""

    class Lanes:
        epochs, is_compiled = 2, True

        def only(self, places: np.ndarray) -> "Lanes":
            return self

    arguments = ["env=two_step", "sweep.lr=[1e-2,1e-3,1e-4,1e-5,1e-6]", "sweep.halving=2", "logger.progress=false"]
    container = to_container(compose_config(arguments))
    config = parse(container)
    made = cells(container, config)
    parts = (make_two_step(), Lanes(), Hosts(5), ConsoleSink(quiet=True), Clock())
    session: Any = Session(config, container, made, tmp_path, *cast(Any, parts))
    monkeypatch.setattr(session, "_save_policies", dict)
    rows = {"eval_return": np.arange(5.0), "env_steps": np.full(5, 8)}
    session._progress = session._progress._replace(rows=rows)
    for epochs, left in ((2, [2, 3, 4]), (2, [2, 3, 4]), (3, [2, 3, 4]), (4, [3, 4]), (4, [3, 4]), (6, [4]), (8, [4])):
        Lanes.epochs = epochs
        session._halve()
        assert np.flatnonzero(session._progress.active).tolist() == left


def test_after_halving_the_time_left_is_at_the_speed_of_the_lanes_that_are_left(tmp_path, monkeypatch):
    """And what is compiled for them is no training."""
    now = [0.0]

    class Lanes:
        epochs, is_compiled = 0, False

        def only(self, places: np.ndarray) -> "Lanes":
            return self

        def compile(self) -> None:
            now[0] += 50

    arguments = ["env=two_step", "sweep.lr=[1e-2,1e-3,1e-4,1e-5]", "sweep.halving=2", "logger.progress=false"]
    container = to_container(compose_config([*arguments, "total_env_steps=500", "checkpoint.every_minutes=null"]))
    config = parse(container)
    monkeypatch.setattr("qmix_jax.running.clock.time", SimpleNamespace(monotonic=lambda: now[0]))
    parts = (make_two_step(), Lanes(), Hosts(4), ConsoleSink(quiet=True), Clock())
    session: Any = Session(config, container, cells(container, config), tmp_path, *cast(Any, parts))
    monkeypatch.setattr(session, "_save_policies", dict)

    def epoch() -> None:
        active = session._progress.active
        Lanes.epochs += 1
        now[0] += 10 * active.sum()  # one after the other
        steps = session._progress.rows.get("env_steps", np.zeros(4)) + 100 * active
        rows = {"eval_return": np.arange(4.0), "env_steps": steps, "updates": steps}
        session._progress = session._progress._replace(rows=rows)

    monkeypatch.setattr(session, "_epoch", epoch)
    told: list[Any] = []
    sinks: Any = type("All", (), {"log": staticmethod(told.append)})
    interruption: Any = type("None", (), {"signal": None})
    session._compile_waves()
    assert session._train(sinks, interruption) is None
    assert [row.seconds for row in told] == [40, 80, 100, 120, 130]
    assert [row.seconds_left(500) for row in told] == [160, 120, 40, 20, 0]
    assert session._clock.seconds.compile == 150


# Several processes


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def processes(folder: Path, *arguments: str) -> Iterator[list[subprocess.Popen]]:
    together = (f"distributed.coordinator=127.0.0.1:{free_port()}", "distributed.num_processes=2")
    started = [
        subprocess.Popen(
            command(*arguments, *together, f"distributed.process_id={index}"),
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def end(started: list[subprocess.Popen]) -> Iterator[tuple[int, str, str]]:
    for process in started:
        out, err = process.communicate(timeout=300)
        yield process.returncode, out, err


def complete(folder: Path) -> bool:
    """Whether there is a whole checkpoint in ``folder``."""
    return any(path.name.isdigit() for path in folder.glob("*"))


def test_two_processes_of_which_one_dies_make_the_run_of_one(whole, tmp_path):
    settings = (*SETTINGS, *GRID, STEPS, "run_dir=run", "checkpoint.every_minutes=0")
    file = tmp_path / "run" / "metrics.jsonl"
    with processes(tmp_path, *settings) as started:
        until = time.monotonic() + 400
        folders = [tmp_path / "run" / "checkpoints" / f"process_{index}" for index in (0, 1)]
        # Both must have saved one: the run cannot go on from what only one of them has.
        while not (file.exists() and file.read_text().count("\n") >= 16 and all(map(complete, folders))):
            assert time.monotonic() < until
            assert all(process.poll() is None for process in started), started[0].communicate()
            time.sleep(0.002)
        started[1].send_signal(signal.SIGKILL)
        (status, _, err), (killed, _, _) = end(started)
    assert (status, killed) == (1, -signal.SIGKILL), "the run was over before: make it longer"
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "another process of this run does not answer" in line
    assert "Traceback" not in err

    alone = subprocess.run(command(*settings, "resume=true"), capture_output=True, text=True, check=False, cwd=tmp_path)
    assert alone.returncode == 2
    assert "distributed.num_processes=1: the run in run was made by 2" in alone.stderr
    with processes(tmp_path, *settings, "resume=true") as started:
        (first, out, err), (second, quiet, _) = end(started)
    assert (first, second) == (0, 0), err
    assert "resuming after epoch" in out
    assert "results in run" in out
    assert [line for line in quiet.splitlines() if "[Gloo]" not in line] == []
    assert metrics(tmp_path / "run") == metrics(whole)
    assert summary(tmp_path / "run")["cells"] == summary(whole)["cells"]
    for file in whole.glob("policies/**/*.safetensors"):
        assert (tmp_path / "run" / file.relative_to(whole)).read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["distributed.coordinator=a:1"], "needs distributed.num_processes"),
        (["distributed.process_id=1"], "distributed.process_id=1: has no effect without distributed.coordinator"),
        (["distributed.coordinator=a:1", "distributed.num_processes=2", "distributed.process_id=2"], "must be less"),
        (["distributed.coordinator=a:1", "distributed.num_processes=2", "distributed.process_id=1"], "run_dir=null"),
        (["distributed.auto=true", "run_dir=a", "checkpoint.keep=1"], "several processes need at least 2"),
        (["distributed.auto=true", "distributed.coordinator=a:1"], "give only one of them"),
        (["distributed.auto=true", "run_dir=a", "sweep.halving=1", "sweep.lr=[1,2]"], "only where one process trains"),
    ],
)
def test_processes_that_cannot_work_together_are_refused_in_one_line(arguments, words):
    with pytest.raises(ConfigError, match=words):
        check(arguments)


def test_lanes_are_shared_out():
    assert [Hosts(7, index, 3).share.tolist() for index in range(3)] == [[0, 1, 2], [3, 4], [5, 6]]
    with pytest.raises(ConfigError, match=r"num_processes=3: more than there are .*; use at most 2"):
        Hosts(2, 0, 3)


# Launchers


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("hydra/launcher=slrum", "did you mean 'slurm'"),
        ("hydra/launcher=ray_cluster", r"is not installed; pip install 'qmix_jax\[ray\]'"),
    ],
)
def test_a_launcher_that_is_not_there_is_refused_in_one_line(argument, words, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=words):
        check(["--multirun", argument, "algorithm=iql,vdn"])


@pytest.mark.slow
def test_a_launcher_runs_the_jobs_of_a_multirun(tmp_path):
    """For real, with submitit on this machine."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs the extra submitit")
    train(tmp_path, "--multirun", "hydra/launcher=local", "hydra.sweep.dir=jobs", "algorithm=iql,vdn", *SETTINGS, STEPS)
    assert [summary(tmp_path / "jobs" / job)["algorithm"] for job in "01"] == ["iql", "vdn"]
