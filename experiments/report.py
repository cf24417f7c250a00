"""Keep what matters of finished runs: ``python experiments/report.py NAME RUN_DIR [RUN_DIR ...]``.

Copies each run's summary, configuration and metrics to ``experiments/results/NAME/``, draws all runs into one figure
there and prints a Markdown table with every seed and the mean with a 95% interval (Student's t over seeds).
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from qmix_jax.logging.files import METRICS_FILE
from qmix_jax.plots import compare_runs, learning_curves, read_metrics

RESULTS = Path(__file__).parent / "results"


def main(name: str, *run_dirs: str) -> None:
    """Copy, draw, print."""
    out = RESULTS / name
    out.mkdir(parents=True, exist_ok=True)
    summaries = {}
    for run_dir in map(Path, run_dirs):
        summary = json.loads((run_dir / "summary.json").read_text())
        label = summary["algorithm"]
        summaries[label] = summary
        shutil.copy(run_dir / "summary.json", out / f"{label}-summary.json")
        shutil.copy(run_dir / "config.json", out / f"{label}-config.json")
        shutil.copy(run_dir / METRICS_FILE, out / f"{label}-{METRICS_FILE}")
    if len(run_dirs) == 1:
        learning_curves(read_metrics(run_dirs[0]), out / "curves.png", title=name)
    else:
        compare_runs({label: [d] for label, d in zip(summaries, run_dirs, strict=True)}, out / "curves.png", title=name)
    print(table(summaries))


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
            x = np.asarray(values, float)
            half = stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / len(x) ** 0.5 if len(x) > 1 else np.nan
            lines.append(
                f"| {label} | {measure} | {', '.join(f'{v:.3g}' for v in x)} | {x.mean():.3f} "
                f"| {x.mean() - half:.3f} to {x.mean() + half:.3f} | {summary['env_steps']} "
                f"| {summary['env_steps_per_second']:.0f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
