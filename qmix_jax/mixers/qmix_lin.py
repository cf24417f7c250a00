"""QMIX without the hidden layer."""

import flax.linen as nn
from jaxtyping import Array, Float

from qmix_jax.mixers.base import MixerInput
from qmix_jax.mixers.hypernetworks import StateMixer


class QMIXLinMixer(StateMixer):
    """QMIX-Lin (Rashid et al. 2018, section 6.2): ``q_tot = w(s)ᵀ q + v(s)`` with ``w >= 0``."""

    @nn.compact
    def __call__(self, inputs: MixerInput) -> Float[Array, ""]:
        """The weighted sum of the agents' values."""
        return inputs.chosen @ self.weights(inputs.state, self.num_agents, "hyper_w") + self.state_value(inputs.state)
