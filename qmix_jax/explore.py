"""Choosing actions among those that are available."""

import distrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key


def masked_argmax(q: Float[Array, "*batch A"], avail_actions: Bool[Array, "*batch A"]) -> Int[Array, "*batch"]:
    """The best available action; the lowest index among equals. The only place that masks values."""
    return jnp.where(avail_actions, q, -jnp.inf).argmax(axis=-1)


def epsilon_greedy(
    key: Key[Array, ""],
    q: Float[Array, "*batch A"],
    avail_actions: Bool[Array, "*batch A"],
    epsilon: Float[Array, ""],
) -> Int[Array, "*batch"]:
    """With probability ``epsilon`` a uniformly random available action, else the greedy one; a coin per row."""
    greedy = jax.nn.one_hot(masked_argmax(q, avail_actions), q.shape[-1], dtype=q.dtype)
    uniform = avail_actions / avail_actions.sum(axis=-1, keepdims=True)
    return distrax.Categorical(probs=epsilon * uniform + (1 - epsilon) * greedy).sample(seed=key)


def linear_schedule(
    start: Float[Array, ""], end: Float[Array, ""], steps: Float[Array, ""], at: Int[Array, ""]
) -> Float[Array, ""]:
    """From ``start`` to ``end`` over ``steps`` environment steps, then constant."""
    fraction = jnp.clip(at / jnp.maximum(steps, 1.0), 0.0, 1.0)
    return start + fraction * (end - start)


def exponential_schedule(
    start: Float[Array, ""], end: Float[Array, ""], steps: Float[Array, ""], at: Int[Array, ""]
) -> Float[Array, ""]:
    """From ``start`` to ``end`` by equal ratios over ``steps`` environment steps, then constant (as PyMARL's)."""
    fraction = jnp.clip(at / jnp.maximum(steps, 1.0), 0.0, 1.0)
    return start * (end / start) ** fraction
