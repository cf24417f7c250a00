"""The monotone mixing network of QMIX."""

import flax.linen as nn
from jaxtyping import Array, Float

from qmix_jax.mixers.base import MixerInput
from qmix_jax.mixers.hypernetworks import StateMixer


class QMIXMixer(StateMixer):
    """QMIX (Rashid et al. 2018, equations 4 to 6): a two-layer network whose weights come from the state.

    ``q_tot = w2(s)ᵀ ELU(W1(s)ᵀ q + b1(s)) + v(s)`` with ``W1, w2 >= 0``. This makes ``d q_tot / d q_a >= 0``, so the
    joint argmax is the tuple of the agents' own.
    """

    @nn.compact
    def __call__(self, inputs: MixerInput) -> Float[Array, ""]:
        """The joint value ``q_tot`` of the agents' chosen action values."""
        w1 = self.weights(inputs.state, self.num_agents * self.embed_size, "hyper_w1")
        w1 = w1.reshape(self.num_agents, self.embed_size)
        b1 = self.dense(inputs.state, self.embed_size, "hyper_b1")
        w2 = self.weights(inputs.state, self.embed_size, "hyper_w2")
        return nn.elu(inputs.chosen @ w1 + b1) @ w2 + self.state_value(inputs.state)
