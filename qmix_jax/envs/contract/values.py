"""Checks of the record of random play. Each returns one finding."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Shaped

from qmix_jax.envs.base import Env
from qmix_jax.envs.contract.findings import DISCOUNT_ADVICE, Finding, broken, few, ok, warning
from qmix_jax.envs.contract.random_play import Record

LARGE = 10.0
"""Inputs above this give a warning: networks expect numbers of the order of 1."""


def check(env: Env, seen: Record, time_limit: str | None) -> list[Finding]:
    """All checks that only need the record; for ``time_limit`` see ``check_contract``."""
    return [*(check(env, seen) for check in CHECKS), _time_limit(env, seen, time_limit)]


def repeatable(difference: str | None) -> Finding:
    """The result of playing twice, given the difference."""
    if difference is None:
        return ok("repeatable")
    advice = (
        "take randomness from the key only; do not draw numbers or keep state in Python (pure_callback, io_callback)"
    )
    return broken("repeatable", f"played twice with the same keys, {difference}", advice)


def pure(difference: str | None, in_factory: bool) -> Finding:
    """The result of tracing (and making) it again; ``in_factory``: tracing alone makes no difference."""
    if difference is None:
        return ok("pure")
    if in_factory:
        advice = "the factory must not draw random numbers; give it a seed as a setting"
        return broken("pure", f"made a second time with the same settings, {difference}", advice)
    advice = "no attributes or globals that change, no numpy.random, random or time in reset and step"
    return broken("pure", f"traced a second time, {difference}", advice)


def alone(seen: Record) -> Finding:
    """The result of comparing a batch with single environments."""
    if seen.alone is None:
        return ok("vmap")
    advice = "check custom_vmap rules and callbacks"
    return broken("vmap", f"{seen.alone} differs between a batch and a single environment", advice)


def _available(env: Env, seen: Record) -> Finding:
    stuck = seen.stuck & seen.plays[..., None]
    if not stuck.any():
        return ok("available")
    agents = few([str(agent) for agent in np.flatnonzero(stuck.any(axis=(0, 1)))])
    words = f"agent {agents} has no available action {_places(stuck.any(axis=-1))}"
    return broken("available", words, "give agents that cannot act a no-op action")


def _finite(env: Env, seen: Record) -> Finding:
    bad = {name: ~finite & seen.plays for name, finite in seen.finite.items()}
    bad["reward"] = np.pad(~np.isfinite(seen.reward), ((1, 0), (0, 0))) & seen.plays
    words = [f"{name} is not finite {_places(where)}" for name, where in bad.items() if where.any()]
    if not words:
        return ok("finite")
    return broken("finite", few(words), "look for divisions by zero, logarithms of zero and large exponents")


def _discount(env: Env, seen: Record) -> Finding:
    played = seen.plays[1:]
    outside = ~((seen.discount >= 0) & (seen.discount <= 1)) & played
    if outside.any():
        words = f"discount is {seen.discount[outside][0]:g} {_places(outside, 1)}"
        return broken("discount", words, DISCOUNT_ADVICE)
    cut = (seen.discount == 0) & ~seen.last & played
    if cut.any():
        words = f"discount is 0 without last {_places(cut, 1)}"
        return broken("discount", words, "also set last when an episode ends, else leave the discount at 1")
    between = (seen.discount > 0) & (seen.discount < 1) & played
    if between.any():
        words = f"discount is {seen.discount[between][0]:g} {_places(between, 1)}"
        return warning("discount", words, "it multiplies gamma there, which is rarely intended")
    early = (seen.length > 0) & (seen.length < env.episode_limit)
    if early.any() and (_at_end(seen, seen.discount)[early] == 1).all():
        words = f"all {early.sum()} episodes that end before episode_limit end with discount 1"
        return warning("discount", words, "return 0 after a termination; correct only if all of these are truncations")
    return ok("discount")


def _episode_limit(env: Env, seen: Record) -> Finding:
    endless = int((seen.length == 0).sum())
    if not endless:
        return ok("episode_limit")
    words = f"{endless} of {len(seen.length)} episodes are not over after {env.episode_limit} transitions"
    return broken("episode_limit", words, "count transitions in env_state and set last, or declare a larger limit")


def _time_limit(env: Env, seen: Record, setting: str | None) -> Finding:
    late = seen.length == env.episode_limit
    discounts = _at_end(seen, seen.discount)[late]
    always_0, always_1 = (late.any() and bool((discounts == value).all()) for value in (0, 1))
    words = f"all {late.sum()} episodes of episode_limit={env.episode_limit} transitions end with discount"
    if setting == "terminal" and always_1:
        return broken("time_limit", f"{words} 1, but time_limit=terminal", "return 0 at the time limit")
    if setting == "terminal" or not always_0:
        return ok("time_limit")
    if setting is not None:
        return broken("time_limit", f"{words} 0, but time_limit={setting}", "return 1 at the time limit")
    return warning(
        "time_limit", f"{words} 0", "correct if the task ends there; return 1 if the limit only cuts the episode"
    )


def _win_rate(env: Env, seen: Record) -> Finding:
    won = seen.won & seen.plays[1:]
    if env.has_win_rate or not won.any():
        return ok("win_rate")
    return broken("win_rate", f"won is true {_places(won, 1)}", "declare has_win_rate=True, or return won=False")


def _max_return(env: Env, seen: Record) -> Finding:
    rewards = np.where(seen.plays[1:] & np.isfinite(seen.reward), seen.reward, 0.0)
    largest = float(np.abs(rewards.sum(axis=0)).max())
    if env.max_return is None or largest <= env.max_return * (1 + 1e-4):
        return ok("max_return")
    words = f"the absolute return of an episode is {largest:g}, above max_return={env.max_return:g}"
    return broken("max_return", words, "declare the largest possible return, or None")


def _no_reset(env: Env, seen: Record) -> Finding:
    if not seen.restarts:
        return ok("no_reset")
    words = "with last set, step returns the start of another episode"
    return broken("no_reset", words, "return the final env_state and TimeStep; the caller resets")


def _scale(env: Env, seen: Record) -> Finding:
    largest = {name: float((values * seen.plays).max()) for name, values in seen.largest.items()}
    words = [f"|{name}| is up to {value:.3g}" for name, value in largest.items() if value > LARGE]
    if not words:
        return ok("scale")
    return warning("scale", few(words), "divide it by its largest value: networks read it unscaled")


CHECKS: tuple[Callable[[Env, Record], Finding], ...] = (
    _available,
    _finite,
    _discount,
    _episode_limit,
    _win_rate,
    _max_return,
    _no_reset,
    _scale,
)


def _at_end(seen: Record, values: Shaped[np.ndarray, "T B"]) -> Any:
    """[B] values at the ends of episodes; the last row if an episode has not ended."""
    return values[seen.length - 1, np.arange(len(seen.length))]


def _places(where: Any, first: int = 0) -> str:
    """Where something happened; row 0 of ``where`` [T, B] is after transition ``first``."""
    time = int(where.any(axis=1).argmax()) + first
    moment = "reset" if time == 0 else f"transition {time}"
    return f"in {int(where.any(axis=0).sum())} of {where.shape[1]} episodes, first after {moment}"
