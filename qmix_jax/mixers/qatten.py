"""The attention mixer of Qatten."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qmix_jax.errors import require
from qmix_jax.mixers.base import MixerInput
from qmix_jax.mixers.hypernetworks import StateMixer


class QattenMixer(StateMixer):
    """Qatten (Yang et al. 2020, equations 7 to 11): the agents' values, weighted by attention in several heads.

    ``q_tot = sum_h w_h(s) sum_i lambda_hi(s) q_i + v(s)``, where ``lambda_h`` is the softmax over agents of
    ``query_h(s) . key_h(u_i) / sqrt(embed_size)`` and ``w_h >= 0``. It is monotone, since no weight reads a value; the
    variant of the published code whose keys read ``q_i`` is not, and is left out.

    ``u_i`` are the agent's own features: the state begins with ``unit_size`` features of the first agent, then those of
    the second, and so on. Queries and head weights are hypernetworks, keys are linear.

    Attributes:
        heads: number of heads.
        weighted_head: have ``w``; otherwise heads are added up.
        unit_size: own features of an agent in the state; None cuts the state into one piece for each agent, and a
            state with fewer features than agents is read whole.
    """

    heads: int = 4
    weighted_head: bool = True
    unit_size: int | None = None

    def __post_init__(self) -> None:
        require(self.heads >= 1, "mixer.heads", self.heads, "at least 1")
        if self.unit_size is not None:
            most = self.state_size // self.num_agents
            words = f"between 1 and {most}: the state has {self.state_size} features for {self.num_agents} agents"
            require(1 <= self.unit_size <= most, "mixer.unit_size", self.unit_size, words)
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: MixerInput) -> Float[Array, ""]:
        """The joint value ``q_tot`` of the agents' chosen action values."""
        units = self.units(inputs.state)
        attention = jnp.stack([self.attention(inputs.state, units, head) for head in range(self.heads)])
        self.sow("intermediates", "lambda", attention)
        of_heads = attention @ inputs.chosen
        if self.weighted_head:
            of_heads = of_heads * self.weights(inputs.state, self.heads, "head")
        return of_heads.sum() + self.state_value(inputs.state)

    def attention(self, state: Float[Array, " G"], units: Float[Array, "N U"], head: int) -> Float[Array, " N"]:
        """``lambda`` of one head: how much each agent counts, 1 in total."""
        query = self.query(state, f"query_{head}")
        keys = self.dense(units, self.embed_size, f"key_{head}")
        return jax.nn.softmax(keys @ query / self.embed_size**0.5)

    def query(self, state: Float[Array, " G"], name: str) -> Float[Array, " E"]:
        """The query of one head, of either sign."""
        if self.hypernet_layers == 2:
            state = nn.relu(self.dense(state, self.hypernet_size, f"{name}_hidden"))
        return self.dense(state, self.embed_size, name)

    def units(self, state: Float[Array, " G"]) -> Float[Array, "N U"]:
        """The agents' own features."""
        size = self.unit_size or self.state_size // self.num_agents
        if size == 0:
            return jnp.broadcast_to(state[None], (self.num_agents, self.state_size))
        return state[: size * self.num_agents].reshape(self.num_agents, size)
