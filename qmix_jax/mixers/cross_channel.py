"""QMIX with a non-negative mixing of the hidden channels in between."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from qmix_jax.mixers.base import MixerInput
from qmix_jax.mixers.hypernetworks import NONNEGATIVE, StateMixer


class CrossChannelMixer(StateMixer):
    """QMIX whose hidden channels are mixed with each other, in the spirit of Projected GANs (Sauer et al. 2021).

    ``q_tot = w2(s)ᵀ ELU(C ELU(W1(s)ᵀ q + b1(s))) + v(s)`` with ``W1, C, w2 >= 0``. ``C`` does not depend on the
    state and has rows that sum to 1. It is random and fixed, as the projections there, or learned. All factors and the
    non-linearity are monotone, so ``d q_tot / d q_a >= 0`` holds as it does for QMIX.

    Attributes:
        learned: learn ``C``; otherwise it is drawn once from ``projection_seed``.
        projection_seed: seed of the fixed ``C``; part of the mixer, not of its parameters.
    """

    learned: bool = False
    projection_seed: int = 0

    @nn.compact
    def __call__(self, inputs: MixerInput) -> Float[Array, ""]:
        """The joint value ``q_tot`` of the agents' chosen action values."""
        w1 = self.weights(inputs.state, self.num_agents * self.embed_size, "hyper_w1")
        w1 = w1.reshape(self.num_agents, self.embed_size)
        hidden = nn.elu(inputs.chosen @ w1 + self.dense(inputs.state, self.embed_size, "hyper_b1"))
        hidden = nn.elu(self._channels() @ hidden)
        return hidden @ self.weights(inputs.state, self.embed_size, "hyper_w2") + self.state_value(inputs.state)

    def _channels(self) -> Float[Array, "E E"]:
        def draw(key: Key[Array, ""], shape: tuple[int, int]) -> Float[Array, "E E"]:
            return jax.random.normal(key, shape)

        shape = (self.embed_size, self.embed_size)
        raw = self.param("channels", draw, shape) if self.learned else draw(jax.random.key(self.projection_seed), shape)
        mixing = NONNEGATIVE[self.nonnegative](raw)
        return mixing / jnp.maximum(mixing.sum(axis=1, keepdims=True), 1e-6)
