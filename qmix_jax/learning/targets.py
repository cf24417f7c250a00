"""Targets of temporal-difference learning.

Every function takes one :class:`Sequence` of T slots and returns T targets. Axes after time are batch axes, so ``[T]``,
``[T, M]`` and ``[T, M, N]`` all work, as long as the arrays broadcast. Targets count only where ``mask`` is 1; such a
slot always has a successor in the sequence. Where ``mask`` is 0 (the final observation of an episode, padding, the end
of the sequence) the return restarts from ``value``. That is the bootstrap of a truncated episode; a terminated one
never reads it, because its last ``discount`` is 0.

A custom target has the same signature: ``(sequence, gamma, td_lambda, **settings of its yaml) -> [T, ...]``.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qmix_jax.errors import require

Numbers = Float[Array, "T *batch"]
Number = Float[Array, ""]


class Sequence(NamedTuple):
    """The inputs of a target; ``value`` and ``taken_value`` come from the target networks (after mixing)."""

    reward: Numbers
    discount: Numbers
    mask: Numbers
    value: Numbers
    """Value of the greedy actions in slot t."""
    taken_value: Numbers
    """Value of the actions taken in slot t. Compiled away if a target does not read it."""


def one_step(sequence: Sequence, gamma: Number, td_lambda: Number) -> Numbers:
    """One-step target ``y_t = r_t + gamma discount_t V_{t+1}`` (Rashid et al. 2018, equation 6); no ``td_lambda``."""
    return n_step(sequence, gamma, td_lambda, n=1)


def n_step(sequence: Sequence, gamma: Number, td_lambda: Number, n: int = 3) -> Numbers:
    """n-step return (Sutton & Barto 2018, equation 7.1); it bootstraps earlier if the episode is truncated earlier.

    ``G_t = r_t + gamma discount_t r_{t+1} + ... + gamma^n discount_t ... discount_{t+n-1} V_{t+n}``; no ``td_lambda``.
    """
    require(n >= 1, "target.n", n, "at least 1")
    reward, discount, mask, value, _ = _broadcast(sequence)
    target = value
    for _ in range(n):
        following = jnp.concatenate([target[1:], target[-1:]])
        target = jnp.where(mask > 0, reward + gamma * discount * following, value)
    return target


def td_lambda(sequence: Sequence, gamma: Number, td_lambda: Number) -> Numbers:
    """Lambda return (Sutton & Barto 2018, equation 12.18, in recursive form)::

        G_t = r_t + gamma discount_t ((1 - lambda) V_{t+1} + lambda G_{t+1})    where mask_t = 1
        G_t = V_t                                                               where mask_t = 0

    ``td_lambda`` 0 gives one-step targets, 1 gives Monte Carlo returns with a bootstrap at truncations.
    """
    reward, discount, mask, value, _ = _broadcast(sequence)

    def backwards(carry, slot):
        next_value, next_return = carry
        r, d, m, v = slot
        bootstrapped = r + gamma * d * ((1 - td_lambda) * next_value + td_lambda * next_return)
        target = jnp.where(m > 0, bootstrapped, v)
        return (v, target), target

    end = (value[-1], value[-1])
    return jax.lax.scan(backwards, end, (reward, discount, mask, value), reverse=True)[1]


def q_lambda(sequence: Sequence, gamma: Number, td_lambda: Number) -> Numbers:
    """Off-policy corrected Q(lambda) (Harutyunyan et al. 2016, equation 4, towards the greedy policy)::

        G_t = r_t + gamma discount_t (V_{t+1} + lambda mask_{t+1} (G_{t+1} - U_{t+1}))    where mask_t = 1

    ``U`` is the value of the actions taken: the correction removes the effect of exploratory actions from the return.
    """
    reward, discount, mask, value, taken = _broadcast(sequence)

    def backwards(carry, slot):
        next_value, next_error = carry
        r, d, m, v, u = slot
        target = jnp.where(m > 0, r + gamma * d * (next_value + td_lambda * next_error), v)
        return (v, m * (target - u)), target

    end = (value[-1], jnp.zeros_like(value[-1]))
    return jax.lax.scan(backwards, end, (reward, discount, mask, value, taken), reverse=True)[1]


def pymarl2_q_lambda(sequence: Sequence, gamma: Number, td_lambda: Number) -> Numbers:
    """Q(lambda) as PyMARL2 computes it: the textbook return plus ``V_t - U_t`` of its own slot. For parity only."""
    _, _, mask, value, taken = _broadcast(sequence)
    return q_lambda(sequence, gamma, td_lambda) + mask * (value - taken)


def _broadcast(sequence: Sequence) -> list[Numbers]:
    return jnp.broadcast_arrays(*sequence)
