"""Run a JaxMARL checkout's ``qmix_rnn.py`` for :class:`qmix_jax.bench.process.Process`, in that checkout's Python.

Usage: ``python -P jaxmarl_driver.py FILE CONFIG``, with the configuration as JSON. Imports nothing of this package. The
peer's program is unchanged except for two things:

- The orthogonal initialiser is replaced by a uniform one: under ``vmap`` its QR decompositions deadlock on a
  machine with two cores.
- The buffer can be sampled as soon as it holds a minibatch of sequences. The peer waits for that many sequences of
  every environment, so that learning would start much later than its configuration says.
"""

import importlib.util
import json
import math
import os
import resource
import sys
import time
from typing import Any

import jax

CHANGES = ("uniform instead of orthogonal initialiser", "learning starts once a minibatch of sequences is stored")


def load(path: str) -> Any:
    """The peer's file as a module, without its orthogonal initialiser."""

    def uniform(scale: float = 1.0, column_axis: int = -1, dtype: Any = None) -> Any:
        del column_axis, dtype
        return jax.nn.initializers.variance_scaling(max(scale, 1e-6), "fan_in", "uniform")

    # Before flax is imported: its GRUCell takes the initialiser as the default of a field.
    jax.nn.initializers.orthogonal = uniform  # pyright: ignore
    spec = importlib.util.spec_from_file_location("peer_qmix_rnn", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sample_early(module: Any, config: dict[str, Any]) -> None:
    """Allow sampling as soon as the buffer holds a minibatch."""
    make_buffer = module.fbx.make_trajectory_buffer

    def make(**settings: Any) -> Any:
        settings["min_length_time_axis"] = math.ceil(config["BUFFER_BATCH_SIZE"] / config["NUM_ENVS"])
        return make_buffer(**settings)

    module.fbx.make_trajectory_buffer = make


def tree_bytes(tree: Any) -> int:
    """Bytes of the arrays, or shapes of arrays, in a tree."""
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def main() -> None:
    """Compile, then run once for every line of standard input."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    path, config = sys.argv[1], json.loads(sys.argv[2])
    jax.config.update("jax_enable_compilation_cache", False)
    module = load(path)
    sample_early(module, config)
    env, _ = module.env_from_config(config)
    seeds = config["NUM_SEEDS"]
    keys = jax.random.split(jax.random.PRNGKey(0), seeds)
    started = time.perf_counter()
    lowered = jax.jit(jax.vmap(module.make_train(config, env))).lower(keys)
    traced = time.perf_counter()
    compiled = lowered.compile()
    ended = time.perf_counter()
    stored = tree_bytes(lowered.out_info["runner_state"][1].experience) / seeds
    per_step = stored / (config["BUFFER_SIZE"] // config["NUM_ENVS"] * config["NUM_ENVS"] * config["NUM_STEPS"])
    sizes = compiled.memory_analysis()
    say(
        answers,
        {
            "trace_seconds": traced - started,
            "compile_seconds": ended - traced,
            "devices": f"1 {jax.default_backend()}",
            "changes": CHANGES,
            "versions": {"jax": jax.__version__},
            "replay_bytes": {"per_step": per_step, "per_slot": per_step},
            "program_bytes": {
                name: getattr(sizes, f"{name}_size_in_bytes") for name in ("argument", "output", "alias", "temp")
            },
        },
    )
    for _ in sys.stdin:
        say(answers, run(compiled, keys))


def run(compiled: Any, keys: Any) -> dict[str, Any]:
    """Train all seeds from the start."""
    started = time.perf_counter()
    output = jax.block_until_ready(compiled(keys))
    seconds = time.perf_counter() - started
    state = output["runner_state"][0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": seconds,
        "env_steps": int(state.timesteps.sum()),
        "updates": int(state.grad_steps.sum()),
        "peak_rss_bytes": peak if sys.platform == "darwin" else peak * 1024,
    }


def say(answers: Any, answer: dict[str, Any]) -> None:
    """One line of JSON."""
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
