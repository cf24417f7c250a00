"""Speed and memory, measured: ``python -m qmix_jax.bench``."""
