"""What the value of a step is trained towards.

Every function takes one sequence of T slots and returns T targets; axes behind time are carried along, so ``[T]``,
``[T, M]`` and ``[T, M, N]`` all work, as long as the arrays broadcast. ``value[t]`` is the target network's value of
slot t (at the actions that the greedy policy takes there). Targets count only where ``mask`` is 1; such a slot always
has a successor in the sequence. Where ``mask`` is 0 (the final observation of an episode, padding, the end of the
sequence) the return starts again from ``value``: that is the bootstrap of a truncated episode, and a terminated
one never reads it because its last ``discount`` is 0.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Numbers = Float[Array, "T *batch"]


def td_lambda(
    reward: Numbers,
    discount: Numbers,
    mask: Numbers,
    value: Numbers,
    gamma: Float[Array, ""],
    lambda_: Float[Array, ""],
) -> Numbers:
    """Lambda return (Sutton & Barto 2018, equation 12.18, in recursive form)::

        G_t = r_t + gamma discount_t ((1 - lambda) V_{t+1} + lambda G_{t+1})    where mask_t = 1
        G_t = V_t                                                               where mask_t = 0

    ``lambda_`` 0 gives one-step targets, 1 gives Monte Carlo returns with a bootstrap at truncations.
    """
    reward, discount, mask, value = jnp.broadcast_arrays(reward, discount, mask, value)

    def backwards(carry, slot):
        next_value, next_return = carry
        r, d, m, v = slot
        bootstrapped = r + gamma * d * ((1 - lambda_) * next_value + lambda_ * next_return)
        target = jnp.where(m > 0, bootstrapped, v)
        return (v, target), target

    end = (value[-1], value[-1])
    return jax.lax.scan(backwards, end, (reward, discount, mask, value), reverse=True)[1]


def one_step(
    reward: Numbers,
    discount: Numbers,
    mask: Numbers,
    value: Numbers,
    gamma: Float[Array, ""],
    lambda_: Float[Array, ""],
) -> Numbers:
    """One-step target ``y_t = r_t + gamma discount_t V_{t+1}`` (Rashid et al. 2018, equation 6); no ``lambda_``."""
    reward, discount, mask, value = jnp.broadcast_arrays(reward, discount, mask, value)
    next_value = jnp.concatenate([value[1:], value[-1:]])
    return jnp.where(mask > 0, reward + gamma * discount * next_value, value)
