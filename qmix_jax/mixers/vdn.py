"""Value decomposition networks."""

import flax.linen as nn
from jaxtyping import Array, Float

from qmix_jax.mixers.base import MixerInput


class VDNMixer(nn.Module):
    """VDN (Sunehag et al. 2018, equation 3): ``q_tot = sum_a q_a``."""

    num_agents: int
    state_size: int

    def __call__(self, inputs: MixerInput) -> Float[Array, ""]:
        """The sum of the agents' values."""
        return inputs.chosen.sum(axis=-1)
