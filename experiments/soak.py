"""Kill a run with ``kill -9`` at random moments, resume it each time, and compare it with an uninterrupted run.

``python experiments/soak.py [KILLS]`` (100) works in a temporary folder. Kills happen during training, while a
checkpoint is written, and while the program starts. Fails unless the results have the same bits.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SETTINGS = (
    "experiment=two_step_game",
    "algorithm=iql",
    "num_seeds=3",
    "evaluation.interval_env_steps=100",
    "agent.hidden_size=8",
    "rollout.num_envs=5",
    "replay.batch_size=8",
    "learner.warmup_env_steps=0",
    "checkpoint.every_minutes=0",
    "logger.plot=false",
    "logger.wandb.mode=disabled",
)
EPOCHS_PER_KILL = 4


def main(kills: str = "100") -> None:
    """Run the test; exit with status 1 if anything differs."""
    from script import whole  # here, since tests load this file from elsewhere

    count = whole("kills", kills, least=1)
    with tempfile.TemporaryDirectory() as folder:
        if not soak(Path(folder), count):
            sys.exit("the killed run and the uninterrupted run have different results")
    print(f"{count} of {count} kills: the resumed run has the same bits")


def soak(folder: Path, kills: int, seed: int = 0) -> bool:
    """Whether a run that is killed ``kills`` times gives the same results as an uninterrupted run."""
    settings = (*SETTINGS, f"total_env_steps={100 * EPOCHS_PER_KILL * kills}")
    finish(folder, *settings, "run_dir=whole", "checkpoint.every_minutes=null")
    chance = random.Random(seed)
    for kill in range(kills):
        before = newest(folder / "killed")
        process = subprocess.Popen(
            command(*settings, "run_dir=killed", "resume=true"), cwd=folder, stdout=subprocess.DEVNULL
        )
        in_training = chance.random() < 0.9  # the others are killed at any moment of the first five seconds
        wait = 600.0 if in_training else 5 * chance.random()
        until = time.monotonic() + wait
        while process.poll() is None and time.monotonic() < until and newest(folder / "killed") <= before:
            time.sleep(0.002)
        time.sleep(0.2 * chance.random())
        if process.poll() is not None:
            raise RuntimeError(f"kill {kill}: the run had already ended, with status {process.returncode}")
        process.kill()
        process.wait()
        print(f"kill {kill + 1}: at epoch {newest(folder / 'killed')}", flush=True)
    finish(folder, *settings, "run_dir=killed", "resume=true")
    return results(folder / "killed") == results(folder / "whole")


def command(*arguments: str) -> list[str]:
    """The command of a training run."""
    last = {argument.partition("=")[0]: argument for argument in arguments}  # given twice, it would be refused
    return [sys.executable, "-m", "qmix_jax.train", *last.values()]


def finish(folder: Path, *arguments: str) -> None:
    """Train to the end."""
    subprocess.run(command(*arguments), cwd=folder, check=True, stdout=subprocess.DEVNULL)


def newest(run_dir: Path) -> int:
    """Epoch of the newest complete checkpoint, 0 for none."""
    return max((int(path.name) for path in run_dir.glob("checkpoints/*") if path.name.isdigit()), default=0)


def results(run_dir: Path) -> dict[str, Any]:
    """The results of a run: its metrics, the bytes of its policies, and its evaluations."""
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        del row["seconds"]
    summary = json.loads((run_dir / "summary.json").read_text())
    return {
        "metrics": rows,
        "policies": {str(path.relative_to(run_dir)): path.read_bytes() for path in run_dir.glob("policies/*/*")},
        "summary": {
            key: summary[key] for key in ("env_steps", "updates", "evaluation", "best", "seeds", "interrupted")
        },
    }


if __name__ == "__main__":
    from script import start

    start(__doc__, main)
