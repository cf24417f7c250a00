"""The error for invalid user input."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator


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
    hint = f"did you mean {near!r}? " if near else ""
    return ConfigError(f"{key}={value}: unknown; {hint}(choices: {', '.join(choices)})")


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice most like ``word``, compared without case, ``_`` and ``-``; None where there is no choice."""
    found = {plain(choice): choice for choice in sorted(choices, reverse=True)}
    near = difflib.get_close_matches(plain(word), found, n=1, cutoff=0.0)
    return found[near[0]] if near else None


def plain(word: str) -> str:
    """A name in small letters, without ``_``, ``-`` and spaces."""
    return word.lower().translate(str.maketrans("", "", "_- "))
