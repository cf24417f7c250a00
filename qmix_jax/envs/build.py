"""Build an :class:`Env` from the settings under ``env.``; the import path is the registry."""

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, cast

from qmix_jax.envs.base import Env
from qmix_jax.envs.contract.multi_agent import check_multi_agent
from qmix_jax.envs.contract.refusal import refused, users_code
from qmix_jax.envs.contract.repairs import say_notes
from qmix_jax.envs.contract.start import fit_env, team_paid
from qmix_jax.envs.hosted.imports import find_module, find_name, right_door
from qmix_jax.envs.hosted.pymarl import make_pymarl
from qmix_jax.envs.settings import check_choice, check_kind, check_known
from qmix_jax.errors import USERS_ERRORS, ConfigError, in_a_line

ADAPTER_SETTINGS = ("time_limit", "reward", "episode_limit")
"""Settings that go to the adapter if the target makes a JaxMARL environment."""


NOT_FACTORIES = ("jax", "numpy", "scipy")
"""Packages without environments, which users name when they mean something written in them."""


def make_env(settings: Mapping[str, Any], *, fit: bool = True) -> Env:
    """Build the environment that ``settings`` describe.

    ``_target_`` is the dotted path of a callable and the other settings are its keyword arguments. It returns either
    an :class:`Env`, or an environment with JaxMARL's ``MultiAgentEnv`` interface (it may also be a class with that
    interface), which is then adapted.

    What is not of this package is checked, and repaired where that needs no guess
    (:func:`qmix_jax.envs.contract.start.fit_env`); with ``fit`` false only as far as making it does.

    Raises :class:`ConfigError` for a target that is missing or cannot be imported, for settings that it does not
    accept or that have the wrong type, for values that it rejects with a ``ValueError`` or an ``AssertionError``, and
    for environments that training cannot use.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(
            f"env: settings are a dict like {{'_target_': 'my_package.module.make_env'}}, not {settings!r}"
        )
    arguments = dict(settings)
    target, door = arguments.pop("_target_", None), arguments.pop("door", None)
    if target in (None, "", "???"):
        raise ConfigError("env._target_: missing; give the path of a factory: env._target_=my_package.module.make_env")
    factory = _import_target(str(target))
    if door is not None:
        factory, arguments = make_pymarl, _for_the_door(door, str(target), arguments)
    adapter_arguments = _check_arguments(factory, arguments)
    own_arguments = {name: value for name, value in arguments.items() if name not in adapter_arguments}
    foreign = door is None and not str(target).startswith("qmix_jax.")
    told = f"env._target_={target}"
    try:
        made = factory(**own_arguments)
    except ConfigError:
        raise
    except (ValueError, AssertionError) as error:
        raise ConfigError(f"env: {target} says: {in_a_line(error)}") from error
    except USERS_ERRORS as error:
        if foreign:
            raise refused(told, "making the environment", error, "mend the factory") from error
        raise
    if isinstance(made, Env):
        check_known(adapter_arguments, (*_accepted(factory)[0], *(("reward",) if foreign else ())))
    if not foreign:
        return as_env(made, told, fit=False, **adapter_arguments)
    return as_env(made, told, fit=fit, **adapter_arguments)


def as_env(made: object, told: str = "env", *, fit: bool = True, **adapter_arguments: Any) -> Env:
    """An :class:`Env` ready to be trained in, from one or from an environment with JaxMARL's interface.

    Args:
        made: the environment.
        told: what messages begin with.
        fit: check what can be checked without compiling, and repair what needs no guess.
        adapter_arguments: ``time_limit``, ``reward``, ``episode_limit``.

    Raises :class:`ConfigError`, which begins with ``told``, for anything else.
    """
    if isinstance(made, Env):
        if fit:
            return fit_env(made, told, **adapter_arguments)
        return team_paid(made, told, **adapter_arguments) if adapter_arguments else made
    with users_code(told, "making the environment"):  # An attribute may be a property.
        is_multi_agent = all(hasattr(made, name) for name in ("agents", "reset", "step_env", "action_space"))
    if not is_multi_agent:
        what = f"{'' if told == 'env' else 'made '}a {type(made).__name__}"
        advice = right_door(made)
        raise ConfigError(
            f"{told}: {what}, which is neither a qmix_jax.envs.base.Env nor a JaxMARL MultiAgentEnv"
            f"{advice and '; '}{advice}"
        )
    from qmix_jax.envs.jaxmarl import adapt  # Only here, because JaxMARL takes seconds to import.

    if type(made).__module__.startswith("jaxmarl.wrappers."):
        raise ConfigError(f"{told}: is wrapped in JaxMARL's {type(made).__name__}; give the environment inside it")
    of_jaxmarl = type(made).__module__.startswith("jaxmarl.")
    notes = [] if of_jaxmarl else check_multi_agent(made, told)
    with users_code(told, "making the environment"):
        adapted = adapt(cast(Any, made), **adapter_arguments)
    if fit and not of_jaxmarl:
        adapted = fit_env(adapted, told)
    say_notes(notes, told)
    return adapted


def _import_target(target: str) -> Callable[..., Any]:
    module_name, _, name = target.rpartition(".")
    if not module_name:
        raise ConfigError(f"env._target_={target}: must be a dotted path like my_package.my_module.make_env")
    package = module_name.partition(".")[0]
    if package in NOT_FACTORIES:
        raise ConfigError(
            f"env._target_={target}: is a function of {package}, which makes no environments; give the path of a "
            "factory of your own, like my_package.my_module.make_env"
        )
    streams = sys.stdout, sys.stderr
    told = f"env._target_={target}"
    try:
        module = find_module(told, module_name)
    finally:
        sys.stdout, sys.stderr = streams  # Importing JaxMARL replaces them.
    return find_name(told, module, name)


def _for_the_door(door: Any, target: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``make_pymarl``."""
    check_choice("env.door", door, ("pymarl",))
    if "target" in arguments:
        given = arguments["target"]
        raise ConfigError(
            f"env.target={given}: a name of the adapter's; for the environment: +env.kwargs.target={given}"
        )
    return {**arguments, "target": target}


def _accepted(factory: Callable[..., Any]) -> tuple[dict[str, inspect.Parameter], bool]:
    """The keyword arguments of ``factory`` by name, and whether it accepts arbitrary others."""
    try:
        parameters = inspect.signature(factory).parameters
    except ValueError:  # Some callables not written in Python have no signature.
        return {}, True
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    takes_any = any(value.kind is inspect.Parameter.VAR_KEYWORD for value in parameters.values())
    return {name: value for name, value in parameters.items() if value.kind in named}, takes_any


def _check_arguments(factory: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Check ``arguments`` against the factory's signature and return those that are for the adapter."""
    accepted, takes_any = _accepted(factory)
    adapter = {name: arguments[name] for name in ADAPTER_SETTINGS if name in arguments and name not in accepted}
    if not takes_any:
        check_known(arguments, (*accepted, *adapter))
    for name, parameter in accepted.items():
        if name in arguments:
            check_kind(f"env.{name}", arguments[name], parameter.default)
        elif parameter.default is parameter.empty:
            raise ConfigError(f"env.{name}: missing; set it with +env.{name}=...")
    return adapter
