"""SMAX over arrays: battles of StarCraft units, all of one side's units at once."""

from qmix_jax.envs.smax.environment import make_smax

__all__ = ["make_smax"]
