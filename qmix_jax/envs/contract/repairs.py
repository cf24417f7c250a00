"""What is put right without a guess in an environment that is not quite as training needs it, and said."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from qmix_jax.envs.adapter import TEAM_REWARDS
from qmix_jax.envs.base import Env
from qmix_jax.envs.contract import types
from qmix_jax.envs.contract.findings import Finding, broken, ok
from qmix_jax.envs.settings import check_choice, say
from qmix_jax.errors import ConfigError
from qmix_jax.types import EnvState, Outcome, TimeStep


class Note(NamedTuple):
    """What was put right: the check that it concerns, and words."""

    check: str
    words: str


Repair = tuple[str, Callable[[dict[str, Any]], Any]]
"""A part's name, and its right value from all parts by name."""


def repairs_of(env: Env, traced: types.Traced, reward: str | None, told: str) -> tuple[Env, list[Repair], list[Note]]:
    """The environment with the right sizes, what its parts need, and a note of each."""
    notes: list[Note] = []
    env, repairs = _state(env, traced, notes)
    env, of_reward = pay_team(env, traced, reward, told, notes)
    repairs += of_reward
    repairs += _casts(env, traced, notes)
    return env, repairs, notes


def repaired(env: Env, repairs: list[Repair]) -> Env:
    """The environment whose functions return the right values; the same object without repairs."""
    if not repairs:
        return env
    return env._replace(reset=_mended_reset(env, repairs), step=_mended_step(env, repairs))


def say_notes(notes: list[Note], told: str) -> None:
    """Print what was put right, all casts in one line."""
    for words in _in_few_lines(notes):
        say(f"note: {told}: {words}")


def _in_few_lines(notes: list[Note]) -> list[str]:
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
    return env, [("state", lambda parts: jnp.asarray(parts["obs"], jnp.float32).reshape(-1))]


def _pays_each(env: Env, traced: types.Traced) -> bool:
    like = jax.tree.leaves(traced.step["reward"])
    own = len(like) == 1 and like[0].shape == (env.num_agents,)
    return own and not env.individual_reward


def reward_type(env: Env, traced: types.Traced, reward: str | None) -> Finding:
    """A reward for each of several agents is refused, unless ``reward`` says how to combine them."""
    if reward is not None or env.num_agents == 1 or not _pays_each(env, traced):
        return ok("reward_type")
    dtype = jax.tree.leaves(traced.step["reward"])[0].dtype
    words = f"step returns a reward for each agent, {dtype}[{env.num_agents}], and the team needs one"
    advice = f"return their sum, or say how to combine them: +env.reward={'|'.join(TEAM_REWARDS)}"
    return broken("reward_type", words, advice)


def pay_team(
    env: Env, traced: types.Traced, reward: str | None, told: str, notes: list[Note]
) -> tuple[Env, list[Repair]]:
    """The team's reward from the agents', as ``reward`` says.

    Raises :class:`ConfigError` where the reward is the team's already.
    """
    if reward is None and env.num_agents == 1 and _pays_each(env, traced):
        notes.append(Note("reward_type", "the reward of its one agent, in an array [1], is the team's"))
        reward = "sum"
    if reward is None:
        return env, []
    check_choice("env.reward", reward, TEAM_REWARDS)
    if not _pays_each(env, traced) and not types.has_shape(env, "reward", traced):
        return env, []  # It is neither, and refused as such.
    if not _pays_each(env, traced):
        raise ConfigError(f"env.reward={reward}: unknown; {told} returns one team reward already, so leave it out")
    combine = TEAM_REWARDS[reward]
    env = env._replace(individual_reward=reward == "individual")
    return env, [("reward", lambda parts: combine(jnp.asarray(parts["reward"], jnp.float32)))]


CAST = " and cast to "


def _casts(env: Env, traced: types.Traced, notes: list[Note]) -> list[Repair]:
    """Parts of the right shape whose numbers are of another type."""
    found = []
    for name in types.SHAPES:
        dtype = np.dtype(bool if name in types.BOOLS else np.float32)
        returned = {leaf.dtype for parts in traced if name in parts for leaf in jax.tree.leaves(parts[name])}
        if returned <= {dtype} or not all(map(is_real, returned)) or not types.has_shape(env, name, traced):
            continue
        found.append((name, functools.partial(_cast, name, dtype)))
        notes.append(cast_note(name, returned, dtype))
    return found


def is_real(dtype: Any) -> bool:
    """Whether it is a type of real numbers, or of booleans."""
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.integer, jnp.floating, jnp.bool_))


def cast_note(name: str, returned: Iterable[Any], dtype: Any) -> Note:
    """That a part returned in other types is cast to ``dtype``."""
    return Note(f"{name}_type", f"{name} is {' and '.join(sorted(map(str, returned)))}{CAST}{np.dtype(dtype)}")


def _cast(name: str, dtype: Any, parts: dict[str, Any]) -> Array:
    return jnp.asarray(parts[name]).astype(dtype)  # It may be one of Python's numbers.


def _mended_reset(env: Env, repairs: list[Repair]) -> Callable[[Key[Array, ""]], tuple[EnvState, TimeStep]]:
    def reset(key: Key[Array, ""]) -> tuple[EnvState, TimeStep]:
        env_state, step = env.reset(key)
        return env_state, mended(step, repairs)[0]

    return reset


def _mended_step(env: Env, repairs: list[Repair]) -> Callable[..., tuple[EnvState, TimeStep, Outcome]]:
    def step(key: Key[Array, ""], env_state: EnvState, action: Int[Array, " N"]) -> tuple[EnvState, TimeStep, Outcome]:
        env_state, seen, outcome = env.step(key, env_state, action)
        return env_state, *mended(seen, repairs, outcome)

    return step


def mended(step: TimeStep, repairs: list[Repair], outcome: Outcome | None = None) -> Any:
    """What ``reset`` or ``step`` returned, with the right values."""
    parts = types.parts(None, step, outcome)
    new = {name: repair(parts) for name, repair in repairs if name in parts}
    step = step._replace(**{name: value for name, value in new.items() if name in TimeStep._fields})
    if outcome is not None:
        outcome = outcome._replace(**{name: value for name, value in new.items() if name in Outcome._fields})
    return step, outcome
