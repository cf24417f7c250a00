"""The command line: ``python -m qmix_jax.train [group=choice ...] [key=value ...]``."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from qmix_jax import streams
from qmix_jax.envs.hosted.team import EnvError
from qmix_jax.errors import ConfigError
from qmix_jax.running.clock import Clock
from qmix_jax.running.devices import check_matmul_precision, check_platform, cores, set_up
from qmix_jax.running.hosts import HostError, connect, disconnect
from qmix_jax.running.resume import CONFIG_FILE, check_run_dir, check_same, locked, read_config, settings_to_resume
from qmix_jax.settings import command_line
from qmix_jax.settings.arguments import HELP, version_line
from qmix_jax.settings.cells import Cell, cells, lanes
from qmix_jax.settings.config import Config
from qmix_jax.settings.groups import conf_dir
from qmix_jax.settings.reading import parse, to_container

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


def main() -> None:
    """Check the command line, then hand it to Hydra. Exit status 2 for settings that cannot be used."""
    streams.secure()
    arguments = sys.argv[1:]
    if "--version" in arguments:
        print(version_line())
        return
    with _errors_in_one_line():
        command_line.check(arguments)
        asks = any(argument in HELP for argument in arguments)
        sys.argv[1:] = ["--help"] if asks else command_line.for_hydra(arguments)
    _hydra_main()


@hydra.main(version_base=None, config_path=str(conf_dir()), config_name="config")
def _hydra_main(tree: DictConfig) -> None:
    with _errors_in_one_line():
        overrides = HydraConfig.get().overrides.task
        container = settings_to_resume(to_container(tree), [item.lstrip("+~").split("=")[0] for item in overrides])
        config = parse(container)
        run_dir = _run_dir(config)
        check_run_dir(run_dir)
        container["run_dir"] = str(run_dir)
        status = run(config, container, cells(container, config), run_dir)
    if status:
        sys.exit(status)


def run(
    config: Config,
    container: dict[str, Any],
    cells: Sequence[Cell],
    run_dir: Path,
    *,
    given_env: object = None,
    keep_process: bool = False,
) -> int:
    """One training run, from the configuration to the run's folder.

    Args:
        config: what ``container`` says, typed.
        container: the settings; those that only show later are filled in.
        cells: of its sweep, if it is one.
        run_dir: its folder.
        given_env: an environment to use in place of the one that the configuration describes.
        keep_process: raise ``KeyboardInterrupt`` where Ctrl-C would end the process.

    Returns the exit status: 0, 1 if something could not be saved or numbers went wrong under ``on_nonfinite=stop``,
    130 or 143 after Ctrl-C or SIGTERM.
    """
    clock = Clock()
    saved_config = _config_in(run_dir, config, container)
    all_lanes = lanes(len(cells), list(range(config.seed, config.seed + config.num_seeds)))
    # One CPU device for every core that has a lane, or a part of one's minibatches.
    useful = len(all_lanes) * config.learner.most_parts
    settings = config.devices
    set_up(settings.platform, min(settings.count or cores(), useful), settings.matmul_precision)
    hosts = connect(config.distributed, len(all_lanes))
    container["distributed"] = {**container["distributed"], "num_processes": hosts.count if hosts.count > 1 else None}
    check_platform(settings.platform)
    import jax
    import numpy as np

    # Not at the top, and the environment first: a wrong setting is reported before what takes seconds is imported.
    from qmix_jax.envs.build import as_env, make_env

    env = make_env(config.parts["env"]) if given_env is None else as_env(given_env)

    from qmix_jax.logging import ConsoleSink, write_json
    from qmix_jax.logging.tensorboard import check_tensorboard
    from qmix_jax.running import memory
    from qmix_jax.running.session import Session
    from qmix_jax.running.waves import Waves
    from qmix_jax.settings.build import build, hyper_params_of

    if config.logger.tensorboard:
        check_tensorboard()
    algorithm, hyper = build(config, env)
    devices, each = _devices(config, len(hosts.share)), config.devices.seeds_per_device
    saves = config.checkpoint.every_minutes is not None
    fewer = config.devices.count is None
    plan = memory.check(algorithm, len(hosts.share), devices, each, checkpoints=saves, fewer=fewer)
    devices = devices[: plan.num_devices]
    if cells:
        of_all = hyper_params_of([cell.config for cell in cells], config.num_seeds)
        hyper = jax.tree.map(lambda x: np.asarray(x)[hosts.share], of_all)
    seeds = [all_lanes[place].seed for place in hosts.share]
    if env.hosted is None:
        waves = Waves(algorithm, hyper, seeds, each, devices)
    else:
        from qmix_jax.running.hosted_waves import HostedWaves  # not for environments on the device: it takes a while

        waves = HostedWaves(algorithm, hyper, seeds, each, devices, config.rollout.overlap)
    _make_run_dir(run_dir)
    console = ConsoleSink(quiet=not (config.logger.progress and hosts.is_first))
    for line in memory.describe(plan, config.checkpoint.every_minutes):
        console.message(line)
    for line in notices(config, algorithm.sizes.length, env.episode_limit):
        console.message(line)
    with locked(run_dir) if hosts.is_first else contextlib.nullcontext(), _closed_at_the_end(env):
        session = Session(
            config, container, cells, run_dir, env, waves, hosts, console, clock, keep_process, plan.copies
        )
        if saved_config is not None:
            session.restore()
        if hosts.is_first:
            write_json(run_dir / CONFIG_FILE, container)
        status = session.run()
    disconnect(hosts)
    return status


@contextlib.contextmanager
def _closed_at_the_end(env: Any) -> Iterator[None]:
    """Ends the worker processes of an environment that has some."""
    try:
        yield
    finally:
        if env.hosted is not None:
            env.hosted.close()


def notices(config: Config, length: int, episode_limit: int) -> list[str]:
    """What a user may not expect of these settings; ``length`` slots make a sequence."""
    found = []
    if length <= episode_limit:
        found.append(
            f"rollout.length={length}: an episode has up to {episode_limit} transitions; those after its first "
            f"{length - 1} are never learned from"
        )
    interval = config.evaluation.interval_env_steps
    if interval > config.total_env_steps:
        found.append(
            f"the run takes evaluation.interval_env_steps={interval} environment steps, one epoch, which is more than "
            f"total_env_steps={config.total_env_steps}"
        )
    return found


def _config_in(run_dir: Path, config: Config, container: Mapping[str, Any]) -> dict[str, Any] | None:
    """The settings of the run to resume, None for a new one. Raises :class:`ConfigError` if they do not fit."""
    saved = read_config(run_dir)
    if config.resume is False:
        if saved is not None or (run_dir / "metrics.jsonl").exists():
            raise ConfigError(f"run_dir={run_dir}: already holds a run; choose another folder, or resume=true")
        return None
    if saved is not None:
        check_same(container, saved, run_dir)
    return saved


def _devices(config: Config, num_lanes: int) -> list[Any]:
    import jax

    devices = jax.local_devices()
    check_matmul_precision(config.devices.matmul_precision)
    count = config.devices.count or len(devices)
    if count > len(devices) and count <= num_lanes:
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
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"run_dir={run_dir}: cannot be made: {error.strerror}") from error


class _errors_in_one_line:  # noqa: N801 - a context manager that reads as one
    """Turns a :class:`ConfigError` into its message on standard error and exit status 2; a full disk into 1."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, ConfigError):
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        if isinstance(error, EnvError):
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        if isinstance(error, HostError):
            # Not through the interpreter's end, where JAX's runtime would wait for the process that is gone.
            print(f"error: {error}; when it is back, resume with resume=true", file=sys.stderr, flush=True)
            sys.stdout.flush()
            os._exit(1)
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)


if __name__ == "__main__":
    main()
