"""A run from its configuration to its folder: JAX, the parts, the memory that they take, then a session."""

import contextlib
import dataclasses
import functools
import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from qmix_jax.algorithms.base import Algorithm, Sizes
from qmix_jax.envs.base import Env
from qmix_jax.envs.build import ADAPTER_SETTINGS, as_env, make_env
from qmix_jax.errors import ConfigError, writing
from qmix_jax.logging import ConsoleSink, write_json
from qmix_jax.logging.tensorboard import check_tensorboard
from qmix_jax.running.clock import Clock
from qmix_jax.running.devices import check_matmul_precision, check_platform, cores, set_up
from qmix_jax.running.hosts import Hosts, connect, disconnect
from qmix_jax.running.memory import plan as memory
from qmix_jax.running.memory.seed import SeedBytes, seed_bytes
from qmix_jax.running.programs.kept import kept_programs
from qmix_jax.running.resume import CONFIG_FILE, check_new, check_same, has_begun, locked, make_run_dir, read_config
from qmix_jax.running.session import Session
from qmix_jax.running.waves import Waves
from qmix_jax.settings.build import build, hyper_params_of
from qmix_jax.settings.cells import Cell, Lane, lanes
from qmix_jax.settings.config import Config
from qmix_jax.types import HyperParams


class Request(NamedTuple):
    """What is to be trained."""

    config: Config
    """What ``container`` says, typed."""
    container: dict[str, Any]
    """The settings; those that only show later are filled in."""
    cells: Sequence[Cell]
    """Of its sweep, if it is one."""
    run_dir: Path
    """The folder of the run."""


class Prepared(NamedTuple):
    """What a session is made from, before anything is compiled."""

    env: Env
    waves: Waves
    plan: memory.Plan


class Ended(NamedTuple):
    """How a run has ended."""

    status: int
    """The exit status: 0, 1 if something could not be saved or numbers went wrong under ``on_nonfinite=stop``, 130 or
    143 after Ctrl-C or SIGTERM."""
    run_dir: Path
    """Its folder: the one that was asked for, unless a name of the program's own choice was taken."""


def run(request: Request, given_env: object = None, keep_process: bool = False, later: Sequence[Config] = ()) -> Ended:
    """One training run.

    Args:
        request: its settings.
        given_env: an environment to use in place of the one that the configuration describes.
        keep_process: raise ``KeyboardInterrupt`` where Ctrl-C would end the process.
        later: the settings of runs that this process makes afterwards.

    Raises :class:`ConfigError` for settings that cannot be used here, those of ``later`` included.
    """
    clock = Clock()
    _refuse_forks()
    request, resumed = _of_the_folder(request)
    config, container, cells, run_dir = request
    all_lanes = lanes(len(cells), list(range(config.seed, config.seed + config.num_seeds)))
    hosts = _start_jax(config, container, len(all_lanes))
    _check_parts(later)
    env, waves, plan = prepare(config, cells, all_lanes, hosts, resumed, given_env)
    container["replay"] = {**container["replay"], "capacity": plan.capacity}
    run_dir = make_run_dir(run_dir, own_name=config.run_dir is None)
    container["run_dir"] = str(run_dir)
    console = ConsoleSink(quiet=not (config.logger.progress and hosts.is_first))
    for line in memory.describe(plan, config.checkpoint.every_minutes):
        console.message(line)
    for line in notices(config, waves.algorithm.sizes, env.episode_limit, len(cells)):
        console.message(line)
    with locked(run_dir) if hosts.is_first else contextlib.nullcontext(), _closed_at_the_end(env):
        if hosts.is_first and not resumed:
            check_new(run_dir)  # again: another process may have trained there since, and be gone
        session = Session(
            config, container, cells, run_dir, env, waves, hosts, console, clock, keep_process, plan.copies
        )
        if resumed:
            session.restore()
        if hosts.is_first:
            with writing("run_dir", run_dir):
                write_json(run_dir / CONFIG_FILE, container)
        status = session.run()
    disconnect(hosts)
    return Ended(status, run_dir)


_pids: set[int] = set()
"""Processes, from the first ancestor on, that have started a run with this copy of the module."""


def _refuse_forks() -> None:
    """JAX's threads do not survive a fork, and the child would wait for them for ever."""
    if _pids and os.getpid() not in _pids:
        raise ConfigError(
            "this process is a fork of one that has trained, where JAX hangs; start it with "
            'multiprocessing.get_context("spawn")'
        )
    _pids.add(os.getpid())


def _of_the_folder(request: Request) -> tuple[Request, bool]:
    """The request as the run in its folder has it, and whether there is one to resume.

    Raises :class:`ConfigError` if they do not fit.
    """
    config, container, _, run_dir = request
    if config.run_dir is None:  # A name of the program's own choice: a new run.
        return request, False
    saved = read_config(run_dir)
    if config.resume is False:
        check_new(run_dir)
        return request, False
    if not has_begun(run_dir):
        return request, False
    if saved is None:
        raise ConfigError(f"run_dir={run_dir}: holds a run without its settings ({CONFIG_FILE}); choose another folder")
    if config.replay.capacity is None:  # What has been chosen stays.
        capacity = _capacity(saved, run_dir)
        container = {**container, "replay": {**container["replay"], "capacity": capacity}}
        config = dataclasses.replace(config, replay=dataclasses.replace(config.replay, capacity=capacity))
    check_same(container, saved, run_dir)
    return request._replace(config=config, container=container), True


def _capacity(saved: Mapping[str, Any], run_dir: Path) -> int:
    section = saved.get("replay")
    capacity = section.get("capacity") if isinstance(section, Mapping) else None
    if not isinstance(capacity, int) or capacity < 1:
        raise ConfigError(f"{run_dir / CONFIG_FILE}: replay.capacity={capacity}: must be a whole number above 0")
    return capacity


def _start_jax(config: Config, container: dict[str, Any], num_lanes: int) -> Hosts:
    """JAX on the devices that were asked for, and the other processes of the run."""
    settings = config.devices
    # One CPU device for every core that has a lane, or a part of one's minibatches.
    useful = num_lanes * config.learner.most_parts
    set_up(settings.platform, min(settings.count or cores(), useful), settings.matmul_precision)
    hosts = connect(config.distributed, num_lanes)
    container["distributed"] = {**container["distributed"], "num_processes": hosts.count if hosts.count > 1 else None}
    check_platform(settings.platform)
    return hosts


def prepare(
    config: Config,
    cells: Sequence[Cell],
    all_lanes: Sequence[Lane],
    hosts: Hosts,
    resumed: bool = False,
    given_env: object = None,
) -> Prepared:
    """The parts of a run, as many devices and as large a replay as fit into memory; nothing is compiled.

    Args:
        config: the settings.
        cells: of its sweep, if it is one.
        all_lanes: of all processes.
        hosts: the processes of this run.
        resumed: whether the replay's size is settled.
        given_env: see :func:`run`.

    Raises :class:`ConfigError` for parts that cannot be built or do not fit.
    """
    env = make_env(config.parts["env"]) if given_env is None else _adapted(given_env, config)
    if config.logger.tensorboard:
        check_tensorboard()
    algorithm, hyper = build(config, env)
    devices, each = _devices(config, len(hosts.share)), config.devices.seeds_per_device
    programs = kept_programs(config) if given_env is None and env.hosted is None and hosts.count == 1 else None
    plan = memory.check(
        algorithm,
        len(hosts.share),
        devices,
        each,
        checkpoints=config.checkpoint.every_minutes is not None,
        # Processes do not know each other's memory, and must all have the same replay.
        may=memory.May(config.devices.count is None, config.replay.capacity is None and hosts.count == 1),
        resumed=resumed,
        measure=None if programs is None else functools.partial(programs.numbers, SeedBytes, seed_bytes),
    )
    chosen = algorithm.sizes._replace(capacity=plan.capacity, shared_replay=plan.replay_devices > 1)
    algorithm = algorithm._replace(sizes=chosen)
    if cells:
        of_all = hyper_params_of([cell.config for cell in cells], config.num_seeds)
        hyper = jax.tree.map(lambda x: np.asarray(x)[hosts.share], of_all)
    seeds = [all_lanes[place].seed for place in hosts.share]
    waves = _waves(config, algorithm, hyper, seeds, devices[: plan.num_devices])
    waves.programs = programs
    return Prepared(env, waves, plan)


def _check_parts(configs: Sequence[Config]) -> None:
    """Raises :class:`ConfigError` if the parts of a configuration cannot be built."""
    different: list[Config] = []
    for config in (dataclasses.replace(config, seed=0, run_dir=None) for config in configs):
        if config not in different:
            different.append(config)
    for section, same in itertools.groupby(different, key=lambda config: config.parts["env"]):
        env = make_env(section)
        with _closed_at_the_end(env):
            for config in same:
                build(config, env)


def _adapted(given_env: object, config: Config) -> Env:
    """An environment object, with the settings of its adapter where it needs one."""
    settings = config.parts["env"]
    return as_env(given_env, **{name: settings[name] for name in ADAPTER_SETTINGS if name in settings})


def _waves(config: Config, algorithm: Algorithm, hyper: HyperParams, seeds: list[int], devices: list[Any]) -> Waves:
    each = config.devices.seeds_per_device
    if algorithm.env.hosted is None:
        return Waves(algorithm, hyper, seeds, each, devices)
    from qmix_jax.running.hosted_waves import HostedWaves  # Not at the top: it imports what others do without.

    return HostedWaves(algorithm, hyper, seeds, each, devices, config.rollout.overlap)


def _devices(config: Config, num_lanes: int) -> list[Any]:
    devices = jax.local_devices()
    check_matmul_precision(config.devices.matmul_precision)
    count = config.devices.count or len(devices)
    if count > len(devices) and count <= num_lanes:
        raise ConfigError(f"devices.count={count}: there are {len(devices)} devices; use at most {len(devices)}")
    return devices[:count]


def notices(config: Config, sizes: Sizes, episode_limit: int, num_cells: int = 0) -> list[str]:
    """What a user may not expect of these settings; ``num_cells`` are those of a sweep."""
    found, length = [], sizes.length
    steps = sizes.num_envs * (length - 1)
    if sizes.warmup_iterations * steps >= config.total_env_steps:
        found.append(
            f"learner.warmup_env_steps={config.learner.warmup_env_steps}: learning starts after "
            f"{sizes.warmup_iterations * steps} environment steps, so that little or nothing is learned in "
            f"total_env_steps={config.total_env_steps}"
        )
    epochs = math.ceil(config.total_env_steps / (sizes.iterations_per_epoch * steps))
    if num_cells and config.sweep.halving is not None and (num_cells == 1 or config.sweep.halving >= epochs):
        told = "there is one cell" if num_cells == 1 else f"the run has about {epochs} epochs (evaluations)"
        found.append(f"sweep.halving={config.sweep.halving}: {told}, so that no cell is stopped")
    if length <= episode_limit and config.rollout.sequences == "fresh":
        found.append(
            f"rollout.length={length}: an episode has up to {episode_limit} transitions; those after its first "
            f"{length - 1} are never learned from (rollout.sequences=continue learns from all of them)"
        )
    interval = config.evaluation.interval_env_steps
    if interval > config.total_env_steps:
        found.append(
            f"the run takes evaluation.interval_env_steps={interval} environment steps, one epoch, which is more than "
            f"total_env_steps={config.total_env_steps}"
        )
    return found


@contextlib.contextmanager
def _closed_at_the_end(env: Env) -> Iterator[None]:
    """Ends the worker processes of an environment that has some."""
    try:
        yield
    finally:
        if env.hosted is not None:
            env.hosted.close()
