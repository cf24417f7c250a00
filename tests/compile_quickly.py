"""Compile what a test computes in a fifth of the time, into slow code."""

import os

import jax

from qmix_jax.running.programs.lanes import COMPILER_OPTIONS

FLAGS = "--xla_backend_optimization_level=0"
if jax.__version_info__ < (0, 11):  # later ones may not have this one
    FLAGS += " --xla_cpu_use_fusion_emitters=false"


def in_this_process() -> None:
    """XLA reads its flags once, with the first program; the programs of a run would go by options of their own."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}".strip()
    jax.jit(lambda: 0)()
    COMPILER_OPTIONS.clear()
