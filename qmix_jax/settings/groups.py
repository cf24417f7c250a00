"""The groups of the configuration and their choices: ours, and a user's (``--config-dir``)."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from qmix_jax.errors import ConfigError, unknown_choice

HEADER = "# @package _global_"
"""The first line of an experiment: its keys are those of the whole configuration."""


def conf_dir() -> Path:
    """The configuration folder: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return next((path for path in (package / "conf", package.parent / "conf") if path.is_dir()), package / "conf")


def group_names() -> list[str]:
    """Groups whose choices are names of files: ``env``, ``algorithm`` and so on."""
    return sorted(path.name for path in conf_dir().iterdir() if path.is_dir() and path.name != "hydra")


def choices(group: str, own: Path | None = None) -> list[str]:
    """The choices of a group, with those in the user's own configuration folder."""
    folders = [conf_dir() / group, *([] if own is None else [own / group])]
    return sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})


@functools.cache
def file_of(group: str, choice: str) -> Mapping[str, Any]:
    """What the file of one of our choices says."""
    return yaml.safe_load((conf_dir() / group / f"{choice}.yaml").read_text(encoding="utf-8")) or {}


def settings_of(group: str, choice: str) -> Mapping[str, Any]:
    """What the file of one of our choices says about its own group; it may change other sections too."""
    file = file_of(group, choice)
    return file.get(group, file)


def keys_in(tree: Any, prefix: str) -> Iterable[str]:
    """Dotted paths of all settings and sections in a tree, after ``prefix``."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield f"{prefix}{name}"
            yield from keys_in(value, f"{prefix}{name}.")


def choices_with(key: str) -> list[str]:
    """Our choices of the group of ``key`` that have it, plain names first."""
    last = key.rpartition(".")[2]
    return sorted(all_keys().get(key, ()), key=lambda choice: (choice != last, len(choice), choice))


@functools.cache
def all_keys() -> Mapping[str, Sequence[str]]:
    """Dotted paths of the settings of our groups, and the choices that have each."""
    found: dict[str, list[str]] = {}
    for group in group_names():
        for choice in choices(group) if group != "experiment" else ():
            for key in keys_in(settings_of(group, choice), f"{group}."):
                found.setdefault(key, []).append(choice)
    return found


def group_of(
    word: str, groups: Sequence[str] = ("experiment", "algorithm", "env", "mixer", "agent", "target")
) -> str | None:
    """``algorithm=qmix`` for ``qmix``: the first group that has this choice."""
    return next((f"{group}={word}" for group in groups if word in choices(group)), None)


def check_folder(folder: Path, chosen: Iterable[tuple[str, str]]) -> None:
    """Raise :class:`ConfigError` for a folder, or a chosen file in it, that Hydra could not use."""
    if not folder.is_dir():
        raise ConfigError(f"--config-dir={folder}: no such folder; it holds files like experiment/mine.yaml")
    for path in sorted(folder.rglob("*.yaml")):
        name = path.relative_to(folder)
        if (conf_dir() / name).is_file():
            raise ConfigError(
                f"{path}: has the name of conf/{name}, which comes with qmix_jax; give the file another name"
            )
        if len(name.parts) == 1:
            raise ConfigError(f"{path}: belongs into the folder of a group, like {folder / 'experiment' / name.name}")
        if name.parts[0] not in (*group_names(), "hydra"):
            raise unknown_choice(f"{path}: group", name.parts[0], group_names())
    for group, choice in chosen:
        path = folder / group / f"{choice}.yaml"
        if path.is_file():
            _check_file(path, is_experiment=group == "experiment")


def where(folder: Path | None, chosen: Iterable[tuple[str, str]], key: str) -> str:
    """`` (in FILE, line N)`` for the last of the chosen files that sets ``key``, or nothing.

    Args:
        folder: the user's own, None where there is none.
        chosen: groups and their choices.
        key: a dotted path.
    """
    found = ""
    for group, choice in chosen if folder is not None else ():
        path = Path(folder or "") / group / f"{choice}.yaml"
        names = key.split(".") if group == "experiment" else key.removeprefix(f"{group}.").split(".")
        line = _line(path, names) if path.is_file() else None
        found = found if line is None else f" (in {path}, line {line})"
    return found


def _check_file(path: Path, is_experiment: bool) -> None:
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        what = getattr(error, "problem", None) or "not YAML"
        raise ConfigError(f"{path}{line}: cannot be read: {what}; check brackets, quotes and indentation") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if tree is not None and not isinstance(tree, Mapping):
        raise ConfigError(f"{path}: must hold keys and values, like gamma: 0.9")
    if is_experiment and HEADER not in "".join(text.split("\n")[:1]).replace("#@", "# @"):
        raise ConfigError(f"{path}, line 1: an experiment must start with the line {HEADER!r}")


def _line(path: Path, names: list[str]) -> int | None:
    """The line of a nested key in a YAML file."""
    try:
        node: Any = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, OSError, ValueError):
        return None
    line = None
    for name in names:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        match = [(key, value) for key, value in pairs if key.value == name]
        if not match:
            return None
        line, node = match[-1][0].start_mark.line + 1, match[-1][1]
    return line
