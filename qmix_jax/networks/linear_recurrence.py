"""Linear recurrences ``h_t = a_t h_{t-1} + b_t``, element by element, over a whole sequence.

Such a recurrence needs no matrix product from step to step, and it is associative: ``(a, b)`` then ``(c, d)`` is
``(c a, c b + d)``. An accelerator therefore computes all steps in a logarithmic number of passes
(``lax.associative_scan``; Blelloch 1990). A CPU computes them one after another: each step is one pass over its rows,
and the passes of the associative scan would only move more memory. The gradient is the same recurrence backwards, so
that both directions take the same form. experiments/speed has the measurements.

All functions take real or complex arrays. An ``a_t`` of zero starts anew, which is how episodes begin in mid-sequence.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact


@jax.custom_vjp
def linear_recurrence(
    a: Inexact[Array, "T R H"], b: Inexact[Array, "T R H"], start: Inexact[Array, "R H"]
) -> Inexact[Array, "T R H"]:
    """``h_1`` to ``h_T`` of ``h_t = a_t h_{t-1} + b_t`` from ``h_0 = start``."""
    return _solve(a, b, start)


def _solve(a, b, start):
    return in_order(a, b, start) if jax.default_backend() == "cpu" else at_once(a, b, start)


def in_order(
    a: Inexact[Array, "T R H"], b: Inexact[Array, "T R H"], start: Inexact[Array, "R H"], reverse: bool = False
) -> Inexact[Array, "T R H"]:
    """The recurrence step by step; ``reverse`` goes from the last step to the first."""

    def step(hidden, slot):
        hidden = slot[0] * hidden + slot[1]
        return hidden, hidden

    return jax.lax.scan(step, start, (a, b), reverse=reverse)[1]


def at_once(
    a: Inexact[Array, "T R H"], b: Inexact[Array, "T R H"], start: Inexact[Array, "R H"], reverse: bool = False
) -> Inexact[Array, "T R H"]:
    """The recurrence by an associative scan."""

    def both(first, second):
        return second[0] * first[0], second[0] * first[1] + second[1]

    products, sums = jax.lax.associative_scan(both, (a, b), reverse=reverse)
    return sums + products * start[None]


def _forward(a, b, start):
    hidden = _solve(a, b, start)
    return hidden, (a, start, hidden)


def _backward(residuals, d_hidden):
    """``g_t = d_hidden_t + a_{t+1} g_{t+1}`` is the gradient of ``b_t``."""
    a, start, hidden = residuals
    solve = in_order if jax.default_backend() == "cpu" else at_once
    following = jnp.concatenate([a[1:], jnp.zeros_like(a[:1])])
    d_b = solve(following, d_hidden, jnp.zeros_like(start), reverse=True)
    before = jnp.concatenate([start[None], hidden[:-1]])
    return d_b * before, d_b, a[0] * d_b[0]


linear_recurrence.defvjp(_forward, _backward)
