"""Linear recurrences ``h_t = a_t h_{t-1} + b_t``, element by element, over a whole sequence.

Such a recurrence needs no matrix product from step to step, and it is associative: ``(a, b)`` then ``(c, d)`` is
``(c a, c b + d)``. An accelerator therefore computes all steps in a logarithmic number of passes
(``lax.associative_scan``; Blelloch 1990). A CPU computes them one after another: each step is one pass over its rows,
and the passes of the associative scan would only move more memory. The gradient is the same recurrence backwards, so
that both directions take the same form. experiments/speed has the measurements.

An ``a_t`` of zero starts anew, which is how episodes begin in mid-sequence. Complex numbers are pairs of real arrays,
because XLA's CPU backend is slow at complex ones.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qmix_jax.networks.linear import sum_rows


class Pair(NamedTuple):
    """Real and imaginary part."""

    real: Float[Array, "*rows H"]
    imag: Float[Array, "*rows H"]


@jax.custom_vjp
def linear_recurrence(
    a: Float[Array, "T R H"], b: Float[Array, "T R H"], start: Float[Array, "R H"]
) -> Float[Array, "T R H"]:
    """``h_1`` to ``h_T`` of ``h_t = a_t h_{t-1} + b_t`` from ``h_0 = start``."""
    return _solve(a, b, start)


def _solve(a, b, start, reverse=False):
    if jax.default_backend() != "cpu":
        products, sums = jax.lax.associative_scan(_both, (a, b), reverse=reverse)
        return sums + products * start[None]

    def step(hidden, slot):
        hidden = slot[0] * hidden + slot[1]
        return hidden, hidden

    return jax.lax.scan(step, start, (a, b), reverse=reverse)[1]


def _both(first, second):
    return second[0] * first[0], second[0] * first[1] + second[1]


def _forward(a, b, start):
    hidden = _solve(a, b, start)
    return hidden, (a, start, hidden)


def _backward(residuals, d_hidden):
    """``g_t = d_hidden_t + a_{t+1} g_{t+1}`` is the gradient of ``b_t``."""
    a, start, hidden = residuals
    d_b = _solve(_following(a), d_hidden, jnp.zeros_like(start), reverse=True)
    return d_b * _before(start, hidden), d_b, a[0] * d_b[0]


linear_recurrence.defvjp(_forward, _backward)


@jax.custom_vjp
def rotating_recurrence(factor: Pair, keep: Float[Array, "T R 1"], b: Pair, start: Pair) -> Pair:
    """The complex ``h_t = keep_t factor h_{t-1} + b_t`` from ``h_0 = start``: the same ``factor`` ``[H]`` at all steps.

    ``b`` is ``[T, R, H]``, ``start`` ``[R, H]``. ``keep`` gets no gradient.
    """
    return _rotate(factor, keep, b, start)


def _rotate(factor, keep, b, start, reverse=False):
    if jax.default_backend() != "cpu":
        a = Pair(*(part[None, None] * keep for part in factor))
        products, sums = jax.lax.associative_scan(_both_pairs, (a, b), reverse=reverse)
        return _plus(sums, _times(products, Pair(*(part[None] for part in start))))
    rows = Pair(*(part[None] for part in factor))

    def step(hidden, slot):
        keep, b = slot
        kept = _times(rows, hidden)
        hidden = Pair(keep * kept.real + b.real, keep * kept.imag + b.imag)
        return hidden, hidden

    return jax.lax.scan(step, start, (keep, b), reverse=reverse)[1]


def _both_pairs(first, second):
    return _times(second[0], first[0]), _plus(_times(second[0], first[1]), second[1])


def _times(x: Pair, y: Pair) -> Pair:
    return Pair(x.real * y.real - x.imag * y.imag, x.real * y.imag + x.imag * y.real)


def _plus(x: Pair, y: Pair) -> Pair:
    return Pair(x.real + y.real, x.imag + y.imag)


def _rotate_forward(factor, keep, b, start):
    hidden = _rotate(factor, keep, b, start)
    return hidden, (factor, keep, start, hidden)


def _rotate_backward(residuals, d_hidden):
    """As above with the conjugate factor, which is the transpose of a product with ``factor``."""
    factor, keep, start, hidden = residuals
    back = Pair(factor.real, -factor.imag)
    d_b = _rotate(back, _following(keep), d_hidden, jax.tree.map(jnp.zeros_like, start), reverse=True)
    before = Pair(*(_before(first, later) * keep for first, later in zip(start, hidden, strict=True)))
    d_real = d_b.real * before.real + d_b.imag * before.imag
    d_imag = d_b.imag * before.real - d_b.real * before.imag
    d_factor = Pair(*(sum_rows(d.reshape(-1, d.shape[-1])) for d in (d_real, d_imag)))
    first = _times(Pair(*(part[None] for part in back)), Pair(d_b.real[0], d_b.imag[0]))
    return d_factor, jnp.zeros_like(keep), d_b, Pair(*(keep[0] * part for part in first))


rotating_recurrence.defvjp(_rotate_forward, _rotate_backward)


def _following(a: Float[Array, "T R H"]) -> Float[Array, "T R H"]:
    """The factor of the step after each."""
    return jnp.concatenate([a[1:], jnp.zeros_like(a[:1])])


def _before(start: Float[Array, "R H"], hidden: Float[Array, "T R H"]) -> Float[Array, "T R H"]:
    """The hidden state before each step."""
    return jnp.concatenate([start[None], hidden[:-1]])
