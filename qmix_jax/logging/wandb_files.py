"""What a W&B run is given when training has ended: pictures, the table of evaluations, a video, policies."""

import atexit
import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qmix_jax.logging.base import RunInfo
from qmix_jax.logging.files import METRICS_FILE, read_rows
from qmix_jax.settings.cells import Lane

PICTURES = {"curves": "curves.png", "sweep": "sweep.png"}
"""W&B's keys, and the files of a run's folder that are shown under them."""
VIDEO = "episode.gif"
"""A greedy episode of the best policy, where one was drawn."""
COLUMNS = ("cell", "seed", "env_steps", "seconds", "eval_return", "eval_win_rate", "eval_episode_length")
MOST_ROWS = 10_000
"""W&B shows no more of a table."""


def leave_quietly() -> None:
    """Let W&B's own temporary folders go without a ResourceWarning when the process ends (`python -W error`).

    To be called when W&B has been imported: what is registered last comes first at the exit.
    """
    atexit.register(warnings.filterwarnings, "ignore", "Implicitly cleaning up", ResourceWarning)


def media(wandb: Any, run: RunInfo) -> dict[str, Any]:
    """Pictures, video and table of a run's folder, as far as they are there, ready to be logged."""
    found: dict[str, Any] = {}
    for key, name in PICTURES.items():
        if (run.run_dir / name).is_file():
            found[key] = wandb.Image(str(run.run_dir / name))
    if (run.run_dir / VIDEO).is_file():
        found["episode"] = wandb.Video(str(run.run_dir / VIDEO), format="gif")
    columns, rows = evaluations(run.run_dir)
    if rows:
        found["evaluations"] = wandb.Table(columns=columns, data=rows)
    return found


def evaluations(run_dir: Path) -> tuple[list[str], list[list[Any]]]:
    """The evaluations of every seed: names of columns, and rows. Columns without any value are left out."""
    rows = read_rows(run_dir / METRICS_FILE)[-MOST_ROWS:]
    columns = [name for name in COLUMNS if any(row.get(name) is not None for row in rows)]
    return columns, [[row.get(name) for name in columns] for row in rows]


def log_policies(wandb: Any, started: Any, run: RunInfo, lanes: Sequence[Lane]) -> None:
    """Give the saved policies of some lanes to a W&B run, as artifacts with the aliases ``best`` and ``final``."""
    for lane in lanes:
        for which in ("best", "final"):
            file = run.run_dir / "policies" / lane.name / which
            if not file.with_suffix(".json").is_file():
                continue
            metadata = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
            name = re.sub(r"[^\w.-]", "-", f"{run.run_dir.name}-{lane.name}")
            artifact = wandb.Artifact(name, type="policy", metadata=metadata)
            for suffix in (".safetensors", ".json"):
                artifact.add_file(str(file.with_suffix(suffix)), name=f"policy{suffix}")
            started.log_artifact(artifact, aliases=[which])
