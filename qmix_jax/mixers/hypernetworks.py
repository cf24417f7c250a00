"""What several mixers are made of."""

import itertools
from collections.abc import Callable, Mapping

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

VALUE_HIDDEN = "value_hidden"
"""The first layer of the state's own value."""


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
        return self.from_state(state, {name: size}, {})[name]

    def from_state(
        self, state: Float[Array, " G"], weights: Mapping[str, int], others: Mapping[str, int]
    ) -> dict[str, Float[Array, " size"]]:
        """Non-negative weights and linear layers of the state, by name and size. One product does all first layers."""
        hidden = {f"{name}_hidden": self.hypernet_size for name in weights} if self.hypernet_layers == 2 else weights
        found = self._layers(state, {**hidden, **others})
        if self.hypernet_layers == 2:
            for name, size in weights.items():
                found[name] = self.dense(nn.relu(found.pop(f"{name}_hidden")), size, name)
        return {name: NONNEGATIVE[self.nonnegative](x) if name in weights else x for name, x in found.items()}

    def state_value(self, state: Float[Array, " G"]) -> Float[Array, ""]:
        """``v(s)``: a two-layer network."""
        return self.value_of(self.dense(state, self.embed_size, VALUE_HIDDEN))

    def value_of(self, hidden: Float[Array, " E"]) -> Float[Array, ""]:
        """The second layer of ``v(s)``, from the first one's output before its ReLU."""
        return self.dense(nn.relu(hidden), 1, "value")[0]

    def dense(self, x: Float[Array, "*batch I"], size: int, name: str) -> Float[Array, "*batch size"]:
        """A linear layer."""
        return self._layers(x, {name: size})[name]

    def _layers(self, x: Float[Array, "*batch I"], sizes: Mapping[str, int]) -> dict[str, Float[Array, "*batch size"]]:
        """Linear layers of one input, as one product. Biases are rows of it: XLA is slow at their gradients."""
        initialize = uniform_fan_in(x.shape[-1], self.init_scale)
        kernels = [_Layer(x.shape[-1], size, initialize, name=name)() for name, size in sizes.items()]
        with_one = jnp.concatenate([x, jnp.ones((*x.shape[:-1], 1), x.dtype)], axis=-1)
        outputs = with_one @ jnp.concatenate(kernels, axis=-1)
        ends = list(itertools.accumulate(sizes.values()))
        return dict(zip(sizes, jnp.split(outputs, ends[:-1], axis=-1), strict=True))


class _Layer(nn.Module):
    """The parameters of a linear layer, as ``nn.Dense`` names and draws them."""

    inputs: int
    size: int
    initialize: Callable[..., jax.Array]

    @nn.compact
    def __call__(self) -> Float[Array, "I+1 size"]:
        """The kernel, and the bias as its last row."""
        kernel = self.param("kernel", self.initialize, (self.inputs, self.size), jnp.float32)
        bias = self.param("bias", self.initialize, (self.size,), jnp.float32)
        return jnp.concatenate([kernel, bias[None]])
