"""Plain dense networks, initialised as PyTorch does."""

from collections.abc import Sequence

import flax.linen as nn
from jaxtyping import Array, Float

from qmix_jax.networks.linear import uniform_fan_in


class Dense(nn.Module):
    """Dense layers of the given sizes with ReLU in between, for any leading axes.

    Attributes:
        sizes: units of each layer; the last one has no ReLU behind it.
    """

    sizes: Sequence[int]

    @nn.compact
    def __call__(self, x: Float[Array, "*batch I"]) -> Float[Array, "*batch size"]:
        """The output of the last layer."""
        for index, size in enumerate(self.sizes):
            initialize = uniform_fan_in(x.shape[-1])
            x = nn.Dense(size, kernel_init=initialize, bias_init=initialize, name=f"layer_{index}")(x)
            x = x if index == len(self.sizes) - 1 else nn.relu(x)
        return x
