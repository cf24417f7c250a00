"""The cheap part of the contract, checked whenever a user's environment is made, before anything is compiled for
training. What can be put right without a guess is put right, and said once.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from qmix_jax.envs.adapter import TEAM_REWARDS
from qmix_jax.envs.base import Env
from qmix_jax.envs.contract import types
from qmix_jax.envs.contract.findings import Finding, broken, failure, few, ok, warning
from qmix_jax.envs.settings import check_choice, say
from qmix_jax.errors import ConfigError
from qmix_jax.types import EnvState, Outcome, TimeStep

STARTS = 8
"""Episodes to start; one step of each is played."""
QUICKLY: dict[str, Any] = {"xla_backend_optimization_level": 0}
IN_NUMPY = (
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
PYTHON_DOORS = "an environment that stays in NumPy or Python goes to env=pettingzoo, env=gymnasium or env=pymarl"


class BrokenPromiseError(ConfigError):
    """A promise that an environment breaks; ``finding`` is what ``check_env`` reports."""

    def __init__(self, told: str, finding: Finding) -> None:
        super().__init__(f"{told}: {finding.words}")
        self.finding = finding


def refused(told: str, what: str, error: Exception, otherwise: str | None = None) -> BrokenPromiseError:
    """An exception of a user's environment in one line; ``otherwise`` is the advice where JAX's errors have none."""
    finding = failure("jit", what, error, otherwise)
    if isinstance(error, IN_NUMPY):
        finding = finding._replace(words=f"{finding.words}; {PYTHON_DOORS}")
    return BrokenPromiseError(told, finding)


class Note(NamedTuple):
    """What was put right: the check that it concerns, and words."""

    check: str
    words: str


BY_ITSELF = "training does this by itself"


@functools.lru_cache(maxsize=64)
def fit_env(env: Env, told: str, reward: str | None = None) -> Env:
    """The environment, ready to be trained in.

    Numbers of another type than training uses are cast, a state that is missing is made of the observations, and a
    reward for every agent becomes the team's where ``reward`` says how. The same object if there is nothing to do.

    Prints a note of what was changed. Raises :class:`BrokenPromiseError`, beginning with ``told``, for what remains.
    """
    if env.hosted is not None:
        return env
    _check(told, types.declared(_sized(env)))
    traced = types.trace(env)
    if isinstance(traced, Finding):
        raise _as_refusal(told, traced)
    _check(told, reward_type(env, traced, reward))
    env, repairs, notes = _repairs(env, traced, reward, told)
    mended = {name for name, _ in repairs}
    for name in types.SHAPES:
        if name not in mended:
            _check(told, types.part_type(env, name, traced))
    _check(told, types.env_state_type(traced))
    env = _repaired(env, repairs)
    _play_a_step(env, told)
    for words in _in_few_lines(notes):
        say(f"note: {told}: {words}")
    return env


def mend(env: Env) -> tuple[Env, list[Finding]]:
    """The environment as :func:`fit_env` repairs it, and a warning for each repair.

    What it does not repair is left for the other checks, apart from a reward for each agent, for which it has words.
    """
    if env.hosted is not None or types.declared(_sized(env)).result == "broken":
        return env, []
    traced = types.trace(env)
    if isinstance(traced, Finding):
        return env, []
    env, repairs, notes = _repairs(env, traced, None, "")
    found = [warning(check, words, BY_ITSELF) for check, words in notes]
    reward = reward_type(env, traced, None)
    return _repaired(env, repairs), found + [reward] * (reward.result == "broken")


def team_paid(env: Env, told: str, reward: str) -> Env:
    """The environment with the agents' rewards combined, and nothing else repaired.

    Raises :class:`ConfigError` where the reward is the team's already.
    """
    traced = types.trace(env)
    return env if isinstance(traced, Finding) else _repaired(*_reward(env, traced, reward, told))


Repair = tuple[str, Callable[[dict[str, Any]], Any]]
"""A part's name, and its right value from all parts by name."""


def _sized(env: Env) -> Env:
    """With a size for a state that may be missing."""
    missing = env.state_size in (0, None) and not isinstance(env.state_size, bool)
    return env._replace(state_size=1) if missing else env


def _repairs(env: Env, traced: types.Traced, reward: str | None, told: str) -> tuple[Env, list[Repair], list[Note]]:
    notes: list[Note] = []
    env, repairs = _state(env, traced, notes)
    env, of_reward = _reward(env, traced, reward, told)
    repairs += of_reward
    repairs += _casts(env, traced, notes)
    return env, repairs, notes


def _repaired(env: Env, repairs: list[Repair]) -> Env:
    if not repairs:
        return env
    return env._replace(reset=_mended_reset(env, repairs), step=_mended_step(env, repairs))


def _in_few_lines(notes: list[Note]) -> list[str]:
    """All casts in one line."""
    casts = [note.words for note in notes if note.check.removesuffix("_type") in types.SHAPES and CAST in note.words]
    others = [note.words for note in notes if note.words not in casts]
    bytes_too = "; bytes of images are not divided by 255" if any("obs is uint8" in words for words in casts) else ""
    return others + ([", ".join(casts) + bytes_too] if casts else [])


def _state(env: Env, traced: types.Traced, notes: list[Note]) -> tuple[Env, list[Repair]]:
    """A state made of the observations where there is none; its size where it is not declared."""
    like = jax.tree.leaves(traced.reset["state"])
    if like and like[0].size:
        if not env.state_size and len(like) == 1 and len(like[0].shape) == 1:
            size = like[0].size
            notes.append(Note("declared", f"state_size={env.state_size}: the state has {size} numbers, which is used"))
            env = env._replace(state_size=size)
        return env, []
    notes.append(Note("state_type", "it has no state: the observations of all agents in a row are used"))
    env = env._replace(state_size=env.num_agents * env.obs_size, state_from_obs=True)
    return env, [("state", lambda parts: parts["obs"].reshape(-1).astype(jnp.float32))]


def _pays_each(env: Env, traced: types.Traced) -> bool:
    like = jax.tree.leaves(traced.step["reward"])
    own = len(like) == 1 and like[0].shape == (env.num_agents,) and env.num_agents > 1
    return own and not env.individual_reward


def reward_type(env: Env, traced: types.Traced, reward: str | None) -> Finding:
    """A reward for each agent is refused, unless ``reward`` says how to combine them."""
    if reward is not None or not _pays_each(env, traced):
        return ok("reward_type")
    dtype = jax.tree.leaves(traced.step["reward"])[0].dtype
    words = f"step returns a reward for each agent, {dtype}[{env.num_agents}], and the team needs one"
    advice = f"return their sum, or say how to combine them: +env.reward={'|'.join(TEAM_REWARDS)}"
    return broken("reward_type", words, advice)


def _reward(env: Env, traced: types.Traced, reward: str | None, told: str) -> tuple[Env, list[Repair]]:
    if reward is None:
        return env, []
    check_choice("env.reward", reward, TEAM_REWARDS)
    if not _pays_each(env, traced):
        raise ConfigError(f"env.reward={reward}: unknown; {told} returns one team reward already, so leave it out")
    combine = TEAM_REWARDS[reward]
    env = env._replace(individual_reward=reward == "individual")
    return env, [("reward", lambda parts: combine(parts["reward"].astype(jnp.float32)))]


CAST = " and cast to "


def _casts(env: Env, traced: types.Traced, notes: list[Note]) -> list[Repair]:
    """Parts of the right shape whose numbers are of another type."""
    found = []
    for name in types.SHAPES:
        dtype = np.dtype(bool if name in types.BOOLS else np.float32)
        returned = {leaf.dtype for parts in traced if name in parts for leaf in jax.tree.leaves(parts[name])}
        numbers = all(jnp.issubdtype(one, jnp.number) or jnp.issubdtype(one, jnp.bool_) for one in returned)
        if returned <= {dtype} or not numbers or not types.has_shape(env, name, traced):
            continue
        found.append((name, functools.partial(_cast, name, dtype)))
        words = f"{name} is {' and '.join(sorted(map(str, returned)))}{CAST}{dtype}"
        notes.append(Note(f"{name}_type", words))
    return found


def _cast(name: str, dtype: Any, parts: dict[str, Any]) -> Array:
    return parts[name].astype(dtype)


def _mended_reset(env: Env, repairs: list[Repair]) -> Callable[[Key[Array, ""]], tuple[EnvState, TimeStep]]:
    def reset(key: Key[Array, ""]) -> tuple[EnvState, TimeStep]:
        env_state, step = env.reset(key)
        return env_state, _mended(step, repairs)[0]

    return reset


def _mended_step(env: Env, repairs: list[Repair]) -> Callable[..., tuple[EnvState, TimeStep, Outcome]]:
    def step(key: Key[Array, ""], env_state: EnvState, action: Int[Array, " N"]) -> tuple[EnvState, TimeStep, Outcome]:
        env_state, seen, outcome = env.step(key, env_state, action)
        return env_state, *_mended(seen, repairs, outcome)

    return step


def _mended(step: TimeStep, repairs: list[Repair], outcome: Outcome | None = None) -> Any:
    parts = types.parts(None, step, outcome)
    new = {name: repair(parts) for name, repair in repairs if name in parts}
    step = step._replace(**{name: value for name, value in new.items() if name in TimeStep._fields})
    if outcome is not None:
        outcome = outcome._replace(**{name: value for name, value in new.items() if name in Outcome._fields})
    return step, outcome


def _play_a_step(env: Env, told: str) -> None:
    """Start some episodes and take their first step: every agent has an action, and all numbers are finite."""
    try:
        after_reset, after_step, reward = jax.device_get(_first_steps(env)(jax.random.split(jax.random.key(0), STARTS)))
    except Exception as error:  # Whatever a user's environment raises.
        raise refused(told, "the first step of a batch of episodes", error) from error
    for moment, (obs, avail, state) in (("reset", after_reset), ("the first step", after_step)):
        if not obs.all():
            _stop(told, "finite", f"the observation of agent {_agents(obs)} is not finite after {moment}")
        if not state.all():
            _stop(told, "finite", f"the state is not finite after {moment}")
        if not avail.all():
            words = f"no action is available to agent {_agents(avail)} after {moment}"
            raise BrokenPromiseError(told, broken("available", words, "give agents that cannot act a no-op action"))
    if not reward.all():
        _stop(told, "finite", "the reward of the first step is not finite")


def _first_steps(env: Env) -> Callable[..., Any]:
    def see(step: TimeStep) -> tuple[Array, Array, Array]:
        return jnp.isfinite(step.obs).all(axis=-1), step.avail_actions.any(axis=-1), jnp.isfinite(step.state).all()

    def play(key: Key[Array, ""]) -> tuple[Any, Any, Array]:
        env_state, before = env.reset(key)
        action = before.avail_actions.argmax(axis=-1).astype(jnp.int32)
        _, after, outcome = env.step(jax.random.fold_in(key, 1), env_state, action)
        return see(before), see(after), jnp.isfinite(outcome.reward).all()

    return jax.jit(jax.vmap(play), compiler_options=QUICKLY)


def _agents(good: Float[np.ndarray, "B N"]) -> str:
    return few([str(agent) for agent in np.flatnonzero(~good.all(axis=0))])


def _stop(told: str, check: str, words: str) -> None:
    raise BrokenPromiseError(
        told, broken(check, words, "look for divisions by zero, logarithms of zero and large exponents")
    )


def _check(told: str, finding: Finding) -> None:
    if finding.result == "broken":
        raise BrokenPromiseError(told, finding)


def _as_refusal(told: str, finding: Finding) -> BrokenPromiseError:
    in_numpy = any(words in finding.words for words in ("use jax.numpy", "index a jnp array"))
    return BrokenPromiseError(told, finding._replace(words=f"{finding.words}; {PYTHON_DOORS}") if in_numpy else finding)
