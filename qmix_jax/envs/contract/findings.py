"""What is checked, and how a check says what it came to."""

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import jax

PROMISES = {
    "declared": "sizes are whole numbers of at least 1; max_return is None or a number above 0",
    "jit": "reset and step can be traced and compiled: no Python decision depends on a traced value",
    "returns": "reset returns (env_state, TimeStep), step returns (env_state, TimeStep, Outcome)",
    "obs_type": "obs is float32 [num_agents, obs_size] at every call",
    "avail_actions_type": "avail_actions is bool [num_agents, num_actions] at every call",
    "state_type": "state is float32 [state_size] at every call",
    "reward_type": "reward is one float32",
    "discount_type": "discount is one float32",
    "last_type": "last is one bool",
    "won_type": "won is one bool",
    "env_state_type": "env_state has the same structure, shapes and dtypes at every call",
    "vmap": "a batch of environments plays as its members do alone",
    "repeatable": "the same keys and actions give the same bits",
    "pure": "nothing but the arguments matters: traced once more, or made once more, it plays alike",
    "available": "every agent has an available action at every moment, the final one included",
    "finite": "obs, state and reward are finite",
    "discount": "discount is 0 after a true end and 1 otherwise",
    "episode_limit": "every episode ends within episode_limit transitions",
    "time_limit": "running out of time leaves the discount at 1, unless time_limit=terminal",
    "win_rate": "won is only used with has_win_rate",
    "max_return": "the absolute return of an episode is at most max_return, where given",
    "no_reset": "step never resets by itself: with last it returns the true final observation",
    "scale": "obs and state are of the order of 1",
}
"""Every check by name, in the order of the report."""

HINTS: tuple[tuple[type[Exception], str], ...] = (
    (
        jax.errors.UnexpectedTracerError,
        "a traced value was kept in an attribute or a global; keep everything that changes in env_state",
    ),
    (
        jax.errors.TracerBoolConversionError,
        "use jnp.where, jnp.minimum or jax.lax.cond instead of if, while, and, or, min and max on values that depend "
        "on key, env_state or action",
    ),
    (jax.errors.TracerArrayConversionError, "NumPy cannot work on traced values; use jax.numpy"),
    (
        jax.errors.TracerIntegerConversionError,
        "a traced value cannot index a list or be a size; index a jnp array, or use jax.lax.switch",
    ),
    (jax.errors.NonConcreteBooleanIndexError, "a mask selects an unknown number of elements; use jnp.where"),
    (
        jax.errors.ConcretizationTypeError,
        "int(), float(), .item() and sizes need values that are known before the program runs; use jax.numpy",
    ),
)
"""What to do about JAX's errors; the first kind that fits."""


class Finding(NamedTuple):
    """What one check came to; ``words`` say what is wrong, and after a semicolon what to do."""

    check: str
    result: Literal["ok", "warning", "broken", "not_checked"]
    words: str = ""


def ok(check: str) -> Finding:
    """A promise that is kept, as far as can be seen."""
    return Finding(check, "ok")


def broken(check: str, words: str, advice: str) -> Finding:
    """A promise that is not."""
    return Finding(check, "broken", f"{words}; {advice}")


def warning(check: str, words: str, advice: str) -> Finding:
    """Something that may be meant, but is rarely."""
    return Finding(check, "warning", f"{words}; {advice}")


def failure(check: str, what: str, error: Exception) -> Finding:
    """An exception in one line: what it says, where in the user's code, and what to do about it."""
    if isinstance(error, jax.errors.UnexpectedTracerError):  # Whoever meets it, the cause is a hidden memory.
        check = "pure"
    hint = next((words for kind, words in HINTS if isinstance(error, kind)), "make it run under jax.jit and jax.vmap")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    # The error of a callback carries a whole trace, whose last line is what was raised.
    message = lines[-1] if lines[0].endswith("(most recent call last):") else f"{type(error).__name__}: {lines[0]}"
    return broken(check, f"{what} fails: {message.rstrip('.')}{_place(error)}", hint)


def complete(found: Sequence[Finding]) -> list[Finding]:
    """One finding for each of ``PROMISES``: the last one in ``found``, else that it could not be checked."""
    by_name = {finding.check: finding for finding in found}
    return [by_name.get(name, Finding(name, "not_checked", "because of what is broken")) for name in PROMISES]


def few(words: Sequence[str], most: int = 3) -> str:
    """The first of a list that may be long."""
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def _place(error: Exception) -> str:
    """The innermost line outside JAX and these checks."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_file() and not {"jax", "jaxlib"} & set(path.parts) and path.parent != Path(__file__).parent:
            return f" ({path.name}:{frame.lineno})"
    return ""
