"""How JAX is set up."""

import gc
import os
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from qmix_jax.errors import ConfigError
from qmix_jax.networks.agents import RecurrentAgent, unroll
from qmix_jax.running.devices import (
    MATMUL_PRECISIONS,
    MIN_COMPILE_TIME,
    WITHOUT_YNN_REDUCTIONS,
    avoid_wrong_reductions,
    check_matmul_precision,
    check_platform,
    check_xla_flags,
    set_up,
    tracing,
)
from qmix_jax.running.programs.lanes import compiler_options


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


def test_options_that_the_user_has_set_are_not_set_again(monkeypatch):
    mesh, own = Mesh(np.array(jax.devices()[:1]), ("lanes",)), {"xla_backend_optimization_level": 1, "xla_other": True}
    monkeypatch.setenv("XLA_FLAGS", "--xla_unrelated=1")
    assert compiler_options(mesh, own) == own
    monkeypatch.setenv("XLA_FLAGS", "--xla_unrelated=1 --xla_backend_optimization_level=3")
    assert compiler_options(mesh, own) == {"xla_other": True}


@pytest.mark.parametrize("is_the_users", [False, True])
@pytest.mark.parametrize(("home", "is_kept"), [("there", True), ("file", False)])
def test_programs_are_kept_where_the_users_cache_can_be_written(monkeypatch, tmp_path, home, is_kept, is_the_users):
    (tmp_path / "file").touch()
    before = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / home))
    if is_the_users:
        monkeypatch.setenv(MIN_COMPILE_TIME, "0.2")
    else:
        monkeypatch.delenv(MIN_COMPILE_TIME, raising=False)
    monkeypatch.setenv("XLA_FLAGS", WITHOUT_YNN_REDUCTIONS)
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        set_up()
        folder = tmp_path / home / "qmix_jax" / "xla"
        assert jax.config.jax_compilation_cache_dir == (str(folder) if is_kept else None)
        assert folder.is_dir() == is_kept
        small_ones_too = is_kept and not is_the_users
        assert jax.config.jax_persistent_cache_min_compile_time_secs == (0 if small_ones_too else before[1])
    finally:
        jax.config.update("jax_compilation_cache_dir", before[0])
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before[1])


def test_flags_that_xla_would_abort_for_are_refused(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", WITHOUT_YNN_REDUCTIONS)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("asked XLA about our own flag"))
    check_xla_flags()
    monkeypatch.undo()
    monkeypatch.setenv("XLA_FLAGS", f"--nonsense {WITHOUT_YNN_REDUCTIONS}")
    with pytest.raises(ConfigError, match=r"^XLA_FLAGS=--nonsense .*: Unknown flag in XLA_FLAGS: --nonsense"):
        check_xla_flags()


@pytest.mark.parametrize("precision", ["tensorfloat32", "bfloat16"])
def test_a_cpu_has_no_products_of_lower_precision(precision):
    with pytest.raises(ConfigError, match=f"^devices.matmul_precision={precision}: needs an accelerator"):
        check_matmul_precision(precision)
    check_matmul_precision("float32")
    check_matmul_precision(None)


@pytest.mark.parametrize(
    ("precision", "marks"),
    [
        (None, "precision = [DEFAULT, DEFAULT]"),
        ("float32", "precision = [HIGHEST, HIGHEST]"),
        ("tensorfloat32", "lhs_precision_type = tf32, rhs_precision_type = tf32, accumulation_type = f32"),
        ("bfloat16", "lhs_precision_type = bf16, rhs_precision_type = bf16, accumulation_type = f32"),
    ],
)
def test_every_product_of_a_gradient_has_the_precision(precision, marks):
    """Read off what would be compiled for a GPU, since there may be none here."""
    agent = RecurrentAgent(obs_size=3, num_agents=2, num_actions=4, hidden_size=8)
    obs, last_action = jnp.zeros((5, 6, 2, 3)), jnp.zeros((5, 6, 2), jnp.int32)
    params = jax.eval_shape(agent.init, jax.random.key(0), agent.initial_hidden(6), obs[0], last_action[0])

    def loss(params):
        return unroll(agent, params, obs, last_action, jnp.zeros((5, 6), bool)).sum()

    with jax.default_matmul_precision(precision and MATMUL_PRECISIONS[precision]):
        lowered = jax.jit(jax.grad(loss)).trace(params).lower(lowering_platforms=("cuda",))
    products = [line for line in lowered.as_text().splitlines() if "dot_general" in line]
    assert len(products) >= 8
    assert all(marks in line for line in products), products


@pytest.mark.parametrize("before", [True, False])
def test_garbage_is_collected_after_tracing_as_before(before):
    try:
        (gc.enable if before else gc.disable)()
        with tracing():
            assert not gc.isenabled()
        assert gc.isenabled() is before
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["jax_enable_x64", "jax_disable_jit", "jax_debug_nans"])
def test_other_arithmetic_than_ours_is_refused(name):
    before = getattr(jax.config, name)
    jax.config.update(name, True)
    try:
        with pytest.raises(ConfigError, match=f"^{name.upper()}=1: .* unset it"):
            set_up()
    finally:
        jax.config.update(name, before)


def test_a_platform_that_is_not_there_is_named(monkeypatch):
    def none() -> None:
        raise RuntimeError("Unable to initialize backend 'cuda'\nmore")

    monkeypatch.setattr(jax, "local_devices", none)
    with pytest.raises(ConfigError, match=r"^devices.platform=gpu: not available here \(Unable to .*'cuda'\)$"):
        check_platform("gpu")
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(ConfigError, match=r"^JAX_PLATFORMS=cuda: not available here"):
        check_platform()
