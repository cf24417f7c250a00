"""What Gymnasium's spaces say, and observations as vectors. Gymnasium is imported only where it is needed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qmix_jax.envs.hosted.team import EnvError
from qmix_jax.envs.images import image_shape_of

LIMIT_ATTRIBUTES = ("max_steps", "max_cycles", "max_episode_steps", "_max_episode_steps", "episode_limit")


def own_limit(env: Any) -> int | None:
    """The episode limit that an environment tells in an attribute or in its Gymnasium spec."""
    spec = getattr(env, "spec", None)
    told = [getattr(spec, "max_episode_steps", None)]
    for holder in (env, getattr(env, "unwrapped", None), getattr(getattr(env, "unwrapped", None), "env", None)):
        told += [getattr(holder, name, None) for name in LIMIT_ATTRIBUTES] if holder is not None else []
    return next((int(value) for value in told if isinstance(value, int | np.integer) and value > 0), None)


def flat_size(space: Any, agent: str) -> int:
    """Numbers in a flattened observation of a Gymnasium space; raises :class:`EnvError` if their count varies."""
    from gymnasium import spaces

    if _is_box(space):
        return math.prod(space.shape)
    if not isinstance(space, spaces.Space):
        kind = type(space)
        raise EnvError(f"the observations of {agent} are a {kind.__module__}.{kind.__name__}; use gymnasium.spaces")
    try:
        return int(spaces.flatdim(space))
    except (ValueError, NotImplementedError, TypeError) as error:
        raise EnvError(
            f"the observations of {agent} are a {type(space).__name__}, which has no fixed size; wrap the environment "
            "so that they are Box, Discrete, or a Tuple or Dict of these"
        ) from error


def without_mask(space: Any) -> Any:
    """The space of what an agent observes, apart from its action mask."""
    parts = getattr(space, "spaces", None)
    if not isinstance(parts, Mapping) or "action_mask" not in parts:
        return space
    from gymnasium import spaces

    rest = _rest(parts)
    return rest["observation"] if set(rest) == {"observation"} else spaces.Dict(rest)


def obs_and_mask(value: Any) -> tuple[Any, Any]:
    """What an agent observes, and its action mask; None for a mask where there is none in it."""
    if not isinstance(value, Mapping) or "action_mask" not in value:
        return value, None
    rest = _rest(value)
    return rest["observation"] if set(rest) == {"observation"} else rest, value["action_mask"]


def _rest(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "action_mask"}


def flatten(space: Any, value: Any, agent: str) -> np.ndarray:
    """An observation of ``agent`` as a vector: bytes as 0 to 1, whole numbers as they are, choices one-hot.

    Raises :class:`EnvError` for one that is not of its space.
    """
    try:
        return _flat(space, value)
    except (LookupError, TypeError, ValueError, AssertionError) as error:
        told = f"{type(error).__name__} {' '.join(str(error).split())}"
        raise EnvError(
            f"the observation of {agent} is not of its space {space!r:.80}: {value!r:.60} ({told})"
        ) from error


def _flat(space: Any, value: Any) -> np.ndarray:
    if _is_box(space):
        array = np.asarray(value).ravel()
        return array / np.float32(255) if is_bytes(space) else array
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        return np.concatenate([_flat(part, value[name]) for name, part in space.spaces.items()])
    if isinstance(space, spaces.Tuple):
        parts = [_flat(part, each) for part, each in zip(space.spaces, value, strict=True)]
        return np.concatenate(parts)
    return np.asarray(spaces.flatten(space, value))


def _is_box(space: Any) -> bool:
    return hasattr(space, "low") and getattr(space, "shape", None) is not None


def is_bytes(space: Any) -> bool:
    """Whether its values are bytes of 0 to 255; ``uint8`` with another bound are small numbers."""
    return _is_box(space) and space.dtype == np.uint8 and bool(np.all(space.high == 255))


def pictures(spaces: Sequence[Any]) -> dict[str, Any]:
    """What a :class:`Spec` says of observations that are images or bytes."""
    if not all(_is_box(space) for space in spaces):
        return {}
    return {"image_shape": image_shape_of([box.shape for box in spaces]), "bytes": all(map(is_bytes, spaces))}


def num_actions(space: Any, agent: str) -> int:
    """The size of a Discrete action space; raises :class:`EnvError` for any other."""
    count = getattr(space, "n", None)
    if count is None or getattr(space, "shape", ()) != () or getattr(space, "start", 0) != 0:
        raise EnvError(
            f"the action space of {agent} is {space}; only Discrete spaces that start at 0 can be used: choose the "
            "environment's discrete actions, or wrap it"
        )
    return int(count)
