"""Recurrent agents with several dense layers before the GRU."""

import flax.linen as nn
from jaxtyping import Array, Float

from qmix_jax.errors import require
from qmix_jax.networks.agents import Carry, Initializer, RecurrentAgent, Rows
from qmix_jax.networks.linear import with_leading_axes


class DeepRecurrentAgent(RecurrentAgent):
    """``layers`` times dense and ReLU, then GRU and dense (JaxMARL's PQN has two).

    With ``layer_norm`` every one of these layers is normalised before its ReLU.
    """

    layers: int = 2

    def __post_init__(self) -> None:
        require(self.layers >= 1, "agent.layers", self.layers, "at least 1")
        super().__post_init__()

    def setup_cell(self, initialize: Initializer) -> None:
        """The layers after the first, and the GRU."""
        size, later = self.hidden_size, range(1, self.layers)
        self.layer_kernels = [self.param(f"layer_{i}_kernel", initialize, (size, size)) for i in later]
        self.layer_biases = [self.param(f"layer_{i}_bias", initialize, (size,)) for i in later]
        if self.layer_norm:
            self.layer_norms = [nn.LayerNorm() for _ in later]
        super().setup_cell(initialize)

    def step_cell(
        self, x: Float[Array, "*batch H"], carry: Float[Array, "*batch H"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        """The layers and one step of the GRU."""
        return super().step_cell(self._later_layers(x), carry)

    def unroll_cell(self, x: Rows, keep: Float[Array, "T R 1"], start: Carry) -> Rows:
        """The layers for all slots at once, then the GRU."""
        flat = self._later_layers(x.reshape(-1, self.hidden_size))
        return super().unroll_cell(flat.reshape(x.shape), keep, start)

    def _later_layers(self, x: Float[Array, "*batch H"]) -> Float[Array, "*batch H"]:
        for index, (kernel, bias) in enumerate(zip(self.layer_kernels, self.layer_biases, strict=True)):
            x = x @ kernel + with_leading_axes(bias, x.ndim)
            x = nn.relu(self.layer_norms[index](x) if self.layer_norm else x)
        return x
