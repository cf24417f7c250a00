"""Gradient transformations. The learner applies the learning rate and the clipping norm itself, as traced numbers.

The learner passes all parameters and their gradients as one vector ``[P]``. Transformations that treat every number
alike work as they are; those that depend on layers do not.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from qmix_jax.errors import require


def adam(beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015), as in PyTorch."""
    _check(beta1=beta1, beta2=beta2, eps=eps)
    return optax.scale_by_adam(b1=beta1, b2=beta2, eps=eps)


def radam(beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformation:
    """Rectified Adam (Liu et al. 2020)."""
    _check(beta1=beta1, beta2=beta2, eps=eps)
    return optax.scale_by_radam(b1=beta1, b2=beta2, eps=eps)


def rmsprop(decay: float = 0.99, eps: float = 1e-5) -> optax.GradientTransformation:
    """RMSprop as PyTorch and PyMARL compute it: ``g / (sqrt(mean square) + eps)``, eps outside the root."""
    _check(decay=decay, eps=eps)
    return optax.scale_by_rms(decay=decay, eps=eps, eps_in_sqrt=False)


def clip_by_global_norm(gradients: Any, max_norm: Float[Array, ""]) -> tuple[Any, Float[Array, ""]]:
    """Scale all gradients to a global norm of at most ``max_norm``; also return the norm before clipping.

    As PyTorch's ``clip_grad_norm_``: ``g * min(1, max_norm / (norm + 1e-6))``.
    """
    norm = global_norm(gradients)
    scale = jnp.minimum(1.0, max_norm / (norm + 1e-6))
    return jax.tree.map(lambda g: g * scale, gradients), norm


def global_norm(tree: Any) -> Float[Array, ""]:
    """The Euclidean norm of all numbers, from products of vectors, which XLA's CPU backend adds up faster."""
    return jnp.sqrt(sum((jnp.vdot(x, x) for x in jax.tree.leaves(tree)), jnp.zeros(())))


def _check(eps: float, **decays: float) -> None:
    require(eps > 0, "optimizer.eps", eps, "more than 0")
    for name, value in decays.items():
        require(0 <= value < 1, f"optimizer.{name}", value, "at least 0 and less than 1")
