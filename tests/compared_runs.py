"""Folders as runs leave them, for what reads runs."""

import json
from pathlib import Path
from typing import Any

import numpy as np


def write_run(
    run_dir: Path,
    algorithm: str = "qmix",
    env: str = "3m",
    *,
    seeds: int = 4,
    first_seed: int = 0,
    epochs: int = 6,
    interval: int = 1000,
    level: float = 0.5,
    win_rate: bool = True,
    finished: bool = True,
    **settings: Any,
) -> Path:
    """A run whose win rate rises to about ``level`` in its last epoch; ``settings`` are sections or keys of them."""
    run_dir.mkdir(parents=True)
    config: dict[str, Any] = {
        "algorithm": {"name": algorithm},
        "env": {"_target_": "qmix_jax.envs.jaxmarl.make_smax", "scenario": env, "max_steps": 100},
        "optimizer": {"_target_": "qmix_jax.learning.optimizers.adam", "learning_rate": 5e-4},
        "gamma": 0.99,
        "seed": first_seed,
        "num_seeds": seeds,
        "total_env_steps": epochs * interval,
        "run_dir": str(run_dir),
    }
    for key, value in settings.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    (run_dir / "config.json").write_text(json.dumps(config))
    noise = np.random.default_rng(first_seed).normal(0, 0.02, (epochs + 1, seeds))
    rows = [
        {
            "epoch": epoch,
            "seed": first_seed + seed,
            "env_steps": epoch * interval + seed,
            "seconds": 2.0 * epoch,
            "eval_return": 2 * float(level * epoch / epochs + noise[epoch, seed]),
            "eval_win_rate": float(level * epoch / epochs + noise[epoch, seed]) if win_rate else None,
        }
        for epoch in range(1, epochs + 1)
        for seed in range(seeds)
    ]
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if finished:
        summary = {"env": f"smax-{env}", "interrupted": False, "git_commit": "0123456789abcdef", "nonfinite": []}
        (run_dir / "summary.json").write_text(json.dumps(summary))
    return run_dir
