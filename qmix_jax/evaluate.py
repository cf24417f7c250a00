"""The command line ``python -m qmix_jax.evaluate``: plays the policies that a run has saved."""

from qmix_jax.results.play import main

if __name__ == "__main__":
    main()
