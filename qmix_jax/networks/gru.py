"""The gated recurrent unit, one step at a time and over a whole sequence.

The equations and the two biases are those of PyTorch's ``GRUCell`` (gates in the order reset, update, new)::

    r  = sigmoid(x W_ir + b_ir + h W_hr + b_hr)
    z  = sigmoid(x W_iz + b_iz + h W_hz + b_hz)
    c  = tanh(x W_in + b_in + r * (h W_hn + b_hn))     b_hn sits inside the product with the reset gate
    h' = (1 - z) * c + z * h

``gru_unroll`` has a custom gradient. Automatic differentiation of the scan would store every gate; here the forward
scan keeps only the hidden states, and the backward scan recomputes each step's gates. On a CPU it accumulates the
weight gradients step by step, while a step's rows are in the cache. On an accelerator it keeps the gates' gradients of
all steps for one large product afterwards. The inputs of the three gates are separate arrays because XLA's CPU backend
compiles column slices of a scanned array to scalar code. experiments/speed has the measurements.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qmix_jax.networks.linear import sum_rows


class GRUWeights(NamedTuple):
    """The parameters; columns are the reset, update and new gates."""

    input_kernel: Float[Array, "I H3"]
    input_bias: Float[Array, " H3"]
    hidden_kernel: Float[Array, "H H3"]
    hidden_bias: Float[Array, " H3"]


class Gates(NamedTuple):
    """Intermediate values of a step."""

    reset: Float[Array, "*rows H"]
    update: Float[Array, "*rows H"]
    candidate: Float[Array, "*rows H"]
    inner: Float[Array, "*rows H"]
    """``h W_hn + b_hn``."""


def gru_step(
    weights: GRUWeights, x: Float[Array, "*rows I"], hidden: Float[Array, "*rows H"]
) -> Float[Array, "*rows H"]:
    """One step of the recurrence for any number of rows."""
    return _next(_gates(weights, _project(weights, x), hidden), hidden)


def gru_unroll(
    weights: GRUWeights, x: Float[Array, "T R I"], keep: Float[Array, "T R 1"], start: Float[Array, "R H"]
) -> Float[Array, "T R H"]:
    """Hidden states along a sequence.

    Args:
        weights: the parameters.
        x: inputs of R independent rows.
        keep: 0 where a row starts a new episode at that step (its hidden state is zeroed before the step), else 1.
        start: the hidden state before the first step.
    """
    return _unroll(weights, x, keep, start)


@jax.custom_vjp
def _unroll(weights, x, keep, start):
    return _scan(weights, _project(weights, x), keep, start)


def _scan(weights, projected, keep, start):
    def step(hidden, slot):
        projected, keep = slot
        hidden = hidden * keep
        hidden = _next(_gates(weights, projected, hidden), hidden)
        return hidden, hidden

    return jax.lax.scan(step, start, (projected, keep))[1]


def _forward(weights, x, keep, start):
    projected = _project(weights, x)
    hidden = _scan(weights, projected, keep, start)
    return hidden, (weights, x, keep, start, projected, hidden)


def _backward(residuals, d_output):
    weights, x, keep, start, projected, hidden = residuals
    before = jnp.concatenate([start[None], hidden[:-1]]) * keep
    in_scan = jax.default_backend() == "cpu"

    def step(carry, slot):
        (d_after, d_weights), (x, keep, projected, hidden, d_output) = carry, slot
        gates = _gates(weights, projected, hidden)
        d = d_output + d_after
        d_new = d * (1 - gates.update) * (1 - gates.candidate * gates.candidate)
        d_update = d * (hidden - gates.candidate) * gates.update * (1 - gates.update)
        d_reset = d_new * gates.inner * gates.reset * (1 - gates.reset)
        d_by_input = jnp.concatenate([d_reset, d_update, d_new], axis=-1)
        d_by_hidden = jnp.concatenate([d_reset, d_update, d_new * gates.reset], axis=-1)
        d_before = (d * gates.update + d_by_hidden @ weights.hidden_kernel.T) * keep
        if not in_scan:
            return (d_before, None), (d_by_input, d_by_hidden)
        d_weights = jax.tree.map(jnp.add, d_weights, _weight_gradients(x, hidden, d_by_input, d_by_hidden))
        return (d_before, d_weights), d_by_input @ weights.input_kernel.T

    end = (jnp.zeros_like(start), jax.tree.map(jnp.zeros_like, weights) if in_scan else None)
    slots = (x, keep, projected, before, d_output)
    (d_start, d_weights), d_gates = jax.lax.scan(step, end, slots, reverse=True)
    if in_scan:
        return d_weights, d_gates, jnp.zeros_like(keep), d_start
    d_by_input, d_by_hidden = d_gates
    d_weights = _weight_gradients(x, before, d_by_input, d_by_hidden)
    return d_weights, d_by_input @ weights.input_kernel.T, jnp.zeros_like(keep), d_start


_unroll.defvjp(_forward, _backward)


def _project(weights: GRUWeights, x: Float[Array, "*rows I"]) -> list[Float[Array, "*rows H"]]:
    """``x W_ir``, ``x W_iz``, ``x W_in``. Flattened, because XLA's CPU backend is slower with several leading axes."""
    flat = x.reshape(-1, x.shape[-1])
    return [(flat @ kernel).reshape(*x.shape[:-1], -1) for kernel in _thirds(weights.input_kernel)]


def _gates(weights: GRUWeights, projected: list[Array], hidden: Float[Array, "*rows H"]) -> Gates:
    def bias(of_gate: Float[Array, " H"]) -> Float[Array, "*ones H"]:
        return jnp.expand_dims(of_gate, range(hidden.ndim - 1))

    reset, update, new = _thirds(hidden @ weights.hidden_kernel)
    reset_bias, update_bias, _ = _thirds(weights.input_bias + weights.hidden_bias)
    inner = new + bias(_thirds(weights.hidden_bias)[2])
    r = _sigmoid(projected[0] + reset + bias(reset_bias))
    z = _sigmoid(projected[1] + update + bias(update_bias))
    return Gates(r, z, jnp.tanh(projected[2] + bias(_thirds(weights.input_bias)[2]) + r * inner), inner)


def _next(gates: Gates, hidden: Float[Array, "*rows H"]) -> Float[Array, "*rows H"]:
    return gates.candidate + gates.update * (hidden - gates.candidate)


def _weight_gradients(
    x: Float[Array, "*rows I"],
    hidden: Float[Array, "*rows H"],
    d_by_input: Float[Array, "*rows H3"],
    d_by_hidden: Float[Array, "*rows H3"],
) -> GRUWeights:
    """Weight gradients summed over all rows, from the gates' gradients by input and by hidden state."""
    x, hidden, d_by_input, d_by_hidden = (y.reshape(-1, y.shape[-1]) for y in (x, hidden, d_by_input, d_by_hidden))
    return GRUWeights(x.T @ d_by_input, sum_rows(d_by_input), hidden.T @ d_by_hidden, sum_rows(d_by_hidden))


def _sigmoid(x: Array) -> Array:
    """``jax.nn.sigmoid`` without the division."""
    return 0.5 * jnp.tanh(0.5 * x) + 0.5


def _thirds(x: Float[Array, "*rows H3"]) -> list[Float[Array, "*rows H"]]:
    return jnp.split(x, 3, axis=-1)
