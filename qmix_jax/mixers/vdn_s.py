"""VDN with a bias from the state."""

import flax.linen as nn
from jaxtyping import Array, Float

from qmix_jax.errors import require
from qmix_jax.mixers.base import MixerInput
from qmix_jax.networks.linear import uniform_fan_in


class VDNSMixer(nn.Module):
    """VDN-S (Rashid et al. 2018, section 6.2): ``q_tot = sum_a q_a + v(s)``, ``v`` with one hidden layer.

    Attributes:
        embed_size: hidden units of ``v``.
        init_scale: factor on PyTorch's initialisation.
    """

    num_agents: int
    state_size: int
    embed_size: int = 32
    init_scale: float = 1.0

    def __post_init__(self) -> None:
        require(self.embed_size >= 1, "mixer.embed_size", self.embed_size, "at least 1")
        require(self.init_scale > 0, "mixer.init_scale", self.init_scale, "more than 0")
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: MixerInput) -> Float[Array, ""]:
        """The sum of the agents' values and of the state's own."""
        hidden = nn.relu(self._dense(inputs.state, self.embed_size, "value_hidden"))
        return inputs.chosen.sum(axis=-1) + self._dense(hidden, 1, "value")[0]

    def _dense(self, x: Float[Array, " I"], size: int, name: str) -> Float[Array, " size"]:
        initialize = uniform_fan_in(x.shape[-1], self.init_scale)
        return nn.Dense(size, kernel_init=initialize, bias_init=initialize, name=name)(x)
