"""What a mixer is given."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class MixerInput(NamedTuple):
    """All that a mixer may read about one joint action. XLA removes what it does not read."""

    q: Float[Array, "*batch N A"]
    """Each agent's values of all its actions."""
    chosen: Float[Array, "*batch N"]
    """The value of its action."""
    greedy: Float[Array, "*batch N"]
    """Its largest value among its available actions."""
    action: Int[Array, "*batch N"]
    """The joint action that is evaluated."""
    avail_actions: Bool[Array, "*batch N A"]
    state: Float[Array, "*batch G"]

    @property
    def num_actions(self) -> int:
        """Actions of each agent."""
        return self.q.shape[-1]


def example_input(num_agents: int, num_actions: int, state_size: int) -> MixerInput:
    """Zeros in the shapes of one sample, to initialise a mixer with."""
    return MixerInput(
        q=jnp.zeros((num_agents, num_actions)),
        chosen=jnp.zeros(num_agents),
        greedy=jnp.zeros(num_agents),
        action=jnp.zeros(num_agents, jnp.int32),
        avail_actions=jnp.ones((num_agents, num_actions), bool),
        state=jnp.zeros(state_size),
    )
