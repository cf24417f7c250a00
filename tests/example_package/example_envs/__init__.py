"""Two small environments from outside qmix_jax."""
