"""Environments, all behind :class:`qmix_jax.envs.base.Env`."""
