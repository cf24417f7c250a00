"""What the user typed, checked before JAX is imported: errors are one line with key, value and nearest choice."""

import difflib
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from qmix_jax.errors import ConfigError, unknown_choice
from qmix_jax.settings.cells import cells, check_key
from qmix_jax.settings.reading import parse, to_container


def conf_dir() -> Path:
    """The configuration folder: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return next((path for path in (package / "conf", package.parent / "conf") if path.is_dir()), package / "conf")


def shipped_targets(group: str) -> set[str]:
    """What the files of a configuration group build: every ``_target_`` in them."""
    sections: list[Any] = [OmegaConf.load(path) for path in (conf_dir() / group).glob("*.yaml")]
    return {section["_target_"] for section in sections if not OmegaConf.is_missing(section, "_target_")}


def check(arguments: Sequence[str]) -> None:
    """Compose and parse the configuration that the arguments describe.

    Hydra's own flags (``--help``, ``--cfg``, ``--multirun`` ...) leave the rest to Hydra; a multirun is checked job by
    job.

    Raises :class:`ConfigError`.
    """
    if any(argument.startswith("-") for argument in arguments):
        _check_launcher(arguments)
        return
    container = to_container(compose_config(arguments))
    cells(container, parse(container))


LAUNCHERS = {
    "slurm": ("submitit", "hydra_submitit_launcher"),
    "submitit_slurm": ("submitit", "hydra_submitit_launcher"),
    "local": ("submitit", "hydra_submitit_launcher"),
    "submitit_local": ("submitit", "hydra_submitit_launcher"),
    "ray_cluster": ("ray", "hydra_ray_launcher"),
    "ray": ("ray", "hydra_ray_launcher"),
}
"""Values of ``hydra/launcher``: the extra that brings them, and the package in it that Hydra looks for."""


def _check_launcher(arguments: Sequence[str]) -> None:
    """Hydra shows a trace where a launcher is not installed."""
    for argument in arguments:
        key, _, name = argument.partition("=")
        if key != "hydra/launcher":
            continue
        if name not in (*LAUNCHERS, "basic"):
            raise unknown_choice(key, name, (*LAUNCHERS, "basic"))
        extra, package = LAUNCHERS.get(name, ("", ""))
        plugins = importlib.util.find_spec("hydra_plugins") if package else None
        folders = [] if plugins is None else list(plugins.submodule_search_locations or ())
        if package and not any((Path(folder) / package).is_dir() for folder in folders):
            raise ConfigError(f"{argument}: is not installed; pip install 'qmix_jax[{extra}]'")


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """The configuration as Hydra composes it from the defaults and ``overrides``.

    Raises :class:`ConfigError` where Hydra would print a trace or several lines.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError(_first_line(error)) from error
    for override in parsed:
        if override.is_sweep_override():
            raise ConfigError(f"{override.input_line}: several values need --multirun; a list is [a,b]")
        _check_choice(override)
    try:
        return _compose(overrides)
    except (HydraException, OmegaConfBaseException) as error:
        _check_keys(parsed)
        raise ConfigError(_first_line(error)) from error


def _compose(overrides: Sequence[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base=None):
        return compose("config", overrides=list(overrides))


def _check_choice(override: Override) -> None:
    """A group must be given the name of one of its files."""
    folder = conf_dir() / override.key_or_group
    if not folder.is_dir() or override.is_sweep_override() or override.is_delete():
        return
    value = override.value()
    choices = sorted(path.stem for path in folder.glob("*.yaml"))
    if value not in choices:
        raise unknown_choice(override.key_or_group, "null" if value is None else value, choices)


def _check_keys(overrides: Iterable[Override]) -> None:
    """Raise for the first key that is not there, naming the nearest one that is."""
    groups = [o for o in overrides if (conf_dir() / o.key_or_group).is_dir()]
    known = set(_keys(OmegaConf.to_container(_compose([o.input_line for o in groups if o.input_line])), ""))
    names = {path.name for path in conf_dir().iterdir() if path.is_dir() and path.name != "hydra"}
    for override in overrides:
        key = override.key_or_group
        if override in groups or override.is_add() or key.startswith("hydra"):
            continue
        if key not in known:
            check_key(key, override.get_value_element_as_str())
            others = {name for name in known if not name.startswith("sweep.") or key.startswith("sweep")}
            near = _nearest(key, others | names)
            raise ConfigError(f"{key}={override.get_value_element_as_str()}: unknown key; did you mean {near}?")


def _keys(tree: Any, prefix: str) -> Iterable[str]:
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield f"{prefix}{name}"
            yield from _keys(value, f"{prefix}{name}.")


def _nearest(key: str, known: Iterable[str]) -> str:
    def likeness(other: str) -> float:
        whole = difflib.SequenceMatcher(None, key, other).ratio()
        last = difflib.SequenceMatcher(None, key.rpartition(".")[2], other.rpartition(".")[2]).ratio()
        return max(whole, last) + 0.1 * whole

    return max(sorted(known), key=likeness)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
