"""The policy of hosted environments: one call, to be compiled, acts for all of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from qmix_jax.acting.explore import Exploration, draw, masked_argmax
from qmix_jax.acting.preferences import Preferences, held, preferred
from qmix_jax.networks.agents import NO_ACTION, AnyAgent, act

Choose = Callable[..., Any]
"""Parameters, hidden states, observations and what else it needs to hidden states and actions."""


def exploring(agent: AnyAgent, explore: Exploration, preferences: Preferences) -> Choose:
    """The policy that collects: with exploration and preferences, whose level and chance it is given as ``levels``."""

    def choose(
        params: Any,
        hidden: Float[Array, "B N H"],
        obs: Float[Array, "B N O"],
        avail: Int[Array, "B N A"],
        last_action: Int[Array, "B N"],
        first: Bool[Array, " B"],
        preference: Float[Array, "B A"] | None,
        levels: tuple[Float[Array, ""], Float[Array, ""]],
        key: Key[Array, ""],
        time: Int[Array, ""],
    ) -> tuple[Float[Array, "B N H"], Int[Array, "B N"], Float[Array, "B A"] | None]:
        level, chance = levels
        hidden, q = _values(agent, params, hidden, obs, last_action, first)
        now_key = jax.random.fold_in(key, time)
        noise = jax.random.gumbel(now_key, q.shape, q.dtype)
        if preference is not None:
            drawn = preferences._replace(chance=chance).draw(now_key, 1, *preference.shape)
            preference = held(preference, jax.tree.map(lambda x: x[0], drawn), first)
        return hidden, draw(noise, explore(preferred(q, preference), avail.astype(bool), level)), preference

    return choose


def greedy(agent: AnyAgent) -> Choose:
    """The policy that is evaluated."""

    def choose(
        params: Any,
        hidden: Float[Array, "B N H"],
        obs: Float[Array, "B N O"],
        avail: Int[Array, "B N A"],
        last_action: Int[Array, "B N"],
        first: Bool[Array, " B"],
    ) -> tuple[Float[Array, "B N H"], Int[Array, "B N"]]:
        hidden, q = _values(agent, params, hidden, obs, last_action, first)
        return hidden, masked_argmax(q, avail.astype(bool)).astype(jnp.int32)

    return choose


def _values(
    agent: AnyAgent,
    params: Any,
    hidden: Float[Array, "B N H"],
    obs: Float[Array, "B N O"],
    last_action: Int[Array, "B N"],
    first: Bool[Array, " B"],
) -> tuple[Float[Array, "B N H"], Float[Array, "B N A"]]:
    """One step of the networks, which have forgotten everything where an episode begins."""

    def where_first(fresh: Array, old: Array) -> Array:
        return jnp.where(first.reshape(-1, *(1,) * (old.ndim - 1)), fresh, old)

    hidden = jax.tree.map(where_first, agent.initial_hidden(first.shape[0]), hidden)
    last_action = where_first(jnp.full_like(last_action, NO_ACTION), last_action)
    return act(agent, params, hidden, obs, last_action)
