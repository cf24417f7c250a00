"""Saved policies: parameters as safetensors, everything needed to rebuild the network as JSON beside them.

``<name>.safetensors`` holds the agent's parameters under their flax names joined by dots; ``<name>.json`` holds the
agent's and the environment's settings, the sizes, and where the policy comes from. The mixer is not part of a policy.
Nothing in either file is executed when they are read.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from qmix_jax.errors import ConfigError
from qmix_jax.logging.files import write_json

FORMAT = "qmix_jax-policy-1"


class Policy(NamedTuple):
    """A policy as it is on disk."""

    params: Any
    """Flax variables of the agent: ``{"params": {...}}`` of NumPy arrays."""
    description: Mapping[str, Any]
    """``agent`` and ``env`` settings, ``sizes``, ``algorithm``, ``seed``, ``env_steps``, ``evaluation``."""


def save_policy(path: Path, params: Any, description: Mapping[str, Any]) -> None:
    """Write ``path`` with the suffixes ``.safetensors`` and ``.json``; folders are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.ascontiguousarray(x) for name, x in flatten_dict(params["params"], sep=".").items()}
    partial = path.with_suffix(".safetensors.partial")
    save_file(arrays, partial)
    partial.replace(path.with_suffix(".safetensors"))
    write_json(path.with_suffix(".json"), {"format": FORMAT, **description})


def load_policy(path: Path) -> Policy:
    """Read the pair of files at ``path`` (without suffix).

    Raises :class:`ConfigError` where a file is missing or is not what :func:`save_policy` writes.
    """
    arrays_path, json_path = path.with_suffix(".safetensors"), path.with_suffix(".json")
    for file in (arrays_path, json_path):
        if not file.is_file():
            raise ConfigError(f"{file}: no such policy file")
    try:
        description = json.loads(json_path.read_text(encoding="utf-8"))
        arrays = load_file(arrays_path)
    except (SafetensorError, ValueError, OSError) as error:
        raise ConfigError(f"{path}: not a readable policy: {str(error).splitlines()[0]}") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ConfigError(f"{json_path}: not a policy of format {FORMAT}")
    return Policy({"params": unflatten_dict(arrays, sep=".")}, description)
