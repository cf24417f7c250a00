"""Value decomposition networks."""

import flax.linen as nn
from jaxtyping import Array, Float


class VDNMixer(nn.Module):
    """VDN (Sunehag et al. 2018, equation 3): ``q_tot = sum_a q_a``."""

    num_agents: int
    state_size: int

    def __call__(self, q: Float[Array, " N"], state: Float[Array, " G"]) -> Float[Array, ""]:
        """The sum of the agents' values."""
        return q.sum(axis=-1)
