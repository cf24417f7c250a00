"""The command line from Python: its parts as pure functions, and whole runs."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qmix_jax.algorithms.base import Algorithm
from qmix_jax.envs.base import Env
from qmix_jax.envs.build import ADAPTER_SETTINGS, as_env, make_env
from qmix_jax.errors import ConfigError
from qmix_jax.settings.build import build
from qmix_jax.settings.cells import cells
from qmix_jax.settings.command_line import compose_config
from qmix_jax.settings.overrides import SAME_AS
from qmix_jax.settings.reading import from_arguments, parse, to_container
from qmix_jax.types import HyperParams

if TYPE_CHECKING:
    from qmix_jax.results.opened import OpenedRun


def make_algorithm(overrides: Sequence[str] = ()) -> tuple[Algorithm, HyperParams]:
    """The parts and numbers that ``python -m qmix_jax.train`` would train with these arguments.

    Raises :class:`qmix_jax.errors.ConfigError` for arguments that the command line would refuse.
    """
    config = parse(to_container(compose_config(checked_list(overrides))))
    return build(config, make_env(config.parts["env"]))


def run(overrides: Sequence[str] = (), *, env: object = None) -> "OpenedRun":
    """Train as ``python -m qmix_jax.train`` does: progress, a folder, checkpoints, resuming.

    Ctrl-C (a notebook's stop button) ends the run after the epoch, with everything saved; once more, or before the
    first epoch, raises ``KeyboardInterrupt``.

    Args:
        overrides: the command line's arguments, like ``["experiment=smax_3m", "num_seeds=4"]``.
        env: a :class:`qmix_jax.Env`, or an environment with JaxMARL's ``MultiAgentEnv`` interface, in place of
            ``env=...`` in ``overrides``. Of its settings, ``overrides`` may have those of the adapter of the latter:
            ``env.time_limit``, ``env.reward`` and ``env.episode_limit``. All else is as with ``env=custom``. The
            folder does not say how to make it: to resume, give it again.

    Returns the run, opened. Raises :class:`qmix_jax.errors.ConfigError` for what the command line would refuse.
    """
    from qmix_jax.running import launch
    from qmix_jax.running.resume import settings_to_resume

    arguments = checked_list(overrides)
    changes: dict[str, Any] = {}
    if env is not None:
        arguments, changes = _without_env(arguments, env)
    named = [SAME_AS.get(argument, argument).lstrip("+~").partition("=")[0] for argument in arguments]
    preset = any(argument.startswith("experiment=") for argument in arguments)  # it has an environment of its own
    container = to_container(compose_config([*(["env=custom"] if env is not None and not preset else []), *arguments]))
    if env is not None:
        container["env"] = {**_about(env), **changes}
        named.append("env._target_")
    container = settings_to_resume(container, named)
    config = parse(container)
    run_dir = _new_folder(container) if config.run_dir is None else Path(config.run_dir)
    request = launch.Request(config, container, cells(container, config), run_dir)
    run_dir = launch.run(request, env, keep_process=True).run_dir
    from qmix_jax.results.opened import open_run

    return open_run(run_dir, env=None if env is None else as_env(env, **changes))


def _without_env(arguments: Sequence[str], env: object) -> tuple[list[str], dict[str, Any]]:
    """The arguments that are not about the environment, and the settings of its adapter in the others."""
    own = [argument for argument in arguments if argument.lstrip("+~").partition("=")[0].partition(".")[0] == "env"]
    allowed = () if isinstance(env, Env) else ADAPTER_SETTINGS
    for argument in own:
        key = argument.lstrip("+~").partition("=")[0]
        if key.partition(".")[2] not in allowed:
            choices = ", ".join(f"env.{name}" for name in allowed)
            told = f"; beside it only {choices}" if allowed else "; leave out its settings"
            raise ConfigError(f"{key}: an environment object was given{told}")
    changes = from_arguments([argument.lstrip("+~") for argument in own]).get("env", {})
    return [argument for argument in arguments if argument not in own], changes


def _about(env: object) -> dict[str, Any]:
    """What the folder says of an environment that was given."""
    kind = type(env)
    name = getattr(env, "name", None)
    return {"_target_": f"{kind.__module__}.{kind.__qualname__}", **({"name": name} if isinstance(name, str) else {})}


def _new_folder(container: dict[str, Any]) -> Path:
    now = datetime.now()
    made = str(container["env"]["_target_"]).rpartition(".")[2].removeprefix("make_")
    return Path("runs") / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S}-{container['algorithm']['name']}-{made}"


def checked_list(overrides: object) -> list[str]:
    """A list of ``key=value`` texts. Raises :class:`ConfigError` for anything else, a single text above all."""
    if isinstance(overrides, str):
        listed = ", ".join(repr(part) for part in overrides.split())
        raise ConfigError(f"{overrides!r}: settings are a list of texts, one each: [{listed}]")
    if isinstance(overrides, Mapping):
        listed = ", ".join(repr(f"{key}={value}") for key, value in overrides.items())
        raise ConfigError(f"{overrides!r}: settings are a list of texts, one each: [{listed}]")
    if not isinstance(overrides, Iterable):
        raise ConfigError(f"{overrides!r}: settings are a list of texts like ['env=two_step', 'num_seeds=4']")
    found = list(overrides)
    for item in found:
        if not isinstance(item, str):
            raise ConfigError(f"{item!r}: each setting is a text like 'num_seeds=4'")
    return found
