"""What run folders made by earlier versions call things, and what these are called now."""

from collections.abc import Mapping
from typing import Any

MOVED = {
    "qmix_jax.agents": "qmix_jax.networks.agents",
    "qmix_jax.optimizers": "qmix_jax.learning.optimizers",
    "qmix_jax.targets": "qmix_jax.learning.targets",
}
"""Modules that a saved ``_target_`` may name, and where they are now."""

ADDED: dict[str, dict[str, Any]] = {
    "algorithm": {"_target_": "qmix_jax.algorithms.value_decomposition.ValueDecomposition"},
    "exploration": {"_target_": "qmix_jax.acting.explore.epsilon_greedy", "fraction": 0.15},
    "learner": {"burn_in": 0},
    "logger": {"tensorboard": False, "wandb": {"system": False, "video": False, "artifacts": False}},
    "rollout": {"overlap": False, "sequences": "fresh"},
    "sweep": {"temperature_start": None, "temperature_end": None, "temperature_steps": None},
    "target": {"network": "target"},
}
"""Settings by section that older folders lack, with the values that they were run with."""

ADDED_TO: dict[str, dict[str, Any]] = {
    "qmix_jax.envs.smax.make_smax": {"physics": "smax", "terrain": False},
    "qmix_jax.envs.jaxmarl.make_mpe": {"reward": "sum"},
    "qmix_jax.envs.jaxmarl.make_jaxmarl": {"team": None, "opponents": "random"},
}
"""The same by ``_target_``, for settings that only this one has."""

RENAMED = {("agent", "layer_norm"): ("norm", {False: "none", True: "layer"})}
"""Settings that have another name, and their values' names today."""


def current_target(target: Any) -> Any:
    """The import path today of what a saved ``_target_`` names."""
    module, _, name = str(target).rpartition(".")
    return f"{MOVED[module]}.{name}" if module in MOVED else target


def current_settings(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Saved settings of a run in today's words."""
    current = dict(saved)
    for section, value in saved.items():
        if isinstance(value, Mapping):
            target = {"_target_": current_target(value["_target_"])} if "_target_" in value else {}
            added = {**ADDED.get(section, {}), **ADDED_TO.get(str(target.get("_target_")), {})}
            current[section] = {**_completed(_renamed(section, value), added), **target}
    return current


def _renamed(section: str, saved: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(saved)
    for (of, old), (new, names) in RENAMED.items():
        if of == section and old in found and new not in found:
            value = found.pop(old)
            found[new] = names.get(value, value)
    return found


def _completed(saved: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    """``saved`` with what it lacks of ``added``, in inner sections too."""
    found = {**added, **saved}
    for key, value in added.items():
        if isinstance(value, Mapping) and isinstance(found[key], Mapping):
            found[key] = _completed(found[key], value)
    return found
