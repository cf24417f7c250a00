"""The one kind of error that a user's input can cause."""

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """A setting that cannot be used; its message is one line for the user, and the program exits with status 2."""


def unknown_choice(key: str, value: object, choices: Iterable[str]) -> ConfigError:
    """The error for a value that is not among ``choices``: names the key, the value and the nearest valid choice."""
    choices = sorted(choices)
    near = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.0)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ConfigError(f"{key}={value}: unknown; {hint}(choices: {', '.join(choices)})")
