"""Checks of settings under ``env.``, shared by the factories; all raise :class:`ConfigError`."""

import difflib
import functools
import sys
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from qmix_jax.errors import ConfigError, Range, check_range, unknown_choice

HOSTED_CODE = {
    "qmix_jax.envs.hosted.pettingzoo.make_pettingzoo": ("name",),
    "qmix_jax.envs.hosted.gymnasium.make_gymnasium": ("id", "import"),
    "qmix_jax.envs.jaxmarl.make_jaxmarl": ("opponents",),
}
"""By target, the keys whose values may name a module or a function."""
KNOWN_IMPORTS = (None, "lbforaging", "rware")


def check_choice(key: str, value: object, choices: Iterable[str]) -> None:
    """Raise unless ``value`` is one of ``choices``."""
    if value not in (choices := tuple(choices)):
        raise unknown_choice(key, value, choices)


def check_at_least(key: str, value: int | float, least: int | float) -> None:
    """Raise unless ``value`` is a number and at least ``least``."""
    check_kind(key, value, least)
    if value < least:
        raise ConfigError(f"{key}={value}: must be at least {least}")


def check_known(settings: Mapping[str, object], accepted: Iterable[str], section: str = "env") -> None:
    """Raise for the first of ``settings`` that is not ``accepted``, naming the nearest accepted one."""
    accepted = sorted(accepted)
    for name, value in settings.items():
        if name not in accepted:
            near = difflib.get_close_matches(name, accepted, n=1, cutoff=0.0)
            hint = f"; did you mean '{section}.{near[0]}'?" if near else ""
            choices = ", ".join(f"{section}.{other}" for other in accepted) or "none"
            raise ConfigError(f"{section}.{name}={value}: unknown{hint} (choices: {choices})")


def check_kind(key: str, value: object, default: object) -> None:
    """Raise unless ``value`` has the type of ``default``: a boolean, an integer, a number or a string.

    Numbers must be ones that the device can hold.
    """
    kinds: tuple[tuple[type, str, tuple[type, ...]], ...] = (
        (bool, "true or false", (bool,)),
        (int, "a whole number", (int,)),
        (float, "a number", (int, float)),
        (str, "a text", (str,)),
    )
    for kind, words, allowed in kinds:
        if type(default) is kind:
            if not isinstance(value, allowed) or (kind is not bool and isinstance(value, bool)):
                raise ConfigError(f"{key}={value}: must be {words}")
            if kind in (int, float):
                check_range(kind(typing.cast(float, value)), key, Range())
            return


def own_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The environment's own settings: those beside the adapter's, and those under ``env.kwargs``, of any name.

    Raises :class:`ConfigError` for one that is given twice.
    """
    others = dict(settings)
    kwargs = others.pop("kwargs", None) or {}
    if not isinstance(kwargs, Mapping):
        raise ConfigError(f"env.kwargs={kwargs}: must be settings by name: +env.kwargs.size=5")
    for name in kwargs:
        if name in others:
            raise ConfigError(f"env.kwargs.{name}={kwargs[name]}: is given as env.{name}, too")
    return {**others, **{str(name): value for name, value in kwargs.items()}}


def foreign_code(env: Mapping[str, Any]) -> list[str]:
    """The keys under ``env.`` with which saved settings would run code of their own choice.

    A plain module name only imports an installed package and calls its ``parallel_env``; ``module:function`` calls
    anything.
    """
    keys = HOSTED_CODE.get(str(env.get("_target_")), ())
    return [key for key in keys if (env.get(key) not in KNOWN_IMPORTS if key == "import" else ":" in str(env.get(key)))]


@functools.cache
def say(line: str) -> None:
    """Tell the user on standard error, once in a process."""
    print(line, file=sys.stderr, flush=True)
