"""Recurrent agents that see images."""

import math
from itertools import pairwise
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Float, Int

from qmix_jax.errors import require
from qmix_jax.networks.agents import Initializer, RecurrentAgent
from qmix_jax.networks.linear import uniform_fan_in

KERNEL = 3


class ImageAgent(RecurrentAgent):
    """Two convolutions of 3 x 3 with ReLU, then dense, ReLU, GRU, dense as :class:`RecurrentAgent`.

    Observations stay vectors of ``height * width * channels`` numbers, in this order. The last action and the agent's
    id join the features of the convolutions.

    Attributes:
        image_shape: height, width and channels of an observation.
        features: channels after the first convolution; twice as many after the second.
        stride: of both convolutions.
    """

    image_shape: tuple[int, int, int] = (1, 1, 1)
    features: int = 16
    stride: int = 2

    def __post_init__(self) -> None:
        require(self.features >= 1, "agent.features", self.features, "at least 1")
        require(self.stride >= 1, "agent.stride", self.stride, "at least 1")
        super().__post_init__()

    @property
    def input_size(self) -> int:
        """Features after the convolutions, in a row."""
        height, width, _ = self.image_shape
        for _ in range(2):
            height, width = math.ceil(height / self.stride), math.ceil(width / self.stride)
        return height * width * 2 * self.features

    def setup_cell(self, initialize: Initializer) -> None:
        """The convolutions, initialised as PyTorch's, and the GRU."""
        sizes = (self.image_shape[-1], self.features, 2 * self.features)
        self.filters = [self._filter(index, *pair) for index, pair in enumerate(pairwise(sizes))]
        super().setup_cell(initialize)

    def _filter(self, index: int, before: int, after: int) -> tuple[Array, Array]:
        draw = uniform_fan_in(KERNEL * KERNEL * before)
        kernel: Any = self.param(f"image_{index}_kernel", draw, (KERNEL, KERNEL, before, after))
        bias: Any = self.param(f"image_{index}_bias", draw, (after,))
        return kernel, bias

    def _first_layer(
        self, obs: Float[Array, "*batch N O"], last_action: Int[Array, "*batch N"]
    ) -> Float[Array, "*batch N H"]:
        x = obs.reshape(-1, *self.image_shape)
        for kernel, bias in self.filters:
            x = jax.lax.conv_general_dilated(
                x, kernel, (self.stride, self.stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = nn.relu(x + bias[None, None, None])
        return super()._first_layer(x.reshape(*obs.shape[:-1], self.input_size), last_action)
