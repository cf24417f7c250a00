"""A picture of how the best policy of a run plays."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qmix_jax.envs.base import Env
from qmix_jax.logging import RunInfo
from qmix_jax.logging.wandb_files import VIDEO
from qmix_jax.results.play import Plan, first_episode
from qmix_jax.results.team import Choice, load_team


def draw_best_episode(run: RunInfo, env: Env, summary: Mapping[str, Any], warn: Callable[[str], None]) -> Path | None:
    """Draw a greedy episode of the best policy into the run's folder.

    Args:
        run: whose policies have been saved.
        env: the environment they were trained in.
        summary: the content of its ``summary.json``.
        warn: is told if that fails; the run has ended well whether or not there is a video.

    Returns the file, None where the environment has no picture.
    """
    if env.render is None:
        return None
    path = run.run_dir / VIDEO
    try:
        team = load_team(Choice(str(run.run_dir), "best", best_seed(summary)), env)
        env.render(first_episode(team, Plan(1)), path)
    except Exception as error:  # noqa: BLE001 - drawing is other packages' code, and the run is over
        warn(f"no video: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
        return None
    return path


def best_seed(summary: Mapping[str, Any]) -> int:
    """The seed with the best evaluation in training, by win rate where there is one; of the best cell of a sweep."""
    cells = summary.get("cells")
    best = min(cells, key=lambda cell: cell["rank"])["best"] if cells else summary["best"]
    values = list(best["win_rate"] if best["win_rate"] is not None else best["return"])
    return int(summary["seeds"][max(range(len(values)), key=lambda place: (values[place], best["return"][place]))])
