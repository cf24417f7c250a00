"""Agents that share no parameters."""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from qmix_jax.networks.agents import Agent


class SeparateAgents(NamedTuple):
    """Agents without parameter sharing: one network each, stacked on the first axis of the parameters."""

    one: Agent
    """The network of a single agent."""
    num_agents: int

    def init(self, key: Key[Array, ""], hidden: Array, obs: Array, last_action: Array) -> Any:
        """Independent parameters for every agent, ``[N, ...]`` each."""
        del hidden  # each network starts from its own
        keys = jax.random.split(key, self.num_agents)
        start = self.one.initial_hidden(*obs.shape[:-2])
        return jax.vmap(lambda key: self.one.init(key, start, obs[..., :1, :], last_action[..., :1]))(keys)

    def apply(self, params: Any, *args: Array, method: str | None = None) -> Any:
        """As :class:`Agent`, each agent with its own parameters."""
        if method is not None:
            obs, last_action, first, *start = args

            def unroll(params: Any, obs: Array, last_action: Array, *start: Array) -> Any:
                own = (x[..., None, :] for x in start)
                out = self.one.apply(params, obs[..., None, :], last_action[..., None], first, *own, method=method)
                return jax.tree.map(lambda x: x[..., 0, :], out)

            in_axes = (0, -2, -1, *(-2 for _ in start))
            return jax.vmap(unroll, in_axes=in_axes, out_axes=-2)(params, obs, last_action, *start)

        def step(params: Any, hidden: Array, obs: Array, last_action: Array) -> tuple[Array, Array]:
            out = self.one.apply(params, hidden[..., None, :], obs[..., None, :], last_action[..., None])
            hidden, q = cast(tuple[Array, Array], out)
            return hidden[..., 0, :], q[..., 0, :]

        return jax.vmap(step, in_axes=(0, -2, -2, -1), out_axes=-2)(params, *args)

    def initial_hidden(self, *batch: int) -> Float[Array, "*batch N C"]:
        """The hidden state at the start of an episode."""
        return jnp.zeros((*batch, self.num_agents, self.one.carry_size))
