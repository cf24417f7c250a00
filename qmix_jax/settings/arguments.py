"""What the command lines have in common: ``key=value`` arguments, help, and errors in one line.

The arguments of ``train`` make up a whole configuration (``command_line.py``). The other commands have a few settings
of their own, in a dataclass, and may leave the rest to the configuration.
"""

import difflib
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from qmix_jax.errors import ConfigError
from qmix_jax.settings.reading import from_arguments
from qmix_jax.settings.values import parse_section

HELP = ("help", "--help", "-h")

Settings = TypeVar("Settings")


def run_command(usage: str, argv: Sequence[str] | None, command: Callable[[list[str]], int | None]) -> None:
    """Run a command line, or print ``usage`` where the arguments ask for help.

    Args:
        usage: the help.
        argv: the arguments; None is those of the process.
        command: takes the arguments and returns the exit status, None for 0.

    Raises :class:`SystemExit` with status 2, and one line on standard error, where ``command`` raises
    :class:`ConfigError`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if any(argument in HELP for argument in arguments):
        print(usage)
        return
    try:
        status = command(arguments)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if status:
        sys.exit(status)


def parse_arguments(
    settings: type[Settings], argv: Sequence[str], prefix: str = "", groups: Sequence[str] = ()
) -> tuple[Settings, list[str]]:
    """The settings of a command, and the arguments that are for the configuration.

    Args:
        settings: a dataclass. Fields for text take the value as it stands (a folder may be called 12:30:45 or [1]);
            all others are read as YAML. A field that is a dict takes ``key.inner=value``.
        argv: the arguments.
        prefix: of the command's own keys, like ``bench.``; all other arguments are for the configuration.
        groups: without a prefix, the sections and groups of the configuration that the command reads.

    Raises :class:`ConfigError` for an argument that cannot be read, an unknown key and a value that does not fit.
    """
    hints = typing.get_type_hints(settings)
    texts: dict[str, Any] = {}
    own, others = [], []
    for argument in argv:
        key, equals, value = argument.partition("=")
        name = key.lstrip("+~")
        if not equals and not key.startswith("~"):
            raise ConfigError(f"{argument}: must look like key=value; try --help")
        if prefix and not name.startswith(prefix):
            others.append(argument)
            continue
        name = name.removeprefix(prefix)
        if name.partition(".")[0] in groups:
            others.append(argument)
        elif name.partition(".")[0] not in hints:
            raise _unknown(prefix, name, value, (*hints, *groups))
        elif _is_text(hints[name.partition(".")[0]]):
            texts[name] = None if value == "null" else value
        else:
            own.append(f"{name}={value}")
    tree = {name: _as_list(hints[name], value) for name, value in from_arguments(own).items()}
    return parse_section(settings, {**tree, **texts}, prefix.rstrip(".")), others


def _unknown(prefix: str, name: str, value: str, known: Sequence[str]) -> ConfigError:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    return ConfigError(f"{prefix}{name}={value}: unknown key; did you mean {prefix}{near}?")


def _is_text(hint: Any) -> bool:
    options = [option for option in _options(hint) if option is not types.NoneType]
    return all(option is str or typing.get_origin(option) is Literal for option in options)


def _options(hint: Any) -> Sequence[Any]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _as_list(hint: Any, value: Any) -> Any:
    """A list of texts may have been typed as one of numbers."""
    is_list = typing.get_origin(hint) is list and isinstance(value, list)
    return [item if isinstance(item, Mapping | list) else str(item) for item in value] if is_list else value
