"""Environments, all with the interface :class:`qmix_jax.envs.base.Env`."""
