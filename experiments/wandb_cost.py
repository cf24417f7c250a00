"""The cost of W&B: ``python experiments/wandb_cost.py [LANES] [EPOCHS]`` (40 and 20).

Times the offline sink with as many metrics as training reports, from before W&B is imported until its runs are
finished, in a temporary folder. Compare with the training time of your run.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from script import start, whole

from qmix_jax.logging import EpochMetrics, RunInfo, WandbSink

METRICS = 16


def main(lanes: str = "40", epochs: str = "20") -> None:
    """Time and print."""
    count, length = whole("lanes", lanes, least=1), whole("epochs", epochs, least=1)
    spent, generator = [], np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        info = RunInfo(Path(folder), {"gamma": 0.99}, range(count), 1000, "qmix", "smax/3m", has_win_rate=True)
        sink = WandbSink("offline", "cost")
        started = time.perf_counter()
        sink.start(info)
        spent.append(time.perf_counter() - started)
        for epoch in range(1, length + 1):
            names = ["eval_return", "eval_win_rate", "eval_episode_length", "train_return", "train_win_rate"]
            names += [f"metric_{index}" for index in range(METRICS)]
            rows = {name: generator.random(count).astype(np.float32) for name in names}
            rows["env_steps"] = np.full(count, 1000 * epoch)
            sink.log(EpochMetrics(epoch, rows["env_steps"], epoch, float(epoch), rows))
        spent.append(time.perf_counter() - started)
        sink.finish({})
        spent.append(time.perf_counter() - started)
    starting, logged, finished = spent
    print(
        f"{count} runs and their aggregate, {length} epochs: start {starting:.1f} s, "
        f"logging {logged - starting:.1f} s, finish {finished - logged:.1f} s"
    )


if __name__ == "__main__":
    start(__doc__, main)
