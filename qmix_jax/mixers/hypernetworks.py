"""What several mixers are made of."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qmix_jax.errors import require, unknown_choice
from qmix_jax.networks.linear import uniform_fan_in

NONNEGATIVE: dict[str, Callable[[jax.Array], jax.Array]] = {
    "abs": jnp.abs,
    "softplus": jax.nn.softplus,
    "square": jnp.square,
}


class StateMixer(nn.Module):
    """Base of mixers with hypernetworks: their settings and layers.

    Attributes:
        embed_size: hidden units of the mixing network and of the state's own value.
        hypernet_layers: layers of the hypernetworks for the weights, 1 (paper) or 2 (later PyMARL configurations).
        hypernet_size: hidden units of two-layer hypernetworks.
        nonnegative: what makes weights non-negative: ``abs`` (paper), ``softplus`` or ``square``.
        init_scale: factor on PyTorch's initialisation. 1 is PyMARL's; small values start with a ``q_tot`` near zero,
            which helps when the state has many or large features.
    """

    num_agents: int
    state_size: int
    embed_size: int = 32
    hypernet_layers: int = 1
    hypernet_size: int = 64
    nonnegative: str = "abs"
    init_scale: float = 1.0

    def __post_init__(self) -> None:
        require(self.embed_size >= 1, "mixer.embed_size", self.embed_size, "at least 1")
        require(self.hypernet_layers in (1, 2), "mixer.hypernet_layers", self.hypernet_layers, "1 or 2")
        require(self.hypernet_size >= 1, "mixer.hypernet_size", self.hypernet_size, "at least 1")
        require(self.init_scale > 0, "mixer.init_scale", self.init_scale, "more than 0")
        if self.nonnegative not in NONNEGATIVE:
            raise unknown_choice("mixer.nonnegative", self.nonnegative, tuple(NONNEGATIVE))
        super().__post_init__()

    def weights(self, state: Float[Array, " G"], size: int, name: str) -> Float[Array, " size"]:
        """Non-negative weights from the state."""
        return NONNEGATIVE[self.nonnegative](self.hypernetwork(state, size, name))

    def hypernetwork(self, state: Float[Array, " G"], size: int, name: str) -> Float[Array, " size"]:
        """A network of ``hypernet_layers`` layers."""
        if self.hypernet_layers == 2:
            state = nn.relu(self.dense(state, self.hypernet_size, f"{name}_hidden"))
        return self.dense(state, size, name)

    def state_value(self, state: Float[Array, " G"]) -> Float[Array, ""]:
        """``v(s)``: a two-layer network."""
        return self.dense(nn.relu(self.dense(state, self.embed_size, "value_hidden")), 1, "value")[0]

    def dense(self, x: Float[Array, "*rows I"], size: int, name: str) -> Float[Array, "*rows size"]:
        """A linear layer."""
        initialize = uniform_fan_in(x.shape[-1], self.init_scale)
        return nn.Dense(size, kernel_init=initialize, bias_init=initialize, name=name)(x)
