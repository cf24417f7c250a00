"""What ``wandb sync`` brings of offline runs that were really trained, and that the W&B report names nothing else."""

import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import wandb
from PIL import Image
from toy_env import make_toy
from wandb_server import SyncedRun, sync

import qmix_jax
from qmix_jax.envs.base import Episode
from qmix_jax.logging.dashboard import SECTIONS
from qmix_jax.logging.wandb import SCORED

ARGUMENTS = [
    "num_seeds=2",
    "total_env_steps=160",
    "rollout.num_envs=4",
    "evaluation.interval_env_steps=80",
    "evaluation.episodes=8",
    "agent=feed_forward",
    "agent.hidden_size=8",
    "mixer.embed_size=4",
    "mixer.hypernet_layers=1",
    "learner.updates_per_iteration=1",
    "learner.warmup_env_steps=0",
    "replay.capacity=64",
    "replay.batch_size=8",
    "logger.progress=false",
    "logger.wandb.video=true",
    "logger.wandb.artifacts=true",
    "checkpoint.every_minutes=null",
]
SEEDS = ("seed_0", "seed_1")
MINIMUM, MAXIMUM, LAST = 1, 2, 5
"""What W&B's configuration says of a metric's summaries."""


class Synced(NamedTuple):
    """A training run's folder, and its W&B runs by their names, the aggregate's being ``""``."""

    folder: Path
    runs: dict[str, SyncedRun]

    @property
    def aggregate(self) -> SyncedRun:
        return self.runs[""]


def draw(episode: Episode, path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), (int(10 * reward), 0, 0)) for reward in episode.rewards]
    frames[0].save(path, save_all=True, append_images=frames[1:])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Synced]:
    """A run of two seeds, and a sweep of two cells."""
    home = tmp_path_factory.mktemp("offline")
    env = make_toy()._replace(render=draw)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_ERROR_REPORTING", "WANDB_API_KEY", "WANDB_MODE"):
            patch.setenv(name, "")  # so that what the sink sets is undone
            patch.delenv(name)
        patch.setattr(sys, "argv", ["train", *ARGUMENTS])
        wandb.teardown()  # what it knows of this process is from before
        for name, more in (("plain", []), ("sweep", ["num_seeds=1", "sweep.lr=[1e-3,1e-2]"])):
            qmix_jax.run([*ARGUMENTS, *more, f"run_dir={home / name}"], env=env)
        wandb.teardown()  # its service may still be writing when a run has finished
    folders = {name: sorted((home / name / "wandb").glob("offline-run-*")) for name in ("plain", "sweep")}
    found = sync([folder for own in folders.values() for folder in own], home / "home")
    return {
        name: Synced(
            home / name,
            {
                run.about["displayName"].removeprefix(name).strip("/"): run
                for run in found
                if run.about["groupName"] == name
            },
        )
        for name in folders
    }


def test_every_seed_and_their_aggregate_are_runs_of_one_group(trained):
    assert set(trained["plain"].runs) == {"", *SEEDS}
    assert set(trained["sweep"].runs) == {"", "cell_0/seed_0", "cell_1/seed_0"}
    for synced in trained.values():
        assert {name or "aggregate": run.about["jobType"] for name, run in synced.runs.items()} == {
            name or "aggregate": "seed" if name else "aggregate" for name in synced.runs
        }


def test_curves_are_those_of_the_folder(trained):
    rows = [json.loads(line) for line in (trained["plain"].folder / "metrics.jsonl").read_text().splitlines()]
    for seed, name in enumerate(SEEDS):
        own = [row for row in rows if row["seed"] == seed]
        for metric in ("env_steps", "eval_return", "eval_win_rate", "loss", "epsilon"):
            values = [row.get(metric) for row in trained["plain"].runs[name].history]
            assert values == pytest.approx([row[metric] for row in own]), metric
        assert [row["_step"] for row in trained["plain"].runs[name].history] == [row["epoch"] for row in own]


def test_curves_are_drawn_over_environment_steps_and_have_summaries(trained):
    for run in trained["plain"].runs.values():
        defined = json.loads(run.about["config"])["_wandb"]["value"]["m"]
        by_name = {metric.get("1") or metric["2"]: metric for metric in defined}
        steps = 1 + [metric.get("1") for metric in defined].index("env_steps")
        assert by_name["*"]["5"] == steps
        for name in SCORED:
            assert by_name[name]["5"] == steps
            assert by_name[name]["7"] == [MINIMUM, MAXIMUM, LAST]
        values = [row["eval_return"] for row in run.history]
        assert run.summary["eval_return"] == {"min": min(values), "max": max(values), "last": values[-1]}
        assert run.summary["final/return"] == pytest.approx(values[-1], abs=1e-3)
        assert run.summary["best/return"] >= run.summary["final/return"]


def test_the_aggregate_has_system_metrics_command_and_commit(trained):
    for synced in trained.values():
        about = json.loads(synced.aggregate.files["wandb-metadata.json"])
        assert about["args"] == ARGUMENTS
        commit = json.loads((synced.folder / "summary.json").read_text())["git_commit"]
        assert about.get("git", {}).get("commit") == synced.aggregate.about.get("commit") == commit
        assert any(key.startswith("system.") for row in synced.aggregate.events for key in row)
        for name, run in synced.runs.items():
            if name:
                assert not run.events
                assert "wandb-metadata.json" not in run.files


def test_the_aggregate_has_figures_table_and_video(trained):
    for name, synced in trained.items():
        last, folder = synced.aggregate.history[-1], synced.folder
        pictures = {"curves": "curves.png", "episode": "episode.gif"} | (
            {"sweep": "sweep.png"} if name == "sweep" else {}
        )
        for key, file in pictures.items():
            assert synced.aggregate.files[last[key]["path"]] == (folder / file).read_bytes()
        assert ("sweep" in last) == (name == "sweep")
        table = json.loads(synced.aggregate.files[last["evaluations"]["path"]])
        assert {"seed", "env_steps", "eval_return", "eval_win_rate"} <= set(table["columns"])
        assert ("cell" in table["columns"]) == (name == "sweep")
        assert len(table["data"]) == len((folder / "metrics.jsonl").read_text().splitlines())


def test_policies_are_artifacts_with_aliases(trained):
    synced = trained["plain"]
    for name in SEEDS:
        (versions,) = synced.runs[name].artifacts.values()
        assert [set(version.aliases) - {"latest"} for version in versions] == [{"best"}, {"final"}]
        for which, version in zip(("best", "final"), versions, strict=True):
            for suffix in (".safetensors", ".json"):
                content = (synced.folder / "policies" / name / f"{which}{suffix}").read_bytes()
                assert version.files[f"policy{suffix}"] == base64.b64encode(hashlib.md5(content).digest()).decode()


def test_every_metric_that_the_report_names_was_logged(trained):
    logged: dict[str, set[str]] = {"aggregate": set(), "seed": set()}
    for synced in trained.values():
        for run in synced.runs.values():
            logged[run.about["jobType"]] |= {key for row in run.history for key in row} | set(run.summary)
    for section in SECTIONS:
        for panel in section.panels:
            assert set(panel.metrics) <= logged[section.runs], panel.title
