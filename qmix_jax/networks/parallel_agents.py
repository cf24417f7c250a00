"""Recurrent agents whose recurrence is linear, so that all steps of a sequence can be computed at once.

Their matrix products are those of a feed-forward agent: over all steps together. ``networks/linear_recurrence.py`` does
what remains between steps.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from qmix_jax.errors import require
from qmix_jax.networks.agents import Agent, Carry, Initializer, Rows
from qmix_jax.networks.linear import add_bias, with_leading_axes
from qmix_jax.networks.linear_recurrence import Pair, linear_recurrence, rotating_recurrence


class MinGRUAgent(Agent):
    """Dense, ReLU, minGRU, Dense.

    The minimal GRU (Feng et al. 2024, section 3.1): its gate and its candidate read the input only::

        z_t = sigmoid(x_t W_z + b_z)
        h_t = (1 - z_t) h_{t-1} + z_t (x_t W_h + b_h)
    """

    def setup_cell(self, initialize: Initializer) -> None:
        """Gate and candidate."""
        hidden = self.hidden_size
        self.gate_kernel = self.param("gate_kernel", initialize, (hidden, hidden))
        self.gate_bias = self.param("gate_bias", initialize, (hidden,))
        self.candidate_kernel = self.param("candidate_kernel", initialize, (hidden, hidden))
        self.candidate_bias = self.param("candidate_bias", initialize, (hidden,))

    def step_cell(
        self, x: Float[Array, "*batch H"], carry: Float[Array, "*batch H"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        """One step."""
        gate, candidate = self._of_input(x)
        hidden = (1 - gate) * carry + gate * candidate
        return hidden, hidden

    def unroll_cell(self, x: Rows, keep: Float[Array, "T R 1"], start: Carry) -> Rows:
        """See :func:`qmix_jax.networks.linear_recurrence.linear_recurrence`."""
        gate, candidate = self._of_input(x)
        return linear_recurrence((1 - gate) * keep, gate * candidate, start)

    def _of_input(self, x: Float[Array, "*rows H"]) -> tuple[Float[Array, "*rows H"], Float[Array, "*rows H"]]:
        flat = x.reshape(-1, self.hidden_size)
        gate = jax.nn.sigmoid(add_bias(flat @ self.gate_kernel, self.gate_bias))
        candidate = add_bias(flat @ self.candidate_kernel, self.candidate_bias)
        return gate.reshape(x.shape), candidate.reshape(x.shape)


class LRUAgent(Agent):
    """Dense, ReLU, LRU, GELU, Dense.

    The linear recurrent unit (Orvieto et al. 2023, section 3) with complex hidden states, and a residual connection::

        h_t = lambda h_{t-1} + gamma (x_t B)
        y_t = x_t + gelu(Re(h_t C) + d x_t)

    ``lambda = exp(-exp(nu) + i exp(theta))`` lies in the unit circle whatever ``nu`` and ``theta`` are, and ``gamma``
    starts at ``sqrt(1 - |lambda|²)``. The hidden state of an agent is ``[Re h, Im h]``.

    Attributes:
        min_radius: smallest ``|lambda|`` at the start of training; the square is uniform between it and the largest.
        max_radius: largest ``|lambda|``. Values near 1 remember for long.
        max_phase: largest angle of ``lambda``, in radians.
    """

    min_radius: float = 0.0
    max_radius: float = 0.99
    max_phase: float = 6.283

    def __post_init__(self) -> None:
        words = f"at least 0 and below agent.max_radius={self.max_radius}"
        require(0 <= self.min_radius < self.max_radius, "agent.min_radius", self.min_radius, words)
        require(self.max_radius < 1, "agent.max_radius", self.max_radius, "below 1")
        require(0 < self.max_phase <= 2 * math.pi, "agent.max_phase", self.max_phase, "above 0 and at most 2 pi")
        super().__post_init__()

    @property
    def carry_size(self) -> int:
        """Real and imaginary part."""
        return 2 * self.hidden_size

    def setup_cell(self, initialize: Initializer) -> None:
        """Initialised as in the paper; ``gamma`` is stored as a logarithm."""
        hidden = self.hidden_size
        into, out_of = (nn.initializers.normal(scale) for scale in ((2 * hidden) ** -0.5, hidden**-0.5))
        self.nu = self.param("lru_nu", self._first_nu, (hidden,))
        self.theta = self.param("lru_theta", self._first_theta, (hidden,))
        self.gamma = self.param("lru_gamma", lambda _, nu: 0.5 * jnp.log1p(-jnp.exp(-2 * jnp.exp(nu))), self.nu)
        self.input_kernels = [self.param(f"lru_b_{part}", into, (hidden, hidden)) for part in ("real", "imag")]
        self.output_kernels = [self.param(f"lru_c_{part}", out_of, (hidden, hidden)) for part in ("real", "imag")]
        self.through = self.param("lru_d", nn.initializers.normal(1.0), (hidden,))

    def _first_nu(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, " H"]:
        low, high = self.min_radius**2, self.max_radius**2
        square = jax.random.uniform(key, shape, minval=low, maxval=high)
        return jnp.log(-0.5 * jnp.log(jnp.maximum(square, 1e-6)))

    def _first_theta(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, " H"]:
        return jnp.log(jnp.maximum(self.max_phase * jax.random.uniform(key, shape), 1e-6))

    def step_cell(
        self, x: Float[Array, "*batch H"], carry: Float[Array, "*batch 2H"]
    ) -> tuple[Float[Array, "*batch 2H"], Float[Array, "*batch H"]]:
        """One step."""
        real, imag = jnp.split(carry, 2, axis=-1)
        factor, b = Pair(*(with_leading_axes(part, x.ndim) for part in self._factor())), self._into(x)
        hidden = Pair(
            factor.real * real - factor.imag * imag + b.real,
            factor.real * imag + factor.imag * real + b.imag,
        )
        return jnp.concatenate(hidden, axis=-1), self._output(hidden, x)

    def unroll_cell(self, x: Rows, keep: Float[Array, "T R 1"], start: Carry) -> Rows:
        """See :func:`qmix_jax.networks.linear_recurrence.rotating_recurrence`."""
        first = Pair(*jnp.split(start, 2, axis=-1))
        return self._output(rotating_recurrence(self._factor(), keep, self._into(x), first), x)

    def _factor(self) -> Pair:
        """``lambda`` ``[H]``."""
        radius, angle = jnp.exp(-jnp.exp(self.nu)), jnp.exp(self.theta)
        return Pair(radius * jnp.cos(angle), radius * jnp.sin(angle))

    def _into(self, x: Float[Array, "*rows H"]) -> Pair:
        """``gamma (x B)``."""
        flat, gamma = x.reshape(-1, self.hidden_size), jnp.exp(self.gamma)[None]
        return Pair(*((flat @ (kernel * gamma)).reshape(x.shape) for kernel in self.input_kernels))

    def _output(self, hidden: Pair, x: Float[Array, "*rows H"]) -> Float[Array, "*rows H"]:
        real, imaginary = (
            part.reshape(-1, self.hidden_size) @ kernel
            for part, kernel in zip(hidden, self.output_kernels, strict=True)
        )
        mixed = (real - imaginary).reshape(x.shape)
        return x + nn.gelu(mixed + with_leading_axes(self.through, x.ndim) * x)
