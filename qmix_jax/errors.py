"""The error for invalid user input."""

import difflib
from collections.abc import Iterable


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


def unknown_choice(key: str, value: object, choices: Iterable[str]) -> ConfigError:
    """The error for a value that is not among ``choices``: names the key, the value and the nearest valid choice."""
    choices = sorted(choices)
    near = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.0)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ConfigError(f"{key}={value}: unknown; {hint}(choices: {', '.join(choices)})")
