"""Train one of JaxMARL's programs, unchanged, and write what it logs as the folder of a run.

``python -P benchmark_peer.py PROGRAM SETTINGS NAME MAP STEPS SEED FOLDER``, in the Python that has JaxMARL's
dependencies; ``experiments/benchmark.py`` puts the command together. PROGRAM and SETTINGS are files of its checkout.
Its own settings, except for map, length, seed, and 128 evaluation episodes every 50,000 steps. One seed, so that its
orthogonal initialiser does not run under ``vmap``, where it hangs on two cores. Its MAPPO evaluates nothing: its
numbers are those of the episodes that it trains on. Imports nothing of this project.
"""

import importlib.util
import json
import platform
import sys
import time
import types
from pathlib import Path
from typing import Any

INTERVAL, EPISODES = 50_000, 128
"""Environment steps between evaluations, and episodes of one."""


class Log:
    """Stands in for the program's ``wandb``: keeps its evaluations as lines of ``metrics.jsonl``."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.rows: list[dict[str, Any]] = []
        self.started = 0.0
        self._file = (folder / "metrics.jsonl").open("w", encoding="utf-8")
        self._seed = config["SEED"]
        self._rollout = config["NUM_ENVS"] * config["NUM_STEPS"]
        self._every = max(1, round(INTERVAL / self._rollout))
        self._iterations = 0

    @property
    def env_steps(self) -> int:
        """So far."""
        return self._iterations * self._rollout

    def log(self, metrics: dict[str, Any], **_: Any) -> None:
        """Take in one iteration; its program evaluates in those that a multiple of ``_every`` counts."""
        self._iterations += 1
        if self._iterations % self._every:
            return
        greedy = "test_returned_episode_returns" in metrics
        names = ("test_returned_episode_returns", "test_returned_won_episode") if greedy else ("returns", "win_rate")
        found = (metrics.get(name) for name in names)
        values = [None if value is None or value != value else round(float(value), 5) for value in found]
        row = {
            "epoch": self._iterations // self._every,
            "seed": self._seed,
            "env_steps": self.env_steps,
            "seconds": round(time.perf_counter() - self.started, 3),
            "eval_return": values[0],
            "eval_win_rate": values[1],
        }
        self.rows.append(row)
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def load(program: Path) -> Any:
    """The program as a module, with its checkout's ``jaxmarl``."""
    sys.path.insert(0, str(program.parents[2]))
    spec = importlib.util.spec_from_file_location("peer", program)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def settings(file: Path, task: str, steps: int, seed: int) -> dict[str, Any]:
    """Its own settings, with ours where they are about the run and not about learning."""
    from omegaconf import OmegaConf

    config: Any = OmegaConf.to_container(OmegaConf.load(file))
    where = {"ENV_NAME": task, "ENV_KWARGS": {}} if task.startswith("MPE_") else {"MAP_NAME": task}
    updates = steps // (config["NUM_STEPS"] * config["NUM_ENVS"])
    every = max(1, round(INTERVAL / (config["NUM_STEPS"] * config["NUM_ENVS"])))
    # The program takes the whole part of TEST_INTERVAL times the number of updates.
    return {
        **config,
        **where,
        "TOTAL_TIMESTEPS": steps,
        "SEED": seed,
        "TEST_INTERVAL": (every + 0.5) / max(updates, 1),
        "TEST_NUM_ENVS": EPISODES,
        "WANDB_MODE": "offline",
    }


def train(module: Any, config: dict[str, Any], log: Log) -> tuple[float, float]:
    """Compile and run; returns the seconds of both."""
    import jax

    if hasattr(module, "env_from_config"):
        env, _ = module.env_from_config(json.loads(json.dumps(config)))
        program = module.make_train(config, env)
    else:
        program = module.make_train(config)
    key = jax.random.PRNGKey(config["SEED"])
    started = time.perf_counter()
    compiled = jax.jit(program).lower(key).compile()
    log.started = time.perf_counter()
    jax.block_until_ready(compiled(key))
    jax.effects_barrier()
    return log.started - started, time.perf_counter() - log.started


def main(program: str, file: str, name: str, task: str, steps: str, seed: str, folder: str) -> None:
    """Train and write ``config.json``, ``metrics.jsonl`` and ``summary.json``."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    (out / "summary.json").unlink(missing_ok=True)
    module = load(Path(program).resolve())
    config = settings(Path(file), task, int(steps), int(seed))
    log = Log(out, config)
    module.wandb = types.SimpleNamespace(log=log.log)
    env = task.removeprefix("MPE_").removesuffix("_v3") if task.startswith("MPE_") else task
    env = f"{'mpe' if task.startswith('MPE_') else 'smax'}-{env}"
    about = {"seed": int(seed), "num_seeds": 1, "total_env_steps": int(steps), "algorithm": {"name": name}}
    (out / "config.json").write_text(json.dumps({**about, "env": {"name": env}, "peer": config}, indent=1))
    compile_seconds, train_seconds = train(module, config, log)
    log.close()
    if not log.rows:
        sys.exit(f"error: {steps} steps: too few for one evaluation of {name}; ask for more")
    import jax

    last = log.rows[-1]
    best = max(log.rows, key=lambda row: (row["eval_win_rate"] or 0.0, row["eval_return"] or 0.0))
    summary = {
        "algorithm": name,
        "env": env,
        "num_seeds": 1,
        "seeds": [int(seed)],
        "env_steps": log.env_steps,
        "compile_seconds": compile_seconds,
        "train_seconds": train_seconds,
        "env_steps_per_second": log.env_steps / train_seconds,
        "evaluation": {"return": [last["eval_return"]], "win_rate": _listed(last)},
        "best": {"return": [best["eval_return"]], "win_rate": _listed(best), "env_steps": [best["env_steps"]]},
        "interrupted": False,
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
        "git_commit": None,
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=1))


def _listed(row: dict[str, Any]) -> list[float] | None:
    return None if row["eval_win_rate"] is None else [row["eval_win_rate"]]


if __name__ == "__main__":
    main(*sys.argv[1:])
