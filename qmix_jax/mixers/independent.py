"""No mixing: independent Q-learning."""

import flax.linen as nn
from jaxtyping import Array, Float

from qmix_jax.mixers.base import MixerInput


class IndependentMixer(nn.Module):
    """IQL (Tan 1993; Tampuu et al. 2017): each agent's own value is trained towards its own target."""

    num_agents: int
    state_size: int

    def __call__(self, inputs: MixerInput) -> Float[Array, " N"]:
        """The agents' values as they are."""
        return inputs.chosen
