"""The command line: ``python -m qmix_jax.train [group=choice ...] [key=value ...]``."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from qmix_jax import command_line
from qmix_jax.config import Config, parse, to_container
from qmix_jax.errors import ConfigError

if TYPE_CHECKING:
    from qmix_jax.sweep import Waves

VERSIONS_OF = ("qmix_jax", "jax", "jaxlib", "flax", "optax", "distrax", "jaxmarl", "numpy")


def main() -> None:
    """Check the command line, then hand it to Hydra. Exit status 2 for settings that cannot be used."""
    with _errors_in_one_line():
        command_line.check(sys.argv[1:])
    _hydra_main()


@hydra.main(version_base=None, config_path=str(command_line.conf_dir()), config_name="config")
def _hydra_main(tree: DictConfig) -> None:
    with _errors_in_one_line():
        container = to_container(tree)
        config = parse(container)
        run_dir = _run_dir(config)
        container["run_dir"] = str(run_dir)
        interrupted = run(config, container, run_dir)
    if interrupted:
        sys.exit(130)


def run(config: Config, container: Mapping[str, Any], run_dir: Path) -> bool:
    """One training run, from the configuration to the run's folder. Returns whether it was interrupted."""
    started = time.monotonic()
    _configure_jax(config)
    # Not at the top, and the environment first: a wrong setting is reported before what takes seconds is imported.
    from qmix_jax.envs.build import make_env

    env = make_env(config.parts["env"])

    from qmix_jax.build import build
    from qmix_jax.logging import ConsoleSink, EpochMetrics, FileSink, RunInfo, Sinks, WandbSink, write_json
    from qmix_jax.sweep import Waves

    algorithm, hyper = build(config, env)
    seeds = list(range(config.seed, config.seed + config.num_seeds))
    waves = Waves(algorithm, hyper, seeds, config.devices.seeds_per_device, _devices(config))
    info = RunInfo(
        run_dir=run_dir,
        config=container,
        seeds=seeds,
        total_env_steps=config.total_env_steps,
        algorithm=config.algorithm.name,
        env=algorithm.env.name,
        has_win_rate=algorithm.env.has_win_rate,
    )
    _make_run_dir(run_dir)
    write_json(run_dir / "config.json", container)
    console = ConsoleSink() if config.logger.progress else None
    w = config.logger.wandb
    wandb = WandbSink(w.mode, w.project, w.name or run_dir.name, entity=w.entity, group=w.group, tags=w.tags)
    say = console.message if console else (lambda text: None)
    with Sinks([FileSink(), wandb, *([console] if console else [])]) as sinks:
        sinks.start(info)
        say(_describe(config, algorithm, waves))
        compile_started = time.monotonic()
        if console:
            with console.compiling():
                waves.compile()
        else:
            waves.compile()
        compile_seconds = time.monotonic() - compile_started

        interrupted, train_seconds, rows = False, 0.0, {}
        train_started = time.monotonic()
        try:
            while not rows or rows["env_steps"].min() < config.total_env_steps:
                rows = waves.epoch()
                train_seconds = time.monotonic() - train_started
                updates = int(rows["updates"][0])
                sinks.log(EpochMetrics(waves.epochs, rows["env_steps"], updates, train_seconds, rows))
        except KeyboardInterrupt:
            interrupted = True
        if not rows:
            say("interrupted before the first evaluation; nothing to save")
            return True
        best = _save_policies(waves, config, container, rows, run_dir)
        summary = {
            "algorithm": config.algorithm.name,
            "env": algorithm.env.name,
            "num_seeds": config.num_seeds,
            "seeds": seeds,
            "env_steps": int(rows["env_steps"].mean()),
            "env_steps_per_seed": rows["env_steps"],
            "updates": int(rows["updates"][0]),
            "updates_per_env_step": float(rows["updates"][0] / rows["env_steps"].mean()),
            "compile_seconds": compile_seconds,
            "train_seconds": train_seconds,
            "wall_seconds": time.monotonic() - started,
            "env_steps_per_second": float(rows["env_steps"].sum() / train_seconds),
            "evaluation": _evaluation(rows, "eval_", algorithm.env.has_win_rate),
            "best": best,
            "interrupted": interrupted,
            "versions": _versions(),
            "git_commit": _git_commit(),
        }
        write_json(run_dir / "summary.json", summary)
        if config.logger.plot:
            from qmix_jax.plots import learning_curves, read_metrics

            title = f"{config.algorithm.name} on {algorithm.env.name}"
            learning_curves(read_metrics(run_dir), run_dir / "curves.png", title=title)
        sinks.finish(summary)
    say(f"{'interrupted; ' if interrupted else ''}results in {run_dir}")
    return interrupted


def _save_policies(
    waves: "Waves", config: Config, container: Mapping[str, Any], rows: Mapping[str, np.ndarray], run_dir: Path
) -> dict[str, Any]:
    """Write the final and the best agent of every seed; returns the best evaluations as the summary shows them."""
    import jax

    from qmix_jax.policy import save_policy

    final, best = waves.agents()
    env = waves.algorithm.env
    best_rows = {
        "env_steps": best.env_steps,
        "return": best.evaluation.episode_return,
        "win_rate": best.evaluation.win_rate,
        "episode_length": best.evaluation.episode_length,
    }
    final_rows = {name: rows[key] for name, key in zip(best_rows, ("env_steps", *EVALUATION_ROWS), strict=True)}
    for index, seed in enumerate(waves.seeds):
        for name, params, found in (("final", final, final_rows), ("best", best.agent, best_rows)):
            description = {
                "algorithm": config.algorithm.name,
                "seed": seed,
                "env_steps": found["env_steps"][index],
                "evaluation": {key: values[index] for key, values in found.items() if key != "env_steps"},
                "sizes": {key: getattr(env, key) for key in ("num_agents", "num_actions", "obs_size", "state_size")},
                "agent": container["agent"],
                "env": container["env"],
            }
            params = jax.tree.map(lambda x: x[index], params)  # noqa: B023 - used at once
            save_policy(run_dir / "policies" / f"seed_{seed}" / name, params, description)
    return _evaluation(best_rows, "", env.has_win_rate) | {"env_steps": best.env_steps}


EVALUATION_ROWS = ("eval_return", "eval_win_rate", "eval_episode_length")


def _evaluation(rows: Mapping[str, np.ndarray], prefix: str, has_win_rate: bool) -> dict[str, Any]:
    return {
        "return": rows[f"{prefix}return"],
        "win_rate": rows[f"{prefix}win_rate"] if has_win_rate else None,
        "episode_length": rows[f"{prefix}episode_length"],
    }


def _describe(config: Config, algorithm: Any, waves: "Waves") -> str:
    """Two lines on what is about to run, the update : data ratio among it."""
    env, s = algorithm.env, algorithm.sizes
    steps = s.num_envs * (s.length - 1)
    reuse = s.updates_per_iteration * s.batch_size / s.num_envs
    return (
        f"{config.algorithm.name} on {env.name}: {env.num_agents} agents, {env.num_actions} actions, "
        f"{config.num_seeds} seed(s) on {waves.describe()}\n"
        f"update : data ratio: {s.updates_per_iteration} updates of {s.batch_size} sequences per {s.num_envs} "
        f"collected sequences of {s.length} slots ({s.updates_per_iteration / steps:.2g} updates per environment "
        f"step at full sequences; every step is learned from {reuse:g} times)"
    )


def _configure_jax(config: Config) -> None:
    """Platform, one CPU device per core that has a seed, and the compilation cache; before JAX looks for devices."""
    import jax

    if config.devices.platform is not None:
        jax.config.update("jax_platforms", {"gpu": "cuda"}.get(config.devices.platform, config.devices.platform))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jax.config.update("jax_num_cpu_devices", min(config.devices.count or cores, config.num_seeds))
    if jax.config.jax_compilation_cache_dir is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qmix_jax" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(cache))


def _devices(config: Config) -> list[Any]:
    import jax

    try:
        devices = jax.local_devices()
    except RuntimeError as error:
        raise ConfigError(
            f"devices.platform={config.devices.platform}: not available here ({str(error).splitlines()[0]})"
        ) from error
    count = config.devices.count or len(devices)
    if count > len(devices) and count <= config.num_seeds:
        raise ConfigError(f"devices.count={count}: there are {len(devices)} devices; use at most {len(devices)}")
    return devices[:count]


def _run_dir(config: Config) -> Path:
    if config.run_dir is not None:
        return Path(config.run_dir)
    hydra_config = HydraConfig.get()
    if hydra_config.mode == RunMode.MULTIRUN:
        return Path(hydra_config.sweep.dir) / hydra_config.sweep.subdir
    env = hydra_config.runtime.choices["env"]
    now = datetime.now()
    return Path("runs") / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S}-{config.algorithm.name}-{env}"


def _make_run_dir(run_dir: Path) -> None:
    if (run_dir / "metrics.jsonl").exists():
        raise ConfigError(f"run_dir={run_dir}: already holds a run; choose another folder")
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"run_dir={run_dir}: cannot be made: {error.strerror}") from error


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": sys.version.split()[0]}
    for name in VERSIONS_OF:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _git_commit() -> str | None:
    """The commit of the checkout that this code runs from, if it is one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


class _errors_in_one_line:  # noqa: N801 - a context manager that reads as one
    """Turns a :class:`ConfigError` into its message on standard error and exit status 2."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, ConfigError):
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)


if __name__ == "__main__":
    main()
