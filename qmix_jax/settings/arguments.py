"""What the command lines have in common: ``key=value`` arguments, help, and errors in one line.

The arguments of ``train`` make up a whole configuration (``command_line.py``). The other commands have a few settings
of their own, in a dataclass, and may leave the rest to the configuration.
"""

import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from qmix_jax import streams
from qmix_jax.envs.hosted.team import EnvError
from qmix_jax.errors import ConfigError, nearest
from qmix_jax.settings.groups import group_of
from qmix_jax.settings.reading import from_arguments
from qmix_jax.settings.values import parse_section

HELP = ("help", "--help", "-h")
PATHS = (
    "run_dir",
    "resume",
    "policy",
    "output",
    "render",
    "explain",
    "out",
    "bench.output",
    "bench.peer",
    "bench.peer_python",
)
"""Keys whose value is a path."""

LONGEST_NAME = 250
"""Bytes of the name of a file or folder: file systems take 255, and our files have suffixes."""

WITHOUT_VALUE = ("--multirun", "-m", "--run", "-r", "--resolve", "--hydra-help")
COMPLETION = ("--shell-completion", "-sc")
WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--experimental-rerun")
ROOT = ("--config-name", "-cn", "--config-path", "-cp")
INFO = ("--info", "-i")
INFOS = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
"""Hydra's options."""

Settings = TypeVar("Settings")


def run_command(
    usage: str,
    argv: Sequence[str] | None,
    command: Callable[[list[str]], int | None],
    needs_arguments: bool = False,
) -> None:
    """Run a command line, or print ``usage`` where the arguments ask for help.

    Args:
        usage: the help.
        argv: the arguments; None is those of the process.
        command: takes the arguments and returns the exit status, None for 0.
        needs_arguments: print ``usage`` where there are none.

    Raises :class:`SystemExit` with status 2, and one line on standard error, where ``command`` raises
    :class:`ConfigError`; with status 1 where the workers of an environment have failed too often, and 130 on Ctrl-C.
    """
    if argv is None:
        streams.secure()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if any(argument in HELP for argument in arguments) or (needs_arguments and not arguments):
        print(usage)
        return
    if "--version" in arguments:
        print(version_line())
        return
    try:
        status = command(arguments)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except EnvError as error:
        print(f"error: the environment failed: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    if status:
        sys.exit(status)


def parse_arguments(
    settings: type[Settings], argv: Sequence[str], prefix: str = "", groups: Sequence[str] = ()
) -> tuple[Settings, list[str]]:
    """The settings of a command, and the arguments that are for the configuration.

    Args:
        settings: a dataclass. Fields for text take the value as it stands (a folder may be called 12:30:45 or [1]),
            without the quotes that Hydra would take off; all others are read as YAML. A field that is a dict takes
            ``key.inner=value``.
        argv: the arguments.
        prefix: of the command's own keys, like ``bench.``; all other arguments are for the configuration.
        groups: without a prefix, the sections and groups of the configuration that the command reads.

    Raises :class:`ConfigError` for an argument that cannot be read, an unknown key and a value that does not fit.
    """
    check_form(argv)
    hints = typing.get_type_hints(settings)
    texts: dict[str, Any] = {}
    own, others = [], []
    for argument in argv:
        key, _, value = argument.partition("=")
        name = key.lstrip("+~")
        if prefix and not name.startswith(prefix):
            others.append(argument)
            continue
        name = name.removeprefix(prefix)
        if name.partition(".")[0] in groups:
            others.append(argument)
        elif name.partition(".")[0] not in hints:
            raise _unknown(prefix, name, value, (*hints, *groups))
        elif _is_text(hints[name.partition(".")[0]]):
            texts[name] = None if value == "null" else _without_quotes(value)
        else:
            own.append(f"{name}={value}")
    tree = {name: _as_list(hints[name], value) for name, value in from_arguments(own).items()}
    return parse_section(settings, {**tree, **texts}, prefix.rstrip(".")), others


def _without_quotes(text: str) -> str:
    """A text without the quotes around all of it, so that a path is written as for training."""
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def check_form(arguments: Sequence[str], once: bool = True) -> None:
    """Raise :class:`ConfigError` for the first argument that is not ``key=value``.

    With ``once`` also for one that gives a key another value than before.
    """
    given: dict[str, str] = {}
    for index, argument in enumerate(arguments):
        key, equals, value = argument.partition("=")
        if argument.startswith("-"):
            raise ConfigError(_without_dashes(argument, arguments[index + 1 :]))
        if not equals and not key.startswith("~"):
            raise ConfigError(_not_a_setting(argument))
        name = key.lstrip("+~").replace("/", ".").partition("@")[0]
        if not name:
            raise ConfigError(f"{argument}: has no key; settings look like key=value, for example gamma=0.95")
        if equals and not value:
            raise ConfigError(f"{argument}: is empty; give a value, or leave it out for the default")
        if key in PATHS and (value == "~" or value.startswith("~/")):
            raise ConfigError(f"{argument}: ~ is not expanded here; write {key}=$HOME{value[1:]}")
        longest = max(value.split("/"), key=len)
        if key in PATHS and len(longest.encode(errors="surrogateescape")) > LONGEST_NAME:
            raise ConfigError(
                f"{key}={value}: a name in it is too long; files have names of at most {LONGEST_NAME} bytes"
            )
        if once and given.setdefault(name, argument) != argument and not key.startswith("~"):
            torn = value.startswith(("low:", "high:", "log:"))
            hint = f"quote the range, for the shell takes braces apart: '{name}={{low:1e-5,high:1e-3}}'"
            remedy = hint if torn else "leave one of them out"
            raise ConfigError(f"{argument}: given twice, before as {given[name]}; {remedy}")


def _without_dashes(argument: str, following: Sequence[str]) -> str:
    name, equals, value = argument.lstrip("-").partition("=")
    if argument in COMPLETION:
        return f"{argument}: the shell cannot complete these settings; --help shows all"
    if argument in (*HELP, "--version", *WITHOUT_VALUE, *WITH_VALUE, *INFO):
        return f"{argument}: an option of the command line python -m qmix_jax.train; settings here are key=value"
    if not name or (argument[1] != "-" and not equals):
        return f"{argument}: unknown option; settings are key=value, for example num_seeds=4 (--help shows all)"
    if not equals and following and "=" not in following[0] and not following[0].startswith("-"):
        return f"{argument} {following[0]}: settings have no dashes; write {name.replace('-', '_')}={following[0]}"
    value = value if equals else "..."
    return f"{argument}: settings have no dashes; write {name.replace('-', '_')}={value} (--help shows all)"


def _not_a_setting(argument: str) -> str:
    if not argument.strip():
        return "an argument is empty; leave it out, or check what your shell put there"
    key, colon, value = argument.partition(":")
    if colon and value.strip() and key.replace(".", "").replace("_", "").isalnum():
        return f"{argument}: must look like key=value; write {key.strip()}={value.strip()}"
    choice = group_of(argument)
    if choice is not None:
        return f"{argument}: must look like key=value; did you mean {choice}?"
    return f"{argument}: must look like key=value, for example num_seeds=4; quote spaces, and try --help"


def _unknown(prefix: str, name: str, value: str, known: Sequence[str]) -> ConfigError:
    near = nearest(name, known, cutoff=0.5)
    hint = f"did you mean {prefix}{near}?" if near else f"there are {', '.join(prefix + key for key in known)}"
    return ConfigError(f"{prefix}{name}={value}: unknown key; {hint}")


def _is_text(hint: Any) -> bool:
    options = [option for option in _options(hint) if option is not types.NoneType]
    return all(option is str or typing.get_origin(option) is Literal for option in options)


def _options(hint: Any) -> Sequence[Any]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _as_list(hint: Any, value: Any) -> Any:
    """A list of texts may have been typed as one of numbers."""
    is_list = typing.get_origin(hint) is list and isinstance(value, list)
    return [item if isinstance(item, Mapping | list) else str(item) for item in value] if is_list else value


class Flags(NamedTuple):
    """What the options of a command line say."""

    overrides: list[str]
    """All other arguments."""
    options: Mapping[str, str] = types.MappingProxyType({})
    """The options themselves, and their values; those without have an empty one."""
    config_dir: Path | None = None
    multirun: bool = False
    others: bool = False
    """Whether Hydra is asked for something else than a run."""


def split_options(arguments: Sequence[str]) -> Flags:
    """Tell options from settings.

    Raises :class:`ConfigError` for an option that has no meaning here.
    """
    overrides: list[str] = []
    found: dict[str, str] = {}
    left = list(arguments)
    while left:
        argument = left.pop(0)
        name, equals, value = argument.partition("=")
        if name in ROOT:
            raise ConfigError(
                f"{argument}: the root configuration is fixed; put yours into FOLDER/experiment/NAME.yaml and write "
                "--config-dir FOLDER experiment=NAME"
            )
        if name in WITH_VALUE and not equals:
            if not left:
                raise ConfigError(f"{argument}: needs a value")
            value = left.pop(0)
        if name in INFO and not equals:
            value = left.pop(0) if left and left[0] in INFOS else "all"
        if name in (*WITH_VALUE, *WITHOUT_VALUE, *INFO):
            found[name] = value
        else:
            overrides.append(argument)
    return _checked(overrides, found)


def _checked(overrides: list[str], found: dict[str, str]) -> Flags:
    def given(*names: str) -> str | None:
        return next((found[name] for name in names if name in found), None)

    cfg, info, folder = given("--cfg", "-c"), given(*INFO), given("--config-dir", "-cd")
    if cfg is not None and cfg not in ("job", "hydra", "all"):
        raise ConfigError(f"--cfg={cfg}: must be job, hydra or all; --cfg job shows the settings of this run")
    if info is not None and info not in INFOS:
        raise ConfigError(f"--info={info}: must be one of {', '.join(INFOS)}")
    if "--resolve" in found and cfg is None:
        raise ConfigError("--resolve: only beside --cfg job, which shows the settings without running")
    if given("--package", "-p") is not None and cfg is None:
        raise ConfigError("--package: only beside --cfg job, which shows the settings without running")
    multirun = given("--multirun", "-m") is not None
    asked = [given("--run", "-r") is not None, multirun, cfg is not None, info is not None]
    if sum(asked) > 1:
        raise ConfigError(f"{' '.join(found)}: only one of --run, --multirun, --cfg and --info")
    others = cfg is not None or info is not None or "--hydra-help" in found
    return Flags(overrides, found, None if folder is None else Path(folder), multirun, others)


def version_line() -> str:
    """Versions of this project, JAX and Python, and the devices that there are."""
    import jax

    try:
        own = version("qmix_jax")
    except PackageNotFoundError:
        own = "(not installed)"
    try:
        kinds = [device.device_kind for device in jax.local_devices()]
        devices = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
    except RuntimeError as error:
        devices = f"none ({str(error).splitlines()[0]})"
    return f"qmix_jax {own}, jax {jax.__version__}, Python {sys.version.split()[0]}, devices: {devices}"
