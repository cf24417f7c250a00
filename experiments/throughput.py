"""Training speed on this machine: ``python experiments/throughput.py [seeds ...]`` (``make bench``).

For each number of seeds: seconds to trace and compile QMIX on SMAX 3m (nothing cached), and environment steps per
second of all seeds while learning, as the median of several epochs with their spread.
"""

import os
import sys
import time

import jax
import numpy as np

from qmix_jax import Waves, make_algorithm

EPOCHS = 5


def main(*seeds: str) -> None:
    """Measure and print one line per number of seeds."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    settings = ["experiment=smax_3m", "evaluation.interval_env_steps=10_000", "learner.warmup_env_steps=0"]
    algorithm, hyper = make_algorithm(settings)
    print(f"jax {jax.__version__} on {jax.local_device_count()} {jax.default_backend()} device(s)")
    for count in map(int, seeds or ("1", "4")):
        jax.clear_caches()
        waves = Waves(algorithm, hyper, list(range(count)))
        started = time.monotonic()
        waves.compile()
        compiled = time.monotonic() - started
        waves.epoch()  # warms up: its first iterations only fill the replay
        rates = []
        before = waves.epoch()["env_steps"].sum()
        for _ in range(EPOCHS):
            started = time.monotonic()
            after = waves.epoch()["env_steps"].sum()
            rates.append((after - before) / (time.monotonic() - started))
            before = after
        print(
            f"seeds={count} compile_seconds={compiled:.1f} env_steps_per_second={np.median(rates):.0f} "
            f"(lowest {min(rates):.0f}, highest {max(rates):.0f}, {EPOCHS} epochs; evaluation included)"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
