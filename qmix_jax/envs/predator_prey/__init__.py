"""Predator-prey with a penalty for hunting alone."""

from qmix_jax.envs.predator_prey.environment import make_predator_prey

__all__ = ["make_predator_prey"]
