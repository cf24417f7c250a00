"""Values of settings: reading a section into its dataclass, and checking kinds and ranges."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from qmix_jax.errors import ConfigError, Range, check_range, nearest, unknown_choice


def number(
    low: float | None = None, high: float | None = None, above: bool = False, default: Any = dataclasses.MISSING
) -> Any:
    """A field for a number in a :class:`Range`; with a ``default`` a section may leave it out."""
    return dataclasses.field(metadata={"range": Range(low, high, above)}, default=default)


def text_of(value: float) -> str:
    """A number in as few digits as say which it is: six, unless it has more."""
    short = f"{value:g}"
    return short if float(short) == value else str(value)


def as_float(value: float) -> float:
    """A number as one with a point; infinite if it is too large for that."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def parse_section(kind: type, section: Any, path: str) -> Any:
    """A plain tree as the dataclass ``kind``; ``path`` is the dotted path of the section, for messages.

    Raises :class:`ConfigError` for an unknown or missing key, a value of another kind and a number out of its range.
    """
    if not isinstance(section, Mapping):
        raise ConfigError(f"{path}={section}: must be a section of keys")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    prefix = f"{path}." if path else ""
    for key in section:
        if key not in fields:
            near = nearest(str(key), fields)
            raise ConfigError(f"{prefix}{key}={section[key]}: unknown key; did you mean {prefix}{near}?")
    values = {}
    for name, field in fields.items():
        if name not in section and field.default is not dataclasses.MISSING:
            values[name] = field.default
            continue
        if name not in section and field.default_factory is not dataclasses.MISSING:
            values[name] = field.default_factory()
            continue
        if name not in section:
            raise ConfigError(f"{prefix}{name}: missing")
        values[name] = _parse_value(hints[name], section[name], f"{prefix}{name}", field.metadata.get("range"))
    return kind(**values)


def _parse_value(hint: Any, value: Any, key: str, limits: Range | None) -> Any:
    is_union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    options = typing.get_args(hint) if is_union else (hint,)
    if hint is Any or (value is None and type(None) in options):
        return value
    kind = options[0]
    if options == (bool, str):
        if not isinstance(value, bool | str):
            raise ConfigError(f"{key}={value}: must be true, false or a folder")
        return value
    if dataclasses.is_dataclass(kind):
        return parse_section(typing.cast(type, kind), value, key)
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise unknown_choice(key, value, typing.get_args(kind))
        return value
    if kind in (dict, list) or typing.get_origin(kind) in (dict, list):
        return _parse_collection(typing.get_origin(kind) or kind, value, key)
    return check_range(_parse_scalar(typing.cast(type, kind), value, key), key, limits)


def _parse_collection(kind: Any, value: Any, key: str) -> Any:
    if kind is dict and not isinstance(value, Mapping):
        raise ConfigError(f"{key}={value}: set its keys one by one, like {key}._target_=my_package.module.name")
    if kind is list and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
        raise ConfigError(f"{key}={value}: must be a list of texts, like [a,b]")
    return value


def _parse_scalar(kind: type, value: Any, key: str) -> Any:
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[kind]
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return as_float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)  # 1e6 is a float in YAML
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if fits and value == "":
        raise ConfigError(f"{key}=: must not be empty")
    if not fits:
        example = ", like 1_000_000" if kind is int and str(value)[-1:].lower() in ("k", "m") else ""
        raise ConfigError(f"{key}={value}: must be {words}{example}")
    return value
