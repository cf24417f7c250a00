"""Who plays the other side: random actions, a function, or a saved policy."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from qmix_jax.errors import ConfigError

POLICIES = "qmix_jax.results.acting_team"
"""Reads saved policies. It is named, and not imported, since it lives on a floor above this one."""

Act = Callable[
    [Key[Array, ""], Any, Float[Array, "N O"], Bool[Array, "N A"]],
    tuple[Any, Int[Array, " N"]],
]


class Players(NamedTuple):
    """One side's players.

    ``start()`` is their memory at the start of an episode; ``act(key, memory, obs[N, O], avail_actions[N, A])`` returns
    the memory and the joint action ``[N]``. Smaller observations are padded with zeros, as when the side is trained.
    """

    start: Callable[[], Any]
    act: Act


def make_players(words: str, sizes: tuple[int, int, int]) -> Players:
    """The players that ``env.opponents=words`` names: ``random``, ``module:function`` or the folder of a run.

    A function is called with ``key``, ``obs`` and ``avail_actions``, and returns actions. ``sizes`` are the side's
    agents, observation features and actions.

    Raises :class:`ConfigError` for what cannot be imported or read, and for policies of other sizes.
    """
    if words == "random":
        return Players(tuple, _random)
    if ":" in words and not Path(words).exists():
        return Players(tuple, _scripted(words, sizes))
    if not Path(words).is_dir():
        raise ConfigError(
            f"env.opponents={words}: no such folder; choose random, module:function, or the folder of a run"
        )
    start, act = importlib.import_module(POLICIES).load_players(words, sizes)
    return Players(start, act)


def _random(
    key: Key[Array, ""], memory: Any, obs: Float[Array, "N O"], avail_actions: Bool[Array, "N A"]
) -> tuple[Any, Int[Array, " N"]]:
    del obs
    return memory, jax.random.categorical(key, jnp.where(avail_actions, 0.0, -jnp.inf)).astype(jnp.int32)


def _scripted(words: str, sizes: tuple[int, int, int]) -> Act:
    module, _, name = words.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"env.opponents={words}: cannot be imported: {error}") from error

    def act(
        key: Key[Array, ""], memory: Any, obs: Float[Array, "N O"], avail_actions: Bool[Array, "N A"]
    ) -> tuple[Any, Int[Array, " N"]]:
        return memory, jnp.asarray(function(key, obs, avail_actions)).astype(jnp.int32)

    count, obs_size, num_actions = sizes
    like = [jax.ShapeDtypeStruct((count, obs_size), jnp.float32), jax.ShapeDtypeStruct((count, num_actions), bool)]
    try:
        action = jax.eval_shape(act, jax.random.key(0), (), *like)[1]
    except Exception as error:
        message = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"env.opponents={words}: cannot be called with key, obs [{count}, {obs_size}] and avail_actions "
            f"[{count}, {num_actions}] under jax.jit: {type(error).__name__}: {message}"
        ) from error
    if action.shape != (count,):
        raise ConfigError(f"env.opponents={words}: returns {list(action.shape)}; return one action for each of {count}")
    return act
