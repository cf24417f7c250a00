"""Value decomposition (IQL, VDN, QMIX) in JAX: build the parts, then ``algorithm.train`` is a pure function.

The names are loaded when they are first used, so that ``python -m qmix_jax.train`` can refuse a wrong setting before
JAX is imported.
"""

import importlib
from typing import Any

_HOMES = {
    "Algorithm": "qmix_jax.algorithm",
    "Env": "qmix_jax.envs.base",
    "HyperParams": "qmix_jax.types",
    "Sizes": "qmix_jax.algorithm",
    "TrainState": "qmix_jax.types",
    "Waves": "qmix_jax.sweep",
    "load_policy": "qmix_jax.policy",
    "make_algorithm": "qmix_jax.library",
    "make_env": "qmix_jax.envs.build",
}
__all__ = [
    "Algorithm",
    "Env",
    "HyperParams",
    "Sizes",
    "TrainState",
    "Waves",
    "load_policy",
    "make_algorithm",
    "make_env",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'qmix_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
