"""Checks without playing: what an environment declares, and the types that it returns, found by tracing."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qmix_jax.envs.base import Env
from qmix_jax.envs.contract.findings import Finding, broken, failure, few, ok
from qmix_jax.errors import USERS_ERRORS
from qmix_jax.types import Outcome, TimeStep

SIZES = ("num_agents", "num_actions", "obs_size", "state_size", "episode_limit")
SHAPES: dict[str, tuple[str, ...]] = {
    "obs": ("num_agents", "obs_size"),
    "avail_actions": ("num_agents", "num_actions"),
    "state": ("state_size",),
    **dict.fromkeys(Outcome._fields, ()),
}
"""The expected shapes, in terms of the sizes that the environment declares."""
BOOLS = ("avail_actions", "last", "won")


class Traced(NamedTuple):
    """Shapes and dtypes returned by ``reset``, the first and the second ``step``, by name."""

    reset: Mapping[str, Any]
    step: Mapping[str, Any]
    second: Mapping[str, Any]


def declared(env: Env) -> Finding:
    """Check the declared sizes and ``max_return``."""
    for name in SIZES:
        value = getattr(env, name)
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
            array = ", not an array; use int()" if hasattr(value, "dtype") else ""
            return broken("declared", f"{name}={value!r}", f"it must be a whole number of at least 1{array}")
    limit = env.max_return
    if limit is not None and not (isinstance(limit, int | float | np.number) and 0 < limit < math.inf):
        return broken("declared", f"max_return={limit!r}", "give the largest absolute return of an episode, or None")
    for name, value in env._asdict().items():
        if not _is_hashable(value):
            advice = "it must be hashable: a tuple instead of a list, a number of Python's instead of an array"
            return broken("declared", f"{name}={value!r}", advice)
    return ok("declared")


def trace(env: Env) -> Traced | Finding:
    """Trace the functions; return a finding if one cannot be traced or returns the wrong parts."""
    key, action = jax.random.key(0), jax.ShapeDtypeStruct((env.num_agents,), jnp.int32)
    what = "reset"
    try:
        started = jax.eval_shape(env.reset, key)
        if not _is_made_of(started, object, TimeStep):
            return broken("returns", f"reset returns {kind_of(started)}", "return (env_state, TimeStep(...))")
        what = "step"
        stepped = jax.eval_shape(env.step, key, started[0], action)
        if not _is_made_of(stepped, object, TimeStep, Outcome):
            advice = "return (env_state, TimeStep(...), Outcome(...))"
            return broken("returns", f"step returns {kind_of(stepped)}", advice)
        second = jax.eval_shape(env.step, key, stepped[0], action)
    except USERS_ERRORS as error:
        return failure("jit", what, error)
    return Traced(reset=parts(*started), step=parts(*stepped), second=parts(*second))


def trace_batch(env: Env, traced: Traced) -> Finding | None:
    """A finding if tracing the functions under ``vmap`` fails."""
    like = jax.eval_shape(lambda: (jax.random.key(0), jnp.zeros(env.num_agents, jnp.int32)))
    key, action, env_state = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype), (*like, traced.reset["env_state"])
    )
    what = "reset"
    try:
        jax.eval_shape(jax.vmap(env.reset), key)
        what = "step"
        jax.eval_shape(jax.vmap(env.step), key, env_state, action)
    except USERS_ERRORS as error:
        return failure("vmap", f"{what} under vmap", error)
    return None


def part_type(env: Env, name: str, traced: Traced) -> Finding:
    """Check that one part has the expected shape and dtype wherever it is returned."""
    shape, dtype = _shape(env, name), np.dtype(bool if name in BOOLS else np.float32)
    expected = _text(jax.ShapeDtypeStruct(shape, dtype))
    wrong: dict[str, list[str]] = {}
    for what, returned in zip(("reset", "step", "the next step"), traced, strict=True):
        found = _texts(returned[name]) if name in returned else [expected]
        same_as_before = what == "the next step" and found == _texts(traced.step[name])
        if found != [expected] and not same_as_before:
            wrong.setdefault(few(found), []).append(what)
    if not wrong:
        return ok(f"{name}_type")
    words = ", ".join(f"{' and '.join(who)} return{'s' * (len(who) == 1)} {text}" for text, who in wrong.items())
    sizes = few([f"{size}={getattr(env, size)}" for size in SHAPES[name]])
    advice = "correct the size that the Env declares, or what is returned" if sizes else "return one number"
    if has_shape(env, name, traced):
        advice = f"convert it with .astype({'bool' if name in BOOLS else 'jnp.float32'})"
    return broken(f"{name}_type", f"{name}: {words}, expected {expected}{f' ({sizes})' * bool(sizes)}", advice)


def env_state_type(traced: Traced) -> Finding:
    """Check that a ``scan`` can carry the state."""
    first, second = (_leaves(returned["env_state"]) for returned in (traced.reset, traced.step))
    changed = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    if not changed and not keeps_changing(traced):
        return ok("env_state_type")
    words = [f"env_state{name} is {first.get(name, 'missing')} after reset and {second.get(name, 'missing')} after step"
             for name in changed]  # fmt: skip
    if keeps_changing(traced):
        words = [*words[:1], "it changes with every step"]
    return broken(
        "env_state_type", few(words), "always return the same fields, shapes and dtypes (jnp.int32(0), .astype)"
    )


def keeps_changing(traced: Traced) -> bool:
    """Whether the type of the state changes again in the second step, so that it cannot be played."""
    return _leaves(traced.step["env_state"]) != _leaves(traced.second["env_state"])


def has_shape(env: Env, name: str, traced: Traced) -> bool:
    """Whether one part has the expected shape, for any dtype."""
    found = [jax.tree.leaves(returned[name]) for returned in traced if name in returned]
    return all(len(leaves) == 1 and leaves[0].shape == _shape(env, name) for leaves in found)


def parts(env_state: Any, step: TimeStep, outcome: Outcome | None = None) -> dict[str, Any]:
    """The values that ``reset`` or ``step`` returned, by name."""
    return {"env_state": env_state, **step._asdict(), **(outcome._asdict() if outcome is not None else {})}


def _is_made_of(value: Any, *kinds: type) -> bool:
    return isinstance(value, tuple) and len(value) == len(kinds) and all(map(isinstance, value, kinds))


def _shape(env: Env, name: str) -> tuple[int, ...]:
    if name == "reward":
        return env.reward_shape
    return tuple(int(getattr(env, size)) for size in SHAPES[name])


def _leaves(tree: Any) -> dict[str, str]:
    return {jax.tree_util.keystr(path): _text(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _texts(tree: Any) -> list[str]:
    return [_text(leaf) for leaf in jax.tree.leaves(tree)] or [kind_of(tree)]


def _text(leaf: Any) -> str:
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def kind_of(value: Any) -> str:
    """What was returned, in words; tracing sees arrays as ``ShapeDtypeStruct``."""
    if value is None:
        return "None"
    if type(value) is tuple and value:
        return f"({', '.join(map(_type_name, value))})"
    name = _type_name(value)
    return f"{'an' if name == 'array' else 'a'} {name}"


def _type_name(value: Any) -> str:
    return "array" if isinstance(value, jax.ShapeDtypeStruct) else type(value).__name__


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
