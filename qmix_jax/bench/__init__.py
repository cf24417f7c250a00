"""Benchmarks of speed and memory: ``python -m qmix_jax.bench``."""
