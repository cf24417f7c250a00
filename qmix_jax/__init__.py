"""Value decomposition in JAX: IQL, VDN, QMIX, Qatten, weighted QMIX (CW, OW), QPLEX, QTRAN and PQN.

``run`` trains as the command line does, ``open_run`` reads its results, ``load_policy`` reads a saved policy.
``make_algorithm`` builds the parts for those who want the pure functions.

The names are loaded when they are first used, so that ``python -m qmix_jax.train`` can refuse a wrong setting before
JAX is imported.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qmix_jax.algorithms.base import Algorithm, Sizes
    from qmix_jax.envs.base import Env
    from qmix_jax.envs.build import make_env
    from qmix_jax.errors import ConfigError
    from qmix_jax.library import make_algorithm, run
    from qmix_jax.results.opened import open_run
    from qmix_jax.results.policies import load_policy
    from qmix_jax.types import HyperParams, TrainState

_HOMES = {
    "Algorithm": "qmix_jax.algorithms.base",
    "ConfigError": "qmix_jax.errors",
    "Env": "qmix_jax.envs.base",
    "HyperParams": "qmix_jax.types",
    "Sizes": "qmix_jax.algorithms.base",
    "TrainState": "qmix_jax.types",
    "load_policy": "qmix_jax.results.policies",
    "make_algorithm": "qmix_jax.library",
    "make_env": "qmix_jax.envs.build",
    "open_run": "qmix_jax.results.opened",
    "run": "qmix_jax.library",
}
__all__ = [
    "Algorithm",
    "ConfigError",
    "Env",
    "HyperParams",
    "Sizes",
    "TrainState",
    "load_policy",
    "make_algorithm",
    "make_env",
    "open_run",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'qmix_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
