"""The error for invalid user input, and which numbers are valid at all."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple


class ConfigError(ValueError):
    """An invalid setting. Its message is one line for the user, and the program exits with status 2.

    Characters that cannot be printed are escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message))


def require(condition: bool, key: str, value: object, words: str) -> None:
    """Raise :class:`ConfigError` unless ``condition``; ``words`` says what the value must be."""
    if not condition:
        raise ConfigError(f"{key}={value}: must be {words}")


USERS_ERRORS = (Exception, SystemExit)
"""What code that is not ours may raise; each is told in one line."""


MOST_LETTERS = 1000
"""Of an error's words: some hold whole arrays."""


def in_a_line(error: BaseException) -> str:
    """The kind and the words of an error."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words if len(words) <= MOST_LETTERS else f'{words[:MOST_LETTERS]}...'}"


@contextlib.contextmanager
def writing(key: str, path: object) -> Iterator[None]:
    """Raise :class:`ConfigError` where ``path``, which the argument ``key`` names, cannot be written."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{key}={path}: cannot be written: {error.strerror or error}") from error


def unknown_choice(key: str, value: object, choices: Iterable[str]) -> ConfigError:
    """The error for a value that is not among ``choices``: names the key, the value and the nearest valid choice."""
    choices = sorted(choices)
    near = nearest(str(value), choices)
    hint = f"; did you mean {near!r}?" if near else ""
    return ConfigError(f"{key}={value}: unknown{hint} (choices: {', '.join(choices) or 'none'})")


def nearest(word: str, choices: Iterable[str], cutoff: float = 0.0) -> str | None:
    """The choice most like ``word``, compared without case, ``_`` and ``-``.

    None where there is no choice, or none that is as like as ``cutoff`` (0 to 1).
    """
    found = {plain(choice): choice for choice in sorted(choices, reverse=True)}
    near = difflib.get_close_matches(plain(word), found, n=1, cutoff=cutoff)
    return found[near[0]] if near else None


def plain(word: str) -> str:
    """A name in small letters, without ``_``, ``-`` and spaces."""
    return word.lower().translate(str.maketrans("", "", "_- "))


class Range(NamedTuple):
    """Smallest and largest value of a number, both allowed unless ``above`` excludes the smallest."""

    low: float | None = None
    high: float | None = None
    above: bool = False


LARGEST = {int: 2**31 - 1, float: 1e38}
"""On the device numbers have 32 bits."""
SMALLEST = 1.2e-38
"""Smaller ones are 0 on the device."""


def check_range(value: Any, key: str, limits: Range | None) -> Any:
    """``value``, if it is within its limits and a number that the device can hold; without limits as it is.

    Raises :class:`ConfigError`.
    """
    if limits is None:
        return value
    low, high, above = limits
    largest = LARGEST[type(value)]
    low = -largest if low is None else low
    high = largest if high is None else high
    if value != value or value in (float("inf"), float("-inf")):
        raise ConfigError(f"{key}={value}: must be a finite number")
    if value < low or (above and value == low):
        raise ConfigError(f"{key}={value}: must be {'more than' if above else 'at least'} {low}")
    if 0 < abs(value) < SMALLEST:
        raise ConfigError(f"{key}={value}: is 0 on the device; numbers have at least {SMALLEST:g}")
    if value > high:
        raise ConfigError(f"{key}={value}: must be at most {high}")
    return value
