"""Choosing among the available actions."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key


def masked_argmax(q: Float[Array, "*batch A"], avail_actions: Bool[Array, "*batch A"]) -> Int[Array, "*batch"]:
    """The best available action; ties go to the lowest index. The only place that masks values."""
    return jnp.where(avail_actions, q, -jnp.inf).argmax(axis=-1)


def epsilon_greedy(
    key: Key[Array, ""],
    q: Float[Array, "*batch A"],
    avail_actions: Bool[Array, "*batch A"],
    epsilon: Float[Array, ""],
) -> Int[Array, "*batch"]:
    """With probability ``epsilon`` a uniformly random available action, else the greedy one, for each row."""
    return noisy_choice(jax.random.gumbel(key, q.shape, q.dtype), q, avail_actions, epsilon)


def noisy_choice(
    noise: Float[Array, "*batch A"],
    q: Float[Array, "*batch A"],
    avail_actions: Bool[Array, "*batch A"],
    epsilon: Float[Array, ""],
) -> Int[Array, "*batch"]:
    """:func:`epsilon_greedy` with its Gumbel noise given, so that the noise of many steps can be drawn at once."""
    return (log_policy(q, avail_actions, epsilon) + noise).argmax(axis=-1).astype(jnp.int32)


def log_policy(
    q: Float[Array, "*batch A"], avail_actions: Bool[Array, "*batch A"], epsilon: Float[Array, ""]
) -> Float[Array, "*batch A"]:
    """Log-probabilities of the epsilon-greedy policy; minus infinity where an action is never taken."""
    greedy = jax.nn.one_hot(masked_argmax(q, avail_actions), q.shape[-1], dtype=q.dtype)
    uniform = avail_actions / avail_actions.sum(axis=-1, keepdims=True)
    return jnp.log(epsilon * uniform + (1 - epsilon) * greedy)


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
