"""Choosing among the available actions."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def masked_argmax(q: Float[Array, "*batch A"], avail_actions: Bool[Array, "*batch A"]) -> Int[Array, "*batch"]:
    """The best available action; ties go to the lowest index. The only place that masks values."""
    return jnp.where(avail_actions, q, -jnp.inf).argmax(axis=-1)


Exploration = Callable[[Float[Array, "*batch A"], Bool[Array, "*batch A"], Float[Array, ""]], Float[Array, "*batch A"]]
"""Action values, available actions and the current epsilon (or temperature) to log-probabilities of actions."""


def draw(noise: Float[Array, "*batch A"], log_probs: Float[Array, "*batch A"]) -> Int[Array, "*batch"]:
    """An action for every row, from standard Gumbel noise (the Gumbel-max trick).

    The noise is given, so that it can be drawn for many steps at once.
    """
    return (log_probs + noise).argmax(axis=-1).astype(jnp.int32)


def epsilon_greedy(
    q: Float[Array, "*batch A"], avail_actions: Bool[Array, "*batch A"], epsilon: Float[Array, ""]
) -> Float[Array, "*batch A"]:
    """Log-probabilities: with ``epsilon`` a uniformly random available action, else the greedy one.

    Minus infinity where an action is never taken.
    """
    greedy = jax.nn.one_hot(masked_argmax(q, avail_actions), q.shape[-1], dtype=q.dtype)
    uniform = avail_actions / avail_actions.sum(axis=-1, keepdims=True)
    return jnp.log(epsilon * uniform + (1 - epsilon) * greedy)


def linear_schedule(
    start: Float[Array, ""], end: Float[Array, ""], steps: Float[Array, ""], at: Int[Array, ""]
) -> Float[Array, ""]:
    """From ``start`` to ``end`` over ``steps`` environment steps, then constant."""
    return start + _passed(steps, at) * (end - start)


def exponential_schedule(
    start: Float[Array, ""], end: Float[Array, ""], steps: Float[Array, ""], at: Int[Array, ""]
) -> Float[Array, ""]:
    """From ``start`` to ``end`` by equal ratios over ``steps`` environment steps, then constant (as PyMARL's)."""
    return start * (end / start) ** _passed(steps, at)


def _passed(steps: Float[Array, ""], at: Int[Array, ""]) -> Float[Array, ""]:
    """The share of a schedule that has passed; all of it where it has no steps."""
    return jnp.where(steps > 0, jnp.clip(at / jnp.maximum(steps, 1.0), 0.0, 1.0), 1.0)
