"""The cost of one checkpoint per minute: ``python experiments/checkpoint_cost.py [ROUNDS]`` (4).

QMIX on SMAX 3m with replays of 500 MB in total, filled with noise so that nothing compresses. Trains for about half a
minute without and half a minute with one checkpoint, alternating. Prints the cost of a checkpoint as a share of a
minute's environment steps.

``python experiments/checkpoint_cost.py save GIB ...`` writes and checks checkpoints of so many GiB of noise, and prints
what that takes as a share of ten minutes.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from script import call_with, start, whole

from qmix_jax import make_algorithm
from qmix_jax.running.checkpoint import Checkpoints, verify, write_checkpoint
from qmix_jax.running.waves import Waves

REPLAY_BYTES = 500e6
SPELL = 30.0
EVERY = 600.0
"""Seconds between checkpoints by default."""


def main(*arguments: str) -> None:
    """``save``, or the number of rounds."""
    if arguments[:1] == ("save",):
        call_with(save_times, arguments[1:], "save ")
    else:
        call_with(training_times, arguments)


def training_times(rounds: str = "4") -> None:
    """Measure and print."""
    number = whole("rounds", rounds, least=1)
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    seeds = list(range(jax.local_device_count()))
    settings = ["experiment=smax_3m", "evaluation.interval_env_steps=4000", "evaluation.episodes=8"]
    small = Waves(*make_algorithm([*settings, "replay.capacity=32"]), seeds)
    capacity = int(32 * REPLAY_BYTES / replay_bytes(small))
    algorithm, hyper = make_algorithm([*settings, f"replay.capacity={capacity}", "learner.warmup_env_steps=0"])
    waves = Waves(algorithm, hyper, seeds)
    waves.compile()
    fill_with_noise(waves)
    print(f"{len(seeds)} seeds, replay.capacity={capacity}, {replay_bytes(waves) / 1e6:.0f} MB of replay")
    waves.epoch()
    shares = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder) / "checkpoints", keep=2)
        for _ in range(number):
            without, _ = spell(waves, None)
            with_one, blocked = spell(waves, checkpoints)
            share = (1 - with_one / without) * SPELL / 60
            shares.append(share)
            print(
                f"steps/s {without:.0f} without, {with_one:.0f} with one in {SPELL:.0f} s "
                f"(training waited {blocked:.2f} s): {share:.1%} of a minute's",
                flush=True,
            )
    print(f"median {np.median(shares):.1%}, from {min(shares):.1%} to {max(shares):.1%}")


def save_times(gib: str, *more_gib: str) -> None:
    """Measure and print what checkpoints of so many GiB take."""
    for size in [whole("gib", text, least=1) for text in (gib, *more_gib)]:
        block = np.random.default_rng(0).bytes(2**26)
        replay = np.frombuffer(block * 16 * size, np.float32).reshape(1, -1)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "00000001"
            times = [timed(lambda path=path, x=replay: write_checkpoint(path, {"replay": x}, {})), timed(verify, path)]
        for what, (seconds, processor) in zip(("saved", "checked"), times, strict=True):
            print(f"{size} GiB {what} in {seconds:.1f} s ({processor:.1f} s of a core: {processor / EVERY:.1%})")


def timed(function: Callable[..., object], *arguments: object) -> tuple[float, float]:
    """Seconds that a call takes, and those of a processor."""
    started, before = time.monotonic(), time.process_time()
    function(*arguments)
    return time.monotonic() - started, time.process_time() - before


def spell(waves: Waves, checkpoints: Checkpoints | None) -> tuple[float, float]:
    """Train for ``SPELL`` seconds: environment steps per second, and seconds of waiting for a checkpoint."""
    before, started, blocked = int(waves.epoch()["env_steps"].sum()), time.monotonic(), 0.0
    if checkpoints is not None:
        checkpoints.save(waves.epochs, waves.snapshot(), {"epochs": waves.epochs})
        blocked = time.monotonic() - started
    after = before
    while time.monotonic() - started < SPELL:
        after = int(waves.epoch()["env_steps"].sum())
    rate = (after - before) / (time.monotonic() - started)
    if checkpoints is not None:
        checkpoints.wait()
    return rate, blocked


def replay_bytes(waves: Waves) -> int:
    """Bytes of the replays of all seeds."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(waves.snapshot_like().replay))


def fill_with_noise(waves: Waves) -> None:
    """Fill all replays with random observations and states."""
    state = waves.snapshot()
    numbers = np.random.default_rng(0)

    def noise(x: np.ndarray) -> np.ndarray:
        is_float = jnp.issubdtype(x.dtype, jnp.floating) and x.ndim > 3
        return numbers.normal(size=x.shape).astype(x.dtype) if is_float else x

    replay = state.replay._replace(slots=jax.tree.map(noise, state.replay.slots))
    waves.restore(state._replace(replay=replay), waves.epochs)


if __name__ == "__main__":
    start(__doc__, main)
