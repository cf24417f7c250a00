"""How JAX is set up."""

import os

import jax
import jax.numpy as jnp
import pytest

from qmix_jax.runtime import WITHOUT_YNN_REDUCTIONS, avoid_wrong_reductions


def test_reductions_of_many_rows_are_right():
    """jaxlib 0.10.2 by itself returns 1065369600 for the last row (jax issue 39103)."""
    numbers = jnp.arange(32_769, dtype=jnp.float32)
    rows = jnp.stack([numbers, jnp.zeros_like(numbers), jnp.zeros_like(numbers)], axis=1)
    matrix = jnp.eye(3)
    lengths = jax.jit(jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2)))(rows)
    assert lengths[-1] == 32_768.0**2


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", WITHOUT_YNN_REDUCTIONS),
        ("--xla_cpu_multi_thread_eigen=false", f"--xla_cpu_multi_thread_eigen=false {WITHOUT_YNN_REDUCTIONS}"),
        ("--xla_cpu_experimental_ynn_fusion_type=", "--xla_cpu_experimental_ynn_fusion_type="),
    ],
)
def test_flags_of_the_user_are_kept(monkeypatch, before, after):
    monkeypatch.setenv("XLA_FLAGS", before)
    avoid_wrong_reductions()
    assert os.environ["XLA_FLAGS"] == after
