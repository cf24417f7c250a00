"""Value decomposition (IQL, VDN, QMIX) in JAX: build the parts, then ``algorithm.train`` is a pure function.

The names are loaded when they are first used, so that ``python -m qmix_jax.train`` can refuse a wrong setting before
JAX is imported.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qmix_jax.algorithms.loop import Algorithm, Sizes
    from qmix_jax.envs.base import Env
    from qmix_jax.envs.build import make_env
    from qmix_jax.results.policies import load_policy
    from qmix_jax.running.waves import Waves
    from qmix_jax.settings.library import make_algorithm
    from qmix_jax.types import HyperParams, TrainState

_HOMES = {
    "Algorithm": "qmix_jax.algorithms.loop",
    "Env": "qmix_jax.envs.base",
    "HyperParams": "qmix_jax.types",
    "Sizes": "qmix_jax.algorithms.loop",
    "TrainState": "qmix_jax.types",
    "Waves": "qmix_jax.running.waves",
    "load_policy": "qmix_jax.results.policies",
    "make_algorithm": "qmix_jax.settings.library",
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
