"""The list of checks, and their results."""

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
    "vmap": "environments in a batch behave as they do alone",
    "repeatable": "the same keys and actions give the same bits",
    "pure": "results depend on the arguments only: traced again, or made again, it behaves the same",
    "available": "every agent has an available action at every step, the final observation included",
    "finite": "obs, state and reward are finite",
    "discount": "discount is 0 after a termination and 1 otherwise",
    "episode_limit": "every episode ends within episode_limit transitions",
    "time_limit": "the time limit leaves the discount at 1, unless time_limit=terminal",
    "win_rate": "won is only used with has_win_rate",
    "max_return": "the absolute return of an episode is at most max_return, if given",
    "no_reset": "step never resets by itself: with last set it returns the true final observation",
    "scale": "obs and state are of the order of 1",
}
"""All checks by name, in the order of the report."""

HINTS: tuple[tuple[type[BaseException], str], ...] = (
    (SystemExit, "an environment must not end the program; raise an error that says what is wrong"),
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
"""Advice on errors; the first type that matches applies."""

DISCOUNT_ADVICE = "return 0 after a termination, else 1; gamma does not belong to the environment"


class Finding(NamedTuple):
    """The result of one check; ``words`` say what is wrong and, after a semicolon, what to do."""

    check: str
    result: Literal["ok", "warning", "broken", "not_checked"]
    words: str = ""


def ok(check: str) -> Finding:
    """A check that found nothing."""
    return Finding(check, "ok")


def broken(check: str, words: str, advice: str) -> Finding:
    """A check that failed."""
    return Finding(check, "broken", f"{words}; {advice}")


def warning(check: str, words: str, advice: str) -> Finding:
    """Something that may be intended, but rarely is."""
    return Finding(check, "warning", f"{words}; {advice}")


def failure(check: str, what: str, error: BaseException, otherwise: str | None = None) -> Finding:
    """An exception in one line: its message, its place in the user's code, and what to do.

    ``otherwise`` is the advice on errors that are not among ``HINTS``.
    """
    if isinstance(error, jax.errors.UnexpectedTracerError):  # Whichever check meets it, the cause is hidden state.
        check = "pure"
    hint = next((words for kind, words in HINTS if isinstance(error, kind)), None)
    hint = hint or otherwise or "make it run under jax.jit and jax.vmap"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    # The error of a callback contains a whole traceback; its last line is the exception.
    message = lines[-1] if lines[0].endswith("(most recent call last):") else f"{type(error).__name__}: {lines[0]}"
    return broken(check, f"{what} fails: {message.rstrip('.')}{_place(error)}", hint)


def complete(found: Sequence[Finding]) -> list[Finding]:
    """One finding for each of ``PROMISES``: the last one in ``found``, else ``not_checked``."""
    by_name = {finding.check: finding for finding in found}
    return [by_name.get(name, Finding(name, "not_checked", "because another check failed")) for name in PROMISES]


def few(words: Sequence[str], most: int = 3) -> str:
    """The first entries of a list that may be long."""
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def _place(error: BaseException) -> str:
    """The innermost line outside JAX and these checks."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_file() and not {"jax", "jaxlib"} & set(path.parts) and path.parent != Path(__file__).parent:
            return f" ({path.name}:{frame.lineno})"
    return ""
