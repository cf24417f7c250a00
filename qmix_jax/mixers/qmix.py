"""The monotone mixing network of QMIX."""

import flax.linen as nn
from jaxtyping import Array, Float

from qmix_jax.mixers.base import MixerInput
from qmix_jax.mixers.hypernetworks import VALUE_HIDDEN, StateMixer


class QMIXMixer(StateMixer):
    """QMIX (Rashid et al. 2018, equations 4 to 6): a two-layer network whose weights come from the state.

    ``q_tot = w2(s)ᵀ ELU(W1(s)ᵀ q + b1(s)) + v(s)`` with ``W1, w2 >= 0``. This makes ``d q_tot / d q_a >= 0``, so the
    joint argmax is the tuple of the agents' own.
    """

    @nn.compact
    def __call__(self, inputs: MixerInput) -> Float[Array, ""]:
        """The joint value ``q_tot`` of the agents' chosen action values."""
        weights = {"hyper_w1": self.num_agents * self.embed_size, "hyper_w2": self.embed_size}
        others = {"hyper_b1": self.embed_size, VALUE_HIDDEN: self.embed_size}
        of_state = self.from_state(inputs.state, weights, others)
        w1 = of_state["hyper_w1"].reshape(self.num_agents, self.embed_size)
        # A sum, not a product: as one, XLA's CPU backend transposes the gradient of w1.
        mixed = (inputs.chosen[:, None] * w1).sum(axis=0)
        return nn.elu(mixed + of_state["hyper_b1"]) @ of_state["hyper_w2"] + self.value_of(of_state[VALUE_HIDDEN])
