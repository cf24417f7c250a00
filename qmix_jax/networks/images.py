"""Recurrent agents that see images."""

import math
from itertools import pairwise
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from qmix_jax.errors import ConfigError, require
from qmix_jax.networks.agents import Initializer, RecurrentAgent
from qmix_jax.networks.linear import uniform_fan_in
from qmix_jax.types import Perceived

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

    def perceive(self, obs: Float[Array, "*batch O"]) -> Perceived:
        """The features of the convolutions, in a row."""
        x = obs.reshape(-1, *self.image_shape)
        for kernel, bias in self.filters:
            x = jax.lax.conv_general_dilated(
                x, kernel, (self.stride, self.stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = nn.relu(x + bias[None, None, None])
        return Perceived(x.reshape(*obs.shape[:-1], self.input_size))


def image_shape_for(given: Any, env: Any) -> tuple[int, ...]:
    """``agent.image_shape`` for an ``Env``: what the user says, else what the environment says."""
    shape = env.image_shape if given is None else given
    if shape is None:
        raise ConfigError(
            f"agent.image_shape=null: {env.name} does not say that its {env.obs_size} numbers are images; give height, "
            "width and channels, or use agent=gru"
        )
    fits = isinstance(shape, list | tuple) and len(shape) == 3 and all(type(size) is int and size > 0 for size in shape)
    if not fits or math.prod(shape) != env.obs_size:
        raise ConfigError(
            f"agent.image_shape={shape}: must be height, width and channels with a product of {env.obs_size}, the "
            f"numbers that an agent of {env.name} observes"
        )
    return tuple(shape)
