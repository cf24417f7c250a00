"""QMIX whose mixing network does not see the state."""

import flax.linen as nn
from jaxtyping import Array, Float

from qmix_jax.errors import require, unknown_choice
from qmix_jax.mixers.base import MixerInput
from qmix_jax.mixers.hypernetworks import NONNEGATIVE
from qmix_jax.networks.linear import uniform_fan_in


class QMIXNSMixer(nn.Module):
    """QMIX-NS (Rashid et al. 2018, section 6.2): weights and biases are plain parameters, the state is not read.

    ``q_tot = w2ᵀ ELU(W1ᵀ q + b1) + b2`` with ``W1, w2 >= 0``. (EPyMARL's ``_ns`` means agents that share no
    parameters, which is something else.)

    Attributes:
        embed_size: hidden units of the mixing network.
        nonnegative: what makes weights non-negative: ``abs`` (paper), ``softplus`` or ``square``.
    """

    num_agents: int
    state_size: int
    embed_size: int = 32
    nonnegative: str = "abs"

    def __post_init__(self) -> None:
        require(self.embed_size >= 1, "mixer.embed_size", self.embed_size, "at least 1")
        if self.nonnegative not in NONNEGATIVE:
            raise unknown_choice("mixer.nonnegative", self.nonnegative, tuple(NONNEGATIVE))
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: MixerInput) -> Float[Array, ""]:
        """The joint value of the agents' values alone."""
        nonnegative, embed = NONNEGATIVE[self.nonnegative], self.embed_size
        first, second = uniform_fan_in(self.num_agents), uniform_fan_in(embed)
        w1 = nonnegative(self.param("w1", first, (self.num_agents, embed)))
        w2 = nonnegative(self.param("w2", second, (embed,)))
        hidden = nn.elu(inputs.chosen @ w1 + self.param("b1", first, (embed,)))
        return hidden @ w2 + self.param("b2", second, ())
