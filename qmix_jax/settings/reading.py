"""Plain trees of settings, from OmegaConf and from arguments, and the typed configuration in one.

This and the command line are the only readers of OmegaConf.
"""

import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from qmix_jax.errors import ConfigError
from qmix_jax.settings.checks import check_together
from qmix_jax.settings.config import PARTS, AlgorithmConfig, Config, ExplorationConfig, OptimizerConfig, TargetConfig
from qmix_jax.settings.values import parse_section


def to_container(config: Any) -> dict[str, Any]:
    """An OmegaConf tree as plain, resolved dicts and lists.

    Raises :class:`ConfigError` for interpolations that do not resolve.
    """
    try:
        container = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0]) from error
    return typing.cast(dict[str, Any], container)


def from_arguments(arguments: Sequence[str]) -> dict[str, Any]:
    """``key=value`` arguments with dotted keys as a plain tree; values are read as YAML, as far as Hydra would.

    Raises :class:`ConfigError` for one that cannot be read.
    """
    tree = OmegaConf.create()
    for argument in arguments:
        key, equals, value = argument.partition("=")
        quoted = f"{key}='{value}'" if equals and ONLY_YAML.fullmatch(value) else argument
        try:
            tree = OmegaConf.merge(tree, OmegaConf.from_dotlist([quoted]))
        except Exception as error:  # OmegaConf's own errors, and those of the YAML reader that it uses.
            raise ConfigError(f"{argument}: cannot be read: {' '.join(str(error).split())}") from error
    return to_container(tree)


ONLY_YAML = re.compile(r"[+-]?0[\d_]+|[+-]?\d[\d_]*(:[0-5]?\d)+|yes|no|on|off", re.IGNORECASE)
"""What is a number to base 8 (010) or 60 (1:30), or a truth value, in YAML; for training it is text."""

TYPED = {
    "algorithm": AlgorithmConfig,
    "target": TargetConfig,
    "exploration": ExplorationConfig,
    "optimizer": OptimizerConfig,
}
"""Parts that have settings of ours beside those of what they build."""


def parse(container: Mapping[str, Any]) -> Config:
    """The typed configuration in a plain tree.

    Raises :class:`ConfigError` for an unknown or missing key, a value of another kind, a number out of its range, and
    settings that contradict each other.
    """
    tree = dict(container)
    parts = {}
    for name in PARTS:
        if not isinstance(tree.get(name) or {}, Mapping):
            raise ConfigError(f"{name}={tree[name]}: must be a section of keys")
        section = dict(tree.get(name) or {})
        if not section:
            raise ConfigError(f"{name}: missing; choose one of conf/{name}, for example {name}=...")
        typed = TYPED.get(name)
        own = {field.name for field in dataclasses.fields(typed)} if typed else set()
        parts[name] = {key: value for key, value in section.items() if key not in own}
        if typed:
            tree[name] = {key: value for key, value in section.items() if key in own}
        else:
            tree.pop(name)
    if "parts" in tree:
        raise ConfigError(f"parts={tree['parts']}: unknown key")
    config = parse_section(Config, {**tree, "parts": parts}, "")
    check_together(config)
    return config
