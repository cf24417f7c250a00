"""What the scripts beside this one have in common: named commands, numbers, training, and errors in one line."""

import inspect
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from qmix_jax.errors import ConfigError, unknown_choice
from qmix_jax.settings.arguments import run_command


def start(usage: str | None, function: Callable[..., None]) -> None:
    """Call a function with the arguments of the command line; prints ``usage`` where they ask for help.

    Exit status 2, with one line on standard error, for arguments that cannot be used.
    """
    run_command((usage or "").strip(), None, lambda arguments: call_with(function, arguments))


def call(commands: Mapping[str, Callable[..., None]], name: str, arguments: Sequence[str]) -> None:
    """Call the command with this name with its arguments.

    Raises :class:`ConfigError` for a name that is none, and for too few or too many arguments.
    """
    checked("command", [name], commands)
    call_with(commands[name], arguments, f"{name} ")


def call_with(function: Callable[..., None], arguments: Sequence[str], name: str = "") -> None:
    """Call a function of texts. Raises :class:`ConfigError` for too few or too many of them."""
    signature = inspect.signature(function)
    try:
        signature.bind(*arguments)
    except TypeError as error:
        given = f"{name}{' '.join(arguments)}".strip()
        shape = f"{name}{' '.join(map(_shown, signature.parameters.values()))}".strip()
        raise ConfigError(f"{given or 'no arguments'}: {error}; write {shape}") from error
    function(*arguments)


def _shown(parameter: inspect.Parameter) -> str:
    name = parameter.name.upper()
    if parameter.kind is parameter.VAR_POSITIONAL:
        return f"[{name.removesuffix('S')} ...]"
    return name if parameter.default is parameter.empty else f"[{name}]"


def checked(key: str, names: Sequence[str], choices: Iterable[str]) -> Sequence[str]:
    """The names. Raises :class:`ConfigError` for one that is not among ``choices``."""
    choices = list(choices)
    for name in names:
        if name not in choices:
            raise unknown_choice(key, name, choices)
    return names


def whole(key: str, text: str, least: int = 0) -> int:
    """A whole number. Raises :class:`ConfigError` for what is none, or is less than ``least``."""
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise ConfigError(f"{key}={text}: must be a whole number of at least {least}")
    return number


def is_finished(run_dir: Path, steps: int = 0) -> bool:
    """Whether a run of at least so many steps came to its end; the ``summary.json`` of an interrupted one says so."""
    path = run_dir / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"interrupted": True}
    return not summary.get("interrupted") and summary.get("env_steps", 0) >= steps


def finished_seeds(runs: Path, name: str, steps: int = 0) -> list[int]:
    """Seeds of the finished runs ``NAME_seedK``, of at least so many steps, in the folder ``runs``."""
    finished = (path for path in runs.glob(f"{name}_seed*") if is_finished(path, steps))
    return sorted(int(path.name.rpartition("_seed")[2]) for path in finished)


def train(*arguments: str) -> None:
    """Train. Ends the program where that fails; the training has said why."""
    done = subprocess.run([sys.executable, "-m", "qmix_jax.train", *arguments], check=False)
    if done.returncode:
        sys.exit(done.returncode)
