"""The cheap part of the contract, checked whenever a user's environment is made, before anything is compiled for
training. What can be put right without a guess is put right, and said once.
"""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key

from qmix_jax.envs.base import Env
from qmix_jax.envs.contract import types
from qmix_jax.envs.contract.findings import DISCOUNT_ADVICE, Finding, broken, few, warning
from qmix_jax.envs.contract.refusal import BrokenPromiseError, as_refusal, users_code
from qmix_jax.envs.contract.repairs import Repair, mended, pay_team, repaired, repairs_of, reward_type, say_notes
from qmix_jax.types import Outcome, TimeStep

STARTS = 8
"""Episodes to start; one step of each is played."""
QUICKLY: dict[str, Any] = {"xla_backend_optimization_level": 0}
BY_ITSELF = "training does this by itself"


def fit_env(env: Env, told: str, reward: str | None = None) -> Env:
    """The environment, ready to be trained in.

    Numbers of another type than training uses are cast, a state that is missing is made of the observations, and a
    reward for every agent becomes the team's where ``reward`` says how. The same object if there is nothing to do.

    Prints a note of what was changed. Raises :class:`BrokenPromiseError`, beginning with ``told``, for what remains.
    """
    if env.hosted is not None:
        return env
    _check(told, types.declared(_sized(env)))
    return _fit(env, told, reward)


@functools.lru_cache(maxsize=64)
def _fit(env: Env, told: str, reward: str | None) -> Env:
    traced = types.trace(env)
    if isinstance(traced, Finding):
        raise as_refusal(told, traced)
    _check(told, reward_type(env, traced, reward))
    env, repairs, notes = repairs_of(env, traced, reward, told)
    changed = {name for name, _ in repairs}
    for name in types.SHAPES:
        if name not in changed:
            _check(told, types.part_type(env, name, traced))
    _check(told, types.env_state_type(traced))
    _play_a_step(env, repairs, told)
    say_notes(notes, told)
    return repaired(env, repairs)


def mend(env: Env) -> tuple[Env, list[Finding]]:
    """The environment as :func:`fit_env` repairs it, and a warning for each repair.

    What it does not repair is left for the other checks, apart from a reward for each agent, for which it has words.
    """
    if env.hosted is not None or types.declared(_sized(env)).result == "broken":
        return env, []
    traced = types.trace(env)
    if isinstance(traced, Finding):
        return env, []
    env, repairs, notes = repairs_of(env, traced, None, "")
    found = [warning(check, words, BY_ITSELF) for check, words in notes]
    reward = reward_type(env, traced, None)
    return repaired(env, repairs), found + [reward] * (reward.result == "broken")


def team_paid(env: Env, told: str, reward: str) -> Env:
    """The environment with the agents' rewards combined, and nothing else repaired.

    Raises :class:`ConfigError` where the reward is the team's already.
    """
    traced = types.trace(env)
    return env if isinstance(traced, Finding) else repaired(*pay_team(env, traced, reward, told, []))


def _sized(env: Env) -> Env:
    """With a size for a state that may be missing."""
    size = env.state_size
    missing = size is None or (isinstance(size, int | np.integer) and not isinstance(size, bool) and size == 0)
    return env._replace(state_size=1) if missing else env


def _play_a_step(env: Env, repairs: list[Repair], told: str) -> None:
    """Start some episodes and take their first step: every agent has an action, and all numbers are finite."""
    with users_code(told, "the first step of a batch of episodes"), _silent_callbacks():
        keys = jax.random.split(jax.random.key(0), STARTS)
        after_reset, after_step, discount = jax.device_get(_first_steps(env, repairs)(keys))
    for moment, (finite, avail) in (("reset", after_reset), ("the first step", after_step)):
        for name, good in finite.items():
            if not good.all():
                whose = f" of agent {_agents(good)}" if name in OF_AGENTS else ""
                words = f"the {OF_AGENTS.get(name, name)}{whose} is not finite after {moment}"
                advice = "look for divisions by zero, logarithms of zero and large exponents"
                raise BrokenPromiseError(told, broken("finite", words, advice))
        if not avail.all():
            words = f"no action is available to agent {_agents(avail)} after {moment}"
            raise BrokenPromiseError(told, broken("available", words, "give agents that cannot act a no-op action"))
    outside = discount[(discount < 0) | (discount > 1)]
    if outside.size:
        words = f"the discount is {outside[0]:g} after the first step"
        raise BrokenPromiseError(told, broken("discount", words, DISCOUNT_ADVICE))


OF_AGENTS = {"obs": "observation", "avail_actions": "availability"}
"""Parts with a row for each agent, in words."""


def _first_steps(env: Env, repairs: list[Repair]) -> Callable[..., Any]:
    """What is finite before the repairs, which may hide it, and which agents have an action after them."""

    def see(step: TimeStep, outcome: Outcome | None = None) -> tuple[dict[str, Array], Array]:
        returned = types.parts((), step, outcome).items()
        finite = {name: jnp.isfinite(leaf) for name, part in returned for leaf in jax.tree.leaves(part)}
        rows = {name: good.all(axis=-1) if name in OF_AGENTS else good.all() for name, good in finite.items()}
        return rows, mended(step, repairs)[0].avail_actions.any(axis=-1)

    def play(key: Key[Array, ""]) -> tuple[Any, Any, Array]:
        env_state, before = env.reset(key)
        action = mended(before, repairs)[0].avail_actions.argmax(axis=-1).astype(jnp.int32)
        _, after, outcome = env.step(jax.random.fold_in(key, 1), env_state, action)
        return see(before), see(after, outcome), jnp.asarray(mended(after, repairs, outcome)[1].discount)

    return jax.jit(jax.vmap(play), compiler_options=QUICKLY)


@contextlib.contextmanager
def _silent_callbacks() -> Iterator[None]:
    """JAX logs the trace of an exception in a callback, which is told in one line here."""
    logger = logging.getLogger("jax._src.callback")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _agents(good: Bool[np.ndarray, "B N"]) -> str:
    return few([str(agent) for agent in np.flatnonzero(~good.all(axis=0))])


def _check(told: str, finding: Finding) -> None:
    if finding.result == "broken":
        raise BrokenPromiseError(told, finding)
