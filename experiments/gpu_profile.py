"""Which kernels take the time of an iteration: ``python experiments/gpu_profile.py REQUEST``, for ``gpu_check.py``."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import jax

from qmix_jax.bench.process import set_up
from qmix_jax.bench.worker import Loop, Request
from qmix_jax.envs.build import make_env
from qmix_jax.logging import write_json
from qmix_jax.settings.build import build
from qmix_jax.settings.command_line import compose_config
from qmix_jax.settings.reading import parse, to_container

KERNELS = 20
"""Rows of the profile."""


def profile(arguments: list[str], env_steps: int, cache: str | None, file: str) -> None:
    """Train one seed for some iterations under JAX's profiler, and write the kernels' times."""
    config = parse(to_container(compose_config(arguments)))
    set_up(config.devices, 1, cache)
    algorithm, hyper = build(config, make_env(config.parts["env"]))
    loop = Loop(algorithm, hyper, Request(arguments, 1, env_steps, warm_up=False, evaluate=False), None)
    loop.run()
    folder = Path(file).with_suffix("")
    with jax.profiler.trace(str(folder)):
        seconds = loop.run()["seconds"]
    (trace,) = sorted(folder.rglob("*.xplane.pb"))[-1:]
    rows = kernels(jax.profiler.ProfileData.from_file(str(trace)))
    write_json(Path(file), {"seconds of one run": seconds, "iterations": loop.iterations, "rows": rows})


def kernels(data: Any) -> list[dict[str, Any]]:
    """The operations that took longest, over all devices of a profile; on CPU those of XLA's own threads."""
    planes = [plane for plane in data.planes if plane.name.startswith("/device:")] or list(data.planes)
    times: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for plane in planes:
        for line in plane.lines:
            if plane.name.startswith("/device:") or line.name.startswith("tf_"):
                for event in line.events:
                    times[event.name] += event.duration_ns
                    calls[event.name] += 1
    total = sum(times.values())
    return [
        {
            "kernel": name.replace("|", "/")[:70],
            "calls": calls[name],
            "ms": f"{time / 1e6:.2f}",
            "share": f"{time / total:.1%}",
        }
        for name, time in times.most_common(KERNELS)
    ]


if __name__ == "__main__":
    profile(**json.loads(sys.argv[1]))
