"""Import what a setting names. A name that does not exist gets the nearest one that does."""

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
