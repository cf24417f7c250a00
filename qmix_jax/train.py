"""The command line: ``python -m qmix_jax.train [group=choice ...] [key=value ...]``."""

import contextlib
import errno
import gc
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import ClassVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from qmix_jax import streams
from qmix_jax.envs.hosted.team import EnvError
from qmix_jax.errors import ConfigError
from qmix_jax.logging.files import check_folder
from qmix_jax.running.devices import check_xla_flags
from qmix_jax.running.hosts import HostError
from qmix_jax.running.resume import check_idle, check_new, settings_of, settings_to_resume
from qmix_jax.settings import command_line
from qmix_jax.settings.arguments import HELP, split_options, version_line
from qmix_jax.settings.cells import cells
from qmix_jax.settings.config import Config
from qmix_jax.settings.groups import conf_dir
from qmix_jax.settings.reading import parse, to_container

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


class _Asked:
    """What this process was asked to train. Launchers of jobs in other processes may take it along."""

    jobs: ClassVar[list[Config]] = []
    """All, or of a large multirun some that stand for the others."""
    failed: ClassVar[list[int]] = []
    """Exit statuses of jobs that did not end well."""
    config_dir: Path | None = None
    process: int = 0


def main() -> None:
    """Check the command line, then hand it to Hydra. Exit status 2 for settings that cannot be used."""
    streams.secure()
    gc.disable()  # until the programs are compiled: a start makes many objects that stay, to go through them is a sixth
    arguments = sys.argv[1:]
    if "--version" in arguments:
        print(version_line())
        return
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach us, who say them in one line
    with _errors_in_one_line():
        _Asked.jobs, _Asked.process = command_line.check(arguments), os.getpid()
        _check_folders(_Asked.jobs)
        _make_sweep_dir(arguments)
        asks = any(argument in HELP for argument in arguments)
        _Asked.config_dir = None if asks else split_options(arguments).config_dir
        sys.argv[1:] = ["--help"] if asks else command_line.for_hydra(arguments)
        _hydra_main()
    if _Asked.failed:
        print(f"error: {len(_Asked.failed)} of the multirun's jobs failed", file=sys.stderr)
        sys.exit(_Asked.failed[0])


def _check_folders(jobs: list[Config]) -> None:
    """Raises :class:`ConfigError` for folders of a multirun's jobs, which would be told when their turn has come."""
    taken: set[Path] = set()
    for config in jobs if len(jobs) > 1 else ():
        if isinstance(config.resume, str):
            settings_of(config.resume)
        if config.run_dir is None:
            continue
        run_dir = Path(config.run_dir)
        if run_dir in taken:
            raise ConfigError(f"run_dir={run_dir}: two jobs have this folder; name all that differs between them in it")
        taken.add(run_dir)
        check_folder("run_dir", run_dir)
        if config.resume is False:
            check_new(run_dir)


def _make_sweep_dir(arguments: list[str]) -> None:
    """Make the folder that Hydra would make; it would say in a trace why it cannot."""
    for argument in arguments:
        key, _, name = argument.partition("=")
        if key == "hydra.sweep.dir" and "${" not in name:
            try:
                Path(name.strip("'\"")).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"{argument}: cannot be made: {error.strerror}") from error


@hydra.main(version_base=None, config_path=str(conf_dir()), config_name="config")
def _hydra_main(tree: DictConfig) -> None:
    hydra_config = HydraConfig.get()
    several = hydra_config.mode == RunMode.MULTIRUN
    if several:
        with contextlib.suppress(OSError):  # Hydra has made it, and one that stays empty is no run.
            (Path(hydra_config.sweep.dir) / hydra_config.sweep.subdir).rmdir()
    try:
        status = _run(tree)
    except SystemExit as end:
        status = int(end.code or 0)
    if several and status in (1, 2) and _others_go_on(status):
        print(f"warning: job {hydra_config.job.num} of the multirun failed; the others go on", file=sys.stderr)
        _Asked.failed.append(status)
    elif status:
        sys.exit(status)


def _others_go_on(status: int) -> bool:
    """After a job that failed: where this process makes them all, unless the first is refused, before any trained."""
    return _Asked.process == os.getpid() and not (status == 2 and HydraConfig.get().job.num == 0)


def _run(tree: DictConfig) -> int:
    """One run; returns its exit status."""
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

        later = _Asked.jobs[1:] if _Asked.process == os.getpid() else []
        _Asked.jobs = []  # checked once, by the first
        # What a later job is refused for need not be in the files of this one.
        with command_line.naming_the_file(overrides, None if later else _Asked.config_dir):
            return launch.run(launch.Request(config, container, made_of, run_dir), later=later).status


def _run_dir(config: Config) -> Path:
    if config.run_dir is not None:
        return Path(config.run_dir)
    hydra_config = HydraConfig.get()
    if hydra_config.mode == RunMode.MULTIRUN:
        return Path(hydra_config.sweep.dir) / hydra_config.sweep.subdir
    env = hydra_config.runtime.choices["env"]
    now = datetime.now()
    return Path("runs") / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S}-{config.algorithm.name}-{env}"


class _errors_in_one_line:  # noqa: N801 - a context manager that reads as one
    """Says what ends a run in one line on standard error.

    Exit status 2 for settings (a :class:`ConfigError`, or Hydra's own errors), 130 for Ctrl-C before there is anything
    to save, 1 for an environment, another host or a disk that fails.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, ConfigError):
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        if isinstance(error, HydraException | OmegaConfBaseException):
            print(f"error: {command_line.first_line(error)}", file=sys.stderr)
            sys.exit(2)
        if isinstance(error, KeyboardInterrupt):
            print("interrupted; nothing to save", file=sys.stderr)
            sys.exit(130)
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
