"""The command line: ``python -m qmix_jax.train [group=choice ...] [key=value ...]``."""

import contextlib
import errno
import gc
import os
import sys
from datetime import datetime
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from qmix_jax import streams
from qmix_jax.envs.hosted.team import EnvError
from qmix_jax.errors import ConfigError
from qmix_jax.logging.files import check_folder
from qmix_jax.running.devices import check_xla_flags
from qmix_jax.running.hosts import HostError
from qmix_jax.running.resume import check_idle, settings_to_resume
from qmix_jax.settings import command_line
from qmix_jax.settings.arguments import HELP, version_line
from qmix_jax.settings.cells import cells
from qmix_jax.settings.config import Config
from qmix_jax.settings.groups import conf_dir
from qmix_jax.settings.reading import parse, to_container

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


_jobs: list[Config] = []
"""What this process was asked to train. Jobs that a launcher starts elsewhere find none."""


def main() -> None:
    """Check the command line, then hand it to Hydra. Exit status 2 for settings that cannot be used."""
    streams.secure()
    gc.disable()  # until the programs are compiled: a start makes many objects that stay, to go through them is a sixth
    arguments = sys.argv[1:]
    if "--version" in arguments:
        print(version_line())
        return
    with _errors_in_one_line():
        _jobs.extend(command_line.check(arguments))
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
        check_folder("run_dir", run_dir)
        if config.run_dir is not None:
            check_idle(run_dir, config.distributed)
        container["run_dir"] = str(run_dir)
        made_of = cells(container, config)
        check_xla_flags()
        from qmix_jax.running import launch  # Not at the top: what is wrong so far is said before JAX is imported.

        status = launch.run(launch.Request(config, container, made_of, run_dir), later=_jobs[1:]).status
        _jobs.clear()
    if status:
        sys.exit(status)


def _run_dir(config: Config) -> Path:
    if config.run_dir is not None:
        return Path(config.run_dir)
    hydra_config = HydraConfig.get()
    if hydra_config.mode == RunMode.MULTIRUN:
        folder = Path(hydra_config.sweep.dir) / hydra_config.sweep.subdir
        with contextlib.suppress(OSError):
            folder.rmdir()  # Hydra has made it; an empty one is not a run that is there already
        return folder
    env = hydra_config.runtime.choices["env"]
    now = datetime.now()
    return Path("runs") / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S}-{config.algorithm.name}-{env}"


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
