"""The command line: ``python -m qmix_jax.train [group=choice ...] [key=value ...]``."""

import os
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from qmix_jax import command_line
from qmix_jax.clock import Clock
from qmix_jax.config import Config, parse, to_container
from qmix_jax.errors import ConfigError
from qmix_jax.runtime import use_compilation_cache

if TYPE_CHECKING:
    from qmix_jax.logging import Sinks
    from qmix_jax.sweep import Waves


def main() -> None:
    """Check the command line, then hand it to Hydra. Exit status 2 for settings that cannot be used."""
    with _errors_in_one_line():
        command_line.check(sys.argv[1:])
    try:
        _hydra_main()
    except BrokenPipeError:  # `--help | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
    clock = Clock()
    _configure_jax(config)
    # Not at the top, and the environment first: a wrong setting is reported before what takes seconds is imported.
    from qmix_jax.envs.build import make_env

    env = make_env(config.parts["env"])

    from qmix_jax.build import build
    from qmix_jax.logging import ConsoleSink, FileSink, Sinks, WandbSink, write_json
    from qmix_jax.results import provenance, run_info, save_policies, summarize
    from qmix_jax.sweep import Waves

    made_with = provenance()
    algorithm, hyper = build(config, env)
    seeds = list(range(config.seed, config.seed + config.num_seeds))
    waves = Waves(algorithm, hyper, seeds, config.devices.seeds_per_device, _devices(config))
    _make_run_dir(run_dir)
    write_json(run_dir / "config.json", container)
    console = ConsoleSink(quiet=not config.logger.progress)
    w = config.logger.wandb
    wandb = WandbSink(w.mode, w.project, w.name or run_dir.name, entity=w.entity, group=w.group, tags=w.tags)
    with Sinks([FileSink(), wandb, console]) as sinks:
        sinks.start(run_info(config, container, run_dir, env))
        console.message(_describe(config, algorithm, waves))
        clock.compiling()
        with console.compiling():
            waves.compile()
        clock.compiled()
        rows, interrupted = _epochs(waves, config.total_env_steps, sinks, clock)
        if not rows:
            console.message("interrupted before the first evaluation; there is nothing to save")
            return True
        best = save_policies(waves, config.algorithm.name, container, rows, run_dir)
        summary = summarize(config, env, rows, best, clock, interrupted, made_with)
        write_json(run_dir / "summary.json", summary)
        if config.logger.plot:
            from qmix_jax.plots import learning_curves, read_metrics

            title = f"{config.algorithm.name} on {env.name}"
            learning_curves(read_metrics(run_dir), run_dir / "curves.png", title=title)
        sinks.finish(summary)
    console.message(f"{'interrupted; ' if interrupted else ''}results in {run_dir}")
    return interrupted


def _epochs(waves: "Waves", total_env_steps: int, sinks: "Sinks", clock: Clock) -> tuple[dict[str, np.ndarray], bool]:
    """Train until every seed has its steps, or until Ctrl-C; returns the last epoch's metrics."""
    from qmix_jax.logging import EpochMetrics

    rows: dict[str, np.ndarray] = {}
    try:
        while not rows or rows["env_steps"].min() < total_env_steps:
            rows = waves.epoch()
            updates = int(rows["updates"][0])
            sinks.log(EpochMetrics(waves.epochs, rows["env_steps"], updates, clock.trained(), rows))
    except KeyboardInterrupt:
        return rows, True
    return rows, False


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
    use_compilation_cache()


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
