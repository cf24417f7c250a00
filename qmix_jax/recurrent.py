"""The gated recurrent unit, one step at a time and over a whole sequence.

The equations and the two biases are those of PyTorch's ``GRUCell`` (gates in the order reset, update, new)::

    r  = sigmoid(x_r + h W_r)              x_g = W_ig x + b_ig (+ b_hg for r and z)
    z  = sigmoid(x_z + h W_z)
    c  = tanh(x_n + r * (h W_n + b_n))     b_n sits inside the product with the reset gate
    h' = (1 - z) * c + z * h

``gru_unroll`` has its own gradient. Automatic differentiation of the scan would add up the weight gradients step by
step and store every gate; here the forward scan keeps only the hidden states, the backward scan recomputes a step's
gates while they fit the cache, and the weight gradients are one product over all steps afterwards. The three gate
inputs stay separate arrays because XLA's CPU backend compiles column slices of a scanned array to scalar code.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class GateInputs(NamedTuple):
    """What the input contributes to each gate, biases included."""

    reset: Float[Array, "*rows H"]
    update: Float[Array, "*rows H"]
    new: Float[Array, "*rows H"]


class RecurrentWeights(NamedTuple):
    """Hidden-to-hidden weights; the kernel's columns are the reset, update and new gates."""

    kernel: Float[Array, "H H3"]
    new_bias: Float[Array, " H"]


def gate_inputs(
    x: Float[Array, "*rows I"], kernel: Float[Array, "I H3"], bias_input: Float[Array, " H3"], bias: Float[Array, " H3"]
) -> GateInputs:
    """Project the input to the three gates; the hidden bias of the reset and update gates is added here."""
    size = bias.shape[0] // 3
    added = bias_input + jnp.asarray(bias).at[2 * size :].set(0.0)
    return GateInputs(*_project(x, kernel, added))


@jax.custom_vjp
def _project(
    x: Float[Array, "*rows I"], kernel: Float[Array, "I H3"], bias: Float[Array, " H3"]
) -> list[Float[Array, "*rows H"]]:
    """``x @ kernel + bias`` as three arrays; the gradient has one product for all gates instead of three."""
    return [x @ w + jnp.expand_dims(b, range(x.ndim - 1)) for w, b in zip(_gates(kernel), _gates(bias), strict=True)]


def _project_forward(x, kernel, bias):
    return _project(x, kernel, bias), (x, kernel)


def _project_backward(residuals, d_gates):
    x, kernel = residuals
    d = jnp.concatenate(d_gates, axis=-1)
    d_kernel = _outer(x, d)
    return d @ kernel.T, d_kernel, d.sum(axis=tuple(range(d.ndim - 1)))


_project.defvjp(_project_forward, _project_backward)


def gru_step(weights: RecurrentWeights, inputs: GateInputs, hidden: Float[Array, "*rows H"]) -> Float[Array, "*rows H"]:
    """One step of the recurrence for any number of rows."""
    reset, update, new = _gates(hidden @ weights.kernel)
    new_bias = jnp.expand_dims(weights.new_bias, range(hidden.ndim - 1))
    r = jax.nn.sigmoid(inputs.reset + reset)
    z = jax.nn.sigmoid(inputs.update + update)
    candidate = jnp.tanh(inputs.new + r * (new + new_bias))
    return candidate + z * (hidden - candidate)


@jax.custom_vjp
def gru_unroll(weights: RecurrentWeights, inputs: GateInputs, keep: Float[Array, "T R 1"]) -> Float[Array, "T R H"]:
    """Hidden states of a sequence that starts from zero.

    Args:
        weights: hidden-to-hidden weights.
        inputs: gate inputs ``[T, R, H]`` of R independent rows.
        keep: 0 where a row starts a new episode at that step (its hidden state is zeroed before the step), else 1.
    """

    def step(hidden, x):
        x_inputs, x_keep = x
        hidden = gru_step(weights, x_inputs, hidden * x_keep)
        return hidden, hidden

    return jax.lax.scan(step, jnp.zeros_like(inputs.new[0]), (inputs, keep))[1]


def _forward(weights, inputs, keep):
    hidden = gru_unroll(weights, inputs, keep)
    return hidden, (weights, inputs, keep, hidden)


def _backward(residuals, d_hidden):
    weights, inputs, keep, hidden = residuals
    before = jnp.concatenate([jnp.zeros_like(hidden[:1]), hidden[:-1]]) * keep
    transposed = weights.kernel.T
    new_bias = weights.new_bias[None]

    def step(d_after, x):
        x_inputs, h, x_keep, d_output = x
        reset, update, new = _gates(h @ weights.kernel)
        r = jax.nn.sigmoid(x_inputs.reset + reset)
        z = jax.nn.sigmoid(x_inputs.update + update)
        candidate = jnp.tanh(x_inputs.new + r * (new + new_bias))
        d = d_output + d_after
        d_new = d * (1 - z) * (1 - candidate * candidate)
        d_update = d * (h - candidate) * z * (1 - z)
        d_reset = d_new * (new + new_bias) * r * (1 - r)
        d_inner = d_new * r
        d_before = d * z + jnp.concatenate([d_reset, d_update, d_inner], axis=-1) @ transposed
        return d_before * x_keep, (jnp.concatenate([d_reset, d_update, d_new], axis=-1), d_inner)

    start = jnp.zeros_like(d_hidden[0])
    _, (d_gates, d_inner) = jax.lax.scan(step, start, (inputs, before, keep, d_hidden), reverse=True)
    # One wide product, though a third of it is not used, takes less time than two narrow ones.
    d_kernel = _outer(before, d_gates)[:, : 2 * start.shape[-1]]
    d_kernel = jnp.concatenate([d_kernel, _outer(before, d_inner)], axis=-1)
    d_weights = RecurrentWeights(d_kernel, d_inner.sum(axis=(0, 1)))
    return d_weights, GateInputs(*_gates(d_gates)), jnp.zeros_like(keep)


gru_unroll.defvjp(_forward, _backward)


def _outer(x: Float[Array, "*rows I"], y: Float[Array, "*rows H"]) -> Float[Array, "I H"]:
    """Sum of outer products; flattened, because XLA's CPU backend contracts two axes at half the speed of one."""
    return x.reshape(-1, x.shape[-1]).T @ y.reshape(-1, y.shape[-1])


def _gates(x: Float[Array, "*rows H3"]) -> list[Float[Array, "*rows H"]]:
    return jnp.split(x, 3, axis=-1)
