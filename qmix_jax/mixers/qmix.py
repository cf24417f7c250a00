"""The monotone mixing network of QMIX."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from qmix_jax.errors import require
from qmix_jax.initializers import uniform_fan_in


class QMIXMixer(nn.Module):
    """QMIX (Rashid et al. 2018, equations 4 to 6): a two-layer network whose weights come from the state.

    ``q_tot = |w2(s)|ᵀ ELU(|W1(s)|ᵀ q + b1(s)) + v(s)``. The absolute values make ``d q_tot / d q_a >= 0``, so the joint
    argmax is the tuple of the agents' own.

    Attributes:
        embed_size: hidden units of the mixing network.
        hypernet_layers: layers of the hypernetworks for the two weights, 1 (paper) or 2 (later PyMARL configurations).
        hypernet_size: hidden units of two-layer hypernetworks.
        init_scale: factor on PyTorch's initialisation of the hypernetworks. 1 is PyMARL's; small values start with a
            ``q_tot`` near zero, which helps when the state has many or large features.
    """

    num_agents: int
    state_size: int
    embed_size: int = 32
    hypernet_layers: int = 1
    hypernet_size: int = 64
    init_scale: float = 1.0

    def __post_init__(self) -> None:
        require(self.embed_size >= 1, "mixer.embed_size", self.embed_size, "at least 1")
        require(self.hypernet_layers in (1, 2), "mixer.hypernet_layers", self.hypernet_layers, "1 or 2")
        require(self.hypernet_size >= 1, "mixer.hypernet_size", self.hypernet_size, "at least 1")
        require(self.init_scale > 0, "mixer.init_scale", self.init_scale, "more than 0")
        super().__post_init__()

    @nn.compact
    def __call__(self, q: Float[Array, " N"], state: Float[Array, " G"]) -> Float[Array, ""]:
        """The joint value ``q_tot`` of the agents' chosen action values."""
        w1 = self._hypernet(state, self.num_agents * self.embed_size, "hyper_w1")
        w1 = jnp.abs(w1.reshape(self.num_agents, self.embed_size))
        b1 = self._dense(state, self.embed_size, "hyper_b1")
        w2 = jnp.abs(self._hypernet(state, self.embed_size, "hyper_w2"))
        value = self._dense(nn.relu(self._dense(state, self.embed_size, "value_hidden")), 1, "value")[0]
        return nn.elu(q @ w1 + b1) @ w2 + value

    def _hypernet(self, state: Float[Array, " G"], size: int, name: str) -> Float[Array, " size"]:
        if self.hypernet_layers == 2:
            state = nn.relu(self._dense(state, self.hypernet_size, f"{name}_hidden"))
        return self._dense(state, size, name)

    def _dense(self, x: Float[Array, " I"], size: int, name: str) -> Float[Array, " size"]:
        initialize = uniform_fan_in(x.shape[-1], self.init_scale)
        return nn.Dense(size, kernel_init=initialize, bias_init=initialize, name=name)(x)
