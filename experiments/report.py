"""Archive finished runs: ``python experiments/report.py NAME RUN_DIR [RUN_DIR ...]``.

Runs of the same algorithm are pooled (they have different seeds). Copies each run's summary, configuration and metrics
to ``experiments/results/NAME/``, draws all runs into one figure there and prints a Markdown table with every seed and
the mean with a 95% interval (Student's t over seeds).
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from script import is_finished, start

from qmix_jax.errors import require
from qmix_jax.logging.files import METRICS_FILE
from qmix_jax.results.confidence import mean_interval
from qmix_jax.results.curves import compare_runs, learning_curves, read_metrics

RESULTS = Path(__file__).parent / "results"


FILES = ("summary.json", "config.json", METRICS_FILE)
"""What is copied of a run."""


def main(name: str, run_dir: str, *more_run_dirs: str) -> None:
    """Copy the files, draw the figure, print the table."""
    run_dirs = (run_dir, *more_run_dirs)
    for folder in map(Path, run_dirs):
        for file in FILES:
            require((folder / file).is_file(), "run_dir", folder, f"the folder of a finished run (no {file} there)")
        require(is_finished(folder), "run_dir", folder, "the folder of a finished run (this one was interrupted)")
    out = RESULTS / name
    out.mkdir(parents=True, exist_ok=True)
    parts: dict[str, list[Path]] = {}
    for folder in map(Path, run_dirs):
        label = json.loads((folder / "summary.json").read_text())["algorithm"]
        parts.setdefault(label, []).append(folder)
        suffix = f"-{len(parts[label])}" if len(parts[label]) > 1 else ""
        for file in FILES:
            shutil.copy(folder / file, out / f"{label}{suffix}-{file}")
    if len(run_dirs) == 1:
        learning_curves(read_metrics(run_dir), out / "curves.png", title=name)
    else:
        compare_runs(parts, out / "curves.png", title=name)
    print(table({label: joined(folders) for label, folders in parts.items()}))


def joined(folders: list[Path]) -> dict[str, Any]:
    """One summary for the seeds of all ``folders``; the speed is that of the first."""
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in folders]
    first = summaries[0]
    measures = {
        name: values and [value for summary in summaries for value in summary["evaluation"][name]]
        for name, values in first["evaluation"].items()
    }
    return {**first, "evaluation": measures}


def table(summaries: dict[str, Any]) -> str:
    """Final greedy evaluation of every seed."""
    lines = [
        "| run | measure | each seed | mean | 95% interval | env steps per seed | steps/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for label, summary in summaries.items():
        for measure, values in summary["evaluation"].items():
            if values is None:
                continue
            mean, low, high = mean_interval(np.asarray(values, float))
            lines.append(
                f"| {label} | {measure} | {', '.join(f'{value:.3g}' for value in values)} | {mean:.3f} "
                f"| {low:.3f} to {high:.3f} | {summary['env_steps']} "
                f"| {summary['env_steps_per_second']:.0f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    start(__doc__, main)
