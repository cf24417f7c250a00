"""The duplex dueling mixer of QPLEX."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qmix_jax.errors import require
from qmix_jax.mixers.base import MixerInput
from qmix_jax.networks.dense import Dense
from qmix_jax.networks.linear import uniform_fan_in

SMALLEST = 1e-10
"""Added to weights, so that they are positive."""


class QPLEXMixer(nn.Module):
    """QPLEX (Wang et al. 2021, equations 8 to 11): every joint value whose argmax is the agents' own, and no other.

    With ``qhat_i = w_i(s) q_i + b_i(s)``, ``w > 0``, and ``max_i`` the same of the agent's largest available value::

        q_tot = sum_i qhat_i(u_i) + sum_i (lambda_i(s, u) - 1) (qhat_i(u_i) - max_i)

    ``lambda > 0`` is a sum over heads of ``key(s) sigmoid(agent_i(s)) sigmoid(action_i(s, u))``. The advantage in the
    second sum carries no gradient.

    Attributes:
        attention_layers: layers of each of the three networks of a head, 1 to 3.
        attention_size: their hidden units.
        heads: number of heads.
        weighted_head: have ``w`` and ``b``; otherwise ``qhat`` is ``q``.
        minus_one: ``lambda - 1`` as above; otherwise ``lambda``.
        hypernet_size: hidden units of the networks of ``w`` and ``b``.
    """

    num_agents: int
    state_size: int
    attention_layers: int = 1
    attention_size: int = 64
    heads: int = 4
    weighted_head: bool = True
    minus_one: bool = True
    hypernet_size: int = 64

    def __post_init__(self) -> None:
        require(self.attention_layers in (1, 2, 3), "mixer.attention_layers", self.attention_layers, "1, 2 or 3")
        for name in ("attention_size", "heads", "hypernet_size"):
            require(getattr(self, name) >= 1, f"mixer.{name}", getattr(self, name), "at least 1")
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: MixerInput) -> Float[Array, ""]:
        """The joint value ``q_tot``."""
        chosen, greedy = inputs.chosen, inputs.greedy
        if self.weighted_head:
            sizes = (self.hypernet_size, self.num_agents)
            weight = jnp.abs(Dense(sizes, name="weight")(inputs.state)) + SMALLEST
            bias = Dense(sizes, name="bias")(inputs.state)
            chosen, greedy = weight * chosen + bias, weight * greedy + bias
        advantage = jax.lax.stop_gradient(chosen - greedy)
        importance = self.importance(inputs)
        v_tot = chosen.sum()
        adv_tot = ((importance - 1.0 if self.minus_one else importance) * advantage).sum()
        for name, value in {"lambda": importance, "v_tot": v_tot, "adv_tot": adv_tot}.items():
            self.sow("intermediates", name, value)
        return v_tot + adv_tot

    def importance(self, inputs: MixerInput) -> Float[Array, " N"]:
        """``lambda``: how much the advantage of each agent counts."""
        actions = jax.nn.one_hot(inputs.action, inputs.num_actions, dtype=inputs.state.dtype).reshape(-1)
        both = jnp.concatenate([inputs.state, actions])
        key = jnp.abs(self._of_heads(inputs.state, 1, "key")) + SMALLEST
        agent = jax.nn.sigmoid(self._of_heads(inputs.state, self.num_agents, "agent"))
        action = jax.nn.sigmoid(self._of_heads(both, self.num_agents, "action"))
        return (key * agent * action).sum(axis=0)

    def _of_heads(self, x: Float[Array, " I"], size: int, name: str) -> Float[Array, "heads size"]:
        """One network for each head, all computed together."""
        units = [*[self.attention_size] * (self.attention_layers - 1), size]
        rows = jnp.broadcast_to(x[None], (self.heads, *x.shape))
        for index, width in enumerate(units):
            initialize = uniform_fan_in(rows.shape[-1])
            kernel = self.param(f"{name}_kernel_{index}", initialize, (self.heads, rows.shape[-1], width))
            bias = self.param(f"{name}_bias_{index}", initialize, (self.heads, width))
            rows = jnp.einsum("hi,hio->ho", nn.relu(rows) if index else rows, kernel) + bias
        return rows
