"""The shortest way from the command line's settings to the pure functions."""

from collections.abc import Sequence

from qmix_jax.algorithms.loop import Algorithm
from qmix_jax.envs.build import make_env
from qmix_jax.settings.build import build
from qmix_jax.settings.command_line import compose_config
from qmix_jax.settings.reading import parse, to_container
from qmix_jax.types import HyperParams


def make_algorithm(overrides: Sequence[str] = ()) -> tuple[Algorithm, HyperParams]:
    """The parts and numbers that ``python -m qmix_jax.train`` would train with these arguments.

    Raises :class:`qmix_jax.errors.ConfigError` for arguments that the command line would refuse.
    """
    config = parse(to_container(compose_config(overrides)))
    return build(config, make_env(config.parts["env"]))
