"""Import what a setting names. A name that does not exist gets the nearest one, an object of another kind its door."""

import difflib
import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import Any

from qmix_jax.errors import USERS_ERRORS, ConfigError, in_a_line, nearest

EXTRA = ("gymnasium", "pettingzoo", "mpe2", "lbforaging", "rware")
"""Packages of the extra ``envs``."""


def find_module(told: str, name: str) -> ModuleType:
    """The module ``name``.

    Raises :class:`ConfigError`, beginning with ``told``, for one that does not exist or cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except USERS_ERRORS as error:
        missing = str(error.name or "") if isinstance(error, ModuleNotFoundError) else ""
        is_this = missing != "" and f"{name}.".startswith(f"{missing}.")
        why = _absent(missing) if is_this else f"{in_a_line(error)}{_advice(missing)}"
        raise ConfigError(f"{told}: cannot import {name}: {why}") from error


def find_name(told: str, module: ModuleType, name: str) -> Any:
    """What can be called ``name`` in a module.

    Raises :class:`ConfigError`, beginning with ``told``, where there is no such thing.
    """
    found = getattr(module, name, None)
    if callable(found):
        return found
    public = [other for other, value in vars(module).items() if callable(value) and not other.startswith("_")]
    near = nearest(name, public)
    hint = f"; did you mean {near}?" if near else ""
    raise ConfigError(f"{told}: {module.__name__} has no function {name}{hint}")


def takes(function: Any, name: str, or_any: bool = False) -> bool:
    """Whether a function has an argument of this name; with ``or_any`` also one that takes any (``**kwargs``)."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # Some callables not written in Python have no signature.
        return False
    return any(each.name == name or (or_any and each.kind is each.VAR_KEYWORD) for each in parameters)


def _absent(name: str) -> str:
    package, _, own = name.rpartition(".")
    if not package:
        return f"there is no package {name}{_advice(name)}"
    path = getattr(importlib.import_module(package), "__path__", None)
    near = nearest(own, [module.name for module in pkgutil.iter_modules(path)]) if path else None
    return f"there is no module {name}" + (f"; did you mean {package}.{near}?" if near else "")


def _advice(name: str) -> str:
    package = name.partition(".")[0]
    if package in EXTRA:
        return "; pip install 'qmix_jax[envs]'"
    near = difflib.get_close_matches(package, EXTRA, n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""


def right_door(made: object, own: str = "") -> str:
    """What to use for an environment that is stepped in Python; empty for anything else.

    ``own`` is the door that it came in by.
    """
    if isinstance(made, type):
        return "it is a class: give one that is made, or a function that makes one"
    if any(base.__module__.startswith("jaxmarl.") for base in type(made).__mro__):
        missing = [name for name in ("agents", "reset", "step_env", "action_space") if not hasattr(made, name)]
        return f"it derives from a class of JaxMARL and lacks {', '.join(missing)}" if missing else ""
    advice = _door_of(made)
    return "" if own and f"env={own} " in advice else advice


def _door_of(made: object) -> str:
    if all(hasattr(made, name) for name in ("get_obs", "get_avail_actions", "step")):
        return "it is a PyMARL MultiAgentEnv: use env=pymarl with the same env._target_"
    if all(hasattr(made, name) for name in ("possible_agents", "step", "reset")):
        return "it is a PettingZoo environment: use env=pettingzoo env.name=my_module:my_function"
    if all(hasattr(made, name) for name in ("observation_space", "action_space", "step", "reset")):
        return "it is a Gymnasium environment: register it, and use env=gymnasium env.id=... env.import=my_package"
    if all(hasattr(made, name) for name in ("step", "reset")):
        return (
            "if Python or NumPy steps it, give it the interface of one of these and use env=pettingzoo, env=gymnasium "
            "or env=pymarl"
        )
    return ""
