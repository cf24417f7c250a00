"""The shortest way from the command line's settings to the pure functions."""

from collections.abc import Iterable, Sequence

from qmix_jax.algorithms.base import Algorithm
from qmix_jax.envs.build import make_env
from qmix_jax.errors import ConfigError
from qmix_jax.settings.build import build
from qmix_jax.settings.command_line import compose_config
from qmix_jax.settings.reading import parse, to_container
from qmix_jax.types import HyperParams


def make_algorithm(overrides: Sequence[str] = ()) -> tuple[Algorithm, HyperParams]:
    """The parts and numbers that ``python -m qmix_jax.train`` would train with these arguments.

    Raises :class:`qmix_jax.errors.ConfigError` for arguments that the command line would refuse.
    """
    config = parse(to_container(compose_config(checked_list(overrides))))
    return build(config, make_env(config.parts["env"]))


def checked_list(overrides: object) -> list[str]:
    """A list of ``key=value`` texts. Raises :class:`ConfigError` for anything else, a single text above all."""
    if isinstance(overrides, str):
        listed = ", ".join(repr(part) for part in overrides.split())
        raise ConfigError(f"{overrides!r}: settings are a list of texts, one each: [{listed}]")
    if not isinstance(overrides, Iterable):
        raise ConfigError(f"{overrides!r}: settings are a list of texts like ['env=two_step', 'num_seeds=4']")
    found = list(overrides)
    for item in found:
        if not isinstance(item, str):
            raise ConfigError(f"{item!r}: each setting is a text like 'num_seeds=4'")
    return found
