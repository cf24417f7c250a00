"""Which run to resume, whether the settings are still those of that run, and the folder that a run is given."""

import contextlib
import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qmix_jax.envs.settings import foreign_code
from qmix_jax.errors import ConfigError
from qmix_jax.logging.files import CONFIG_FILE, near_run
from qmix_jax.logging.moved import current_settings
from qmix_jax.results.comparison.records import flat
from qmix_jax.settings.command_line import shipped_targets
from qmix_jax.settings.config import DistributedConfig

MAY_CHANGE = ("total_env_steps", "run_dir", "resume", "on_nonfinite", "devices", "distributed", "checkpoint", "logger")
"""Keys that may differ when a run is resumed: how long, where and how it is run, not what is computed."""


def settings_to_resume(container: Mapping[str, Any], overridden: Sequence[str]) -> dict[str, Any]:
    """The settings of a run, with those of the run that ``resume`` names where it names one.

    Args:
        container: what the command line says.
        overridden: keys and groups that were given on the command line.

    Raises :class:`ConfigError` where ``resume`` names no run, or one that cannot be continued with these settings.
    """
    resume = container.get("resume")
    if not isinstance(resume, str):
        if resume is True and container.get("run_dir") is None:
            raise ConfigError("resume=true: needs run_dir=...; or give the folder itself: resume=FOLDER")
        return dict(container)
    run_dir, saved = Path(resume), settings_of(resume)
    for key in overridden:
        if key.partition(".")[0] not in MAY_CHANGE and not key.endswith("._target_"):
            raise ConfigError(
                f"{key}: a resumed run keeps its own settings; beside resume={resume} only {_may_change()}"
            )
        if key.partition(".")[0] == "run_dir":
            raise ConfigError(f"run_dir={container['run_dir']}: the run stays in resume={resume}; leave run_dir out")
    sections = [key.partition(".")[0] for key in overridden if key.endswith("._target_")]
    _check_targets(saved, run_dir, {section: container[section]["_target_"] for section in sections})
    return {**saved, **{key: _changed(key, saved, container, overridden) for key in MAY_CHANGE}, "run_dir": resume}


def how_to_resume(container: Mapping[str, Any], run_dir: Path, in_python: bool) -> str:
    """What resumes a run from here: a command that names the parts which do not come with qmix_jax, too."""
    if in_python:
        return f"qmix_jax.run([...]) as before, with {f'run_dir={run_dir}'!r} and 'resume=true'"
    if foreign_code(container.get("env", {})):
        return f"the same command, with {shlex.quote(f'run_dir={run_dir}')} resume=true"
    sections = {key: value["_target_"] for key, value in container.items() if _has_target(value)}
    own = [f"{key}._target_={target}" for key, target in sections.items() if target not in shipped_targets(key)]
    command = shlex.join(["python", "-m", "qmix_jax.train", f"resume={run_dir}", *own])
    together = container.get("distributed", {})
    if together.get("auto"):
        return f"{command} distributed.auto=true"
    if together.get("coordinator") is None:
        return command
    where = shlex.quote(f"distributed.coordinator={together['coordinator']}")
    count = together["num_processes"]
    return f"{command} {where} distributed.num_processes={count} distributed.process_id=0 (and each up to {count - 1})"


def _has_target(section: object) -> bool:
    return isinstance(section, Mapping) and section.get("_target_") is not None


def settings_of(resume: str) -> dict[str, Any]:
    """The settings of the run that ``resume`` names; raises :class:`ConfigError` where it names none."""
    saved = read_config(Path(resume))
    if saved is None:
        meant = {"yes": "true", "on": "true", "1": "true", "no": "false", "off": "false", "0": "false"}.get(
            resume.lower()
        )
        hint = near_run(Path(resume)) or (f"; did you mean resume={meant}?" if meant else "")
        raise ConfigError(f"resume={resume}: not the folder of a run (it has no {CONFIG_FILE}){hint}")
    return saved


def has_begun(run_dir: Path) -> bool:
    """Whether there is a run in a folder that has trained: not one that was stopped while it was compiled."""
    metrics = run_dir / "metrics.jsonl"
    made = ("checkpoints/*", "policies/*", "summary.json")
    return (metrics.is_file() and metrics.stat().st_size > 0) or any(any(run_dir.glob(name)) for name in made)


def check_new(run_dir: Path) -> None:
    """Raise :class:`ConfigError` where a folder holds a run."""
    if has_begun(run_dir):
        raise ConfigError(f"run_dir={run_dir}: already holds a run; choose another folder, or resume=true")


def _changed(key: str, saved: Mapping[str, Any], container: Mapping[str, Any], overridden: Sequence[str]) -> Any:
    """A setting that may change: the saved one, with what was given on the command line."""
    if key not in saved or key in overridden:
        return container[key]
    if not isinstance(saved[key], Mapping):
        return saved[key]
    own = {name.partition(".")[2] for name in overridden if name.partition(".")[0] == key}
    return _merged(saved[key], container[key], own)


def _merged(saved: Mapping[str, Any], given: Mapping[str, Any], keys: set[str]) -> dict[str, Any]:
    merged = dict(saved)
    for key in keys:
        head, _, rest = key.partition(".")
        merged[head] = _merged(merged[head], given[head], {rest}) if rest else given[head]
    return merged


def check_same(container: Mapping[str, Any], saved: Mapping[str, Any], run_dir: Path) -> None:
    """Raise :class:`ConfigError` naming the settings that differ from those of the run in ``run_dir``."""
    processes = [tree.get("distributed", {}).get("num_processes") or 1 for tree in (container, saved)]
    if processes[0] != processes[1] and not container["distributed"]["auto"]:
        raise ConfigError(
            f"distributed.num_processes={processes[0]}: the run in {run_dir} was made by {processes[1]}, each of which "
            f"has its own checkpoints; use as many"
        )
    now, then = flat(container), flat(saved)
    differing = [
        f"{key}={now.get(key, 'nothing')} (was {then.get(key, 'nothing')})"
        for key in sorted(now.keys() | then.keys())
        if key.partition(".")[0] not in MAY_CHANGE and now.get(key, _NOTHING) != then.get(key, _NOTHING)
    ]
    if differing:
        shown = ", ".join(differing[:5]) + (f" and {len(differing) - 5} more" if len(differing) > 5 else "")
        raise ConfigError(f"resume={run_dir}: another run than this one: {shown}; only {_may_change()}")


_NOTHING = object()


def _may_change() -> str:
    return "total_env_steps, on_nonfinite, devices.*, distributed.*, checkpoint.* and logger.* may change"


def read_config(run_dir: Path) -> dict[str, Any] | None:
    """The settings saved in a run's folder, None where there are none; raises :class:`ConfigError` for others."""
    path = run_dir / CONFIG_FILE
    if not path.is_file():
        return None
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not readable: {' '.join(str(error).split())}") from error
    if not isinstance(saved, dict):
        raise ConfigError(f"{path}: not the settings of a run")
    return current_settings(saved)


def _check_targets(saved: Mapping[str, Any], run_dir: Path, named: Mapping[str, str]) -> None:
    """A saved file may only name what comes with this package, or what the user names as well."""
    for section, value in saved.items():
        target = value["_target_"] if _has_target(value) else None
        if target is not None and target not in (*shipped_targets(section), named.get(section)):
            raise ConfigError(
                f"{run_dir / CONFIG_FILE}: names {section}._target_={target}, which does not come with qmix_jax; "
                f"if you trust it, say so: {section}._target_={target}"
            )
    section = saved.get("env")
    env = section if isinstance(section, Mapping) else {}
    for key in foreign_code(env):
        raise ConfigError(
            f"{run_dir / CONFIG_FILE}: env.{key}={env[key]} names code to run; if you trust it, give the command that "
            f"started the run again, with run_dir={run_dir} resume=true"
        )


def check_idle(run_dir: Path, distributed: DistributedConfig) -> None:
    """Raise :class:`ConfigError` where another process trains in a folder, before JAX takes its time.

    Of a run by several processes only the first one locks the folder, and which one that is, is not known yet.
    """
    if run_dir.is_dir() and not distributed.auto and distributed.coordinator is None:
        with locked(run_dir):
            return


@contextlib.contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Keep other processes out of a run's folder; the system opens it again however this process ends."""
    try:
        import fcntl
    except ImportError:  # Windows has none
        yield
        return
    folder = os.open(run_dir, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"run_dir={run_dir}: another process is training there") from error
        yield
    finally:
        os.close(folder)


def make_run_dir(run_dir: Path, own_name: bool = False) -> Path:
    """Make the folder; where the name is not the user's, another one if a run that started beside it has this."""
    number, made = 1, run_dir
    while True:
        try:
            made.mkdir(parents=True, exist_ok=not own_name)
        except OSError as error:
            if not (own_name and isinstance(error, FileExistsError)):
                raise ConfigError(f"run_dir={run_dir}: cannot be made: {error.strerror}") from error
            number += 1
            made = run_dir.with_name(f"{run_dir.name}-{number}")
        else:
            return made
