"""Boltzmann exploration, on distrax's distributions."""

from typing import cast

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def softmax(
    q: Float[Array, "*batch A"], avail_actions: Bool[Array, "*batch A"], temperature: Float[Array, ""]
) -> Float[Array, "*batch A"]:
    """Log-probabilities of ``pi(a) ~ exp(q_a / temperature)`` over the available actions (Sutton & Barto 2018, 2.2).

    Minus infinity where an action is not available. ``temperature`` has the unit of ``q``; near 0 the policy is greedy.
    """
    import distrax  # Not at the top: it takes two seconds, and only this needs it.

    # Relative to the best action, so that small temperatures do not overflow.
    values = jnp.where(avail_actions, q, -jnp.inf)
    values = values - values.max(axis=-1, keepdims=True)
    # distrax's types say float, but a traced temperature is as good.
    return cast(Array, distrax.Softmax(values, cast(float, jnp.maximum(temperature, 1e-6))).logits)
