"""Strict arithmetic, one device, and a cache of compiled programs for the next test run."""

import hashlib
import os
import platform
from pathlib import Path

# Before anything imports jax. To choose another platform: JAX_PLATFORMS=cuda make test
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis
import jax
import pytest

from qmix_jax.running.devices import avoid_wrong_reductions

avoid_wrong_reductions()
jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])
jax.config.update("jax_numpy_rank_promotion", "raise")

# Compiled in a fifth of the time, into slow code: what tests compute themselves, and the commands that they start.
quickly = ["--xla_backend_optimization_level=0"]
if jax.__version_info__ < (0, 11):  # later ones may not have this one
    quickly.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ["XLA_FLAGS"], *(f for f in quickly if f not in os.environ["XLA_FLAGS"])])

hypothesis.settings.register_profile("project", max_examples=20, deadline=None, derandomize=True)
hypothesis.settings.load_profile("project")


def pytest_configure(config: pytest.Config) -> None:
    """Cache compiled programs in pytest's cache folder, for this process and the commands that tests start."""
    cache = getattr(config, "cache", None)
    if cache is None:  # pytest -p no:cacheprovider
        return
    folder = str(cache.mkdir(f"jax-{_machine()}"))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


LONGEST = (
    "test_waves.py",
    "test_resume.py",
    "test_envs.py",
    "test_training.py",
    "test_command_line.py",
    "test_jaxmarl_parity.py",
    "test_kills.py",
    "test_explanation.py",
    "test_learning_step.py",
    "test_fuzz.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: the other worker would have to wait for one that is started last."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def _machine() -> str:
    """A short name for this processor type: programs compiled for one type may not run on another."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    features = {line for line in lines if line.lower().startswith(("flags", "features", "model name"))}
    text = " ".join([platform.machine(), platform.processor(), *sorted(features)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]
