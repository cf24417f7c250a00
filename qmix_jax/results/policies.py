"""Saved policies: parameters as safetensors, and the settings needed to rebuild the network as JSON.

``<name>.safetensors`` holds the agent's parameters, named by their flax names joined with dots (in half precision for
a smaller file, if you wish: they are read as float32). ``<name>.json`` holds
the settings of agent and environment, the sizes, and the origin of the policy. The mixer is not part of a policy.
Reading the files executes nothing in them.
"""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from qmix_jax.envs.base import Env
from qmix_jax.errors import ConfigError
from qmix_jax.logging.files import whole, write_json

FORMAT = "qmix_jax-policy-1"
SUFFIXES = (".json", ".safetensors")


class Policy(NamedTuple):
    """The content of a policy's two files."""

    params: Any
    """Flax variables of the agent: ``{"params": {...}}`` of NumPy arrays."""
    description: Mapping[str, Any]
    """``agent`` and ``env`` settings, ``sizes``, ``algorithm``, ``seed``, ``env_steps``, ``evaluation``."""


def save_policy(path: Path, params: Any, description: Mapping[str, Any]) -> None:
    """Write ``path`` with the suffixes ``.safetensors`` and ``.json``, creating folders as needed."""
    save_arrays(path, params, {"format": FORMAT, **description})


def save_arrays(path: Path, params: Any, description: Mapping[str, Any]) -> None:
    """Write flax variables and a description as a pair of files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tree = params.get("params", {})
    arrays = {name: np.ascontiguousarray(x) for name, x in flatten_dict(tree, sep=".").items()}
    with whole(path.with_suffix(".safetensors")) as partial:
        partial.write_bytes(save(arrays))  # not `save_file`, which tells of a full disk in its own way
    write_json(path.with_suffix(".json"), description)


def load_policy(path: Path | str) -> Policy:
    """Read the pair of files at ``path`` (without suffix).

    Raises :class:`ConfigError` if a file is missing or was not written by :func:`save_policy`.
    """
    params, description = load_arrays(Path(path), FORMAT)
    return Policy(jax.tree.map(lambda x: x.astype(np.float32) if x.dtype == np.float16 else x, params), description)


def shipped_policies() -> dict[str, Path]:
    """The policies that come with the project, by name: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    places = (package / "shipped_policies", package.parent / "experiments" / "policies")
    folder = next((place for place in places if place.is_dir()), places[0])
    return {path.stem: path.with_suffix("") for path in sorted(folder.glob("*.json"))}


def find_policy(name: str) -> Path:
    """The policy (without suffix) that ``policy=name`` means: one that comes with the project, or a file of a run.

    Raises :class:`ConfigError` where there is none.
    """
    shipped = shipped_policies()
    if name in shipped:
        return shipped[name]
    path = Path(name)
    path = path.with_suffix("") if path.suffix in SUFFIXES else path
    if path.with_name(f"{path.name}.json").is_file():
        return path
    if path.is_dir():
        inside = [file.with_suffix("") for depth in ("", "*/", "*/*/") for file in path.glob(f"{depth}seed_*/*.json")]
        inside = sorted(file for file in [*inside, *path.glob("*.json")] if file.stem in ("final", "best"))
        if inside:
            raise ConfigError(f"policy={name}: a folder; did you mean policy={inside[0].with_suffix('')}?")
    if len(path.parts) > 1:
        raise ConfigError(
            f"policy={name}: no such file; a policy is FOLDER/policies/seed_0/best, or one of {_listed(shipped)}"
        )
    near = difflib.get_close_matches(name, shipped, n=1, cutoff=0.0)
    raise ConfigError(f"policy={name}: no such policy; did you mean {''.join(near)}? (choices: {_listed(shipped)})")


def _listed(names: Mapping[str, Path]) -> str:
    return ", ".join(names) or "none"


def load_arrays(path: Path, expected_format: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Flax variables and the description that :func:`save_arrays` wrote. Raises :class:`ConfigError` for others."""
    arrays_path, json_path = path.with_suffix(".safetensors"), path.with_suffix(".json")
    for file in (arrays_path, json_path):
        if not file.is_file():
            raise ConfigError(f"{file}: no such policy file")
    try:
        description = json.loads(json_path.read_text(encoding="utf-8"))
        params = unflatten_dict(load_file(arrays_path), sep=".")
    except (SafetensorError, ValueError, TypeError, IndexError, RecursionError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{path}: not a readable policy: {reason}") from error
    if not isinstance(description, dict) or description.get("format") != expected_format:
        raise ConfigError(f"{json_path}: not of the format {expected_format}")
    return {"params": params}, description


def check_policy(path: Path, policy: Policy, agent: Any, env: Env) -> None:
    """Raise :class:`ConfigError` unless a policy loaded from ``path`` fits ``agent`` and ``env``.

    The size of the global state may differ: only mixers see it.
    """
    sizes = policy.description.get("sizes")
    for name in ("num_agents", "num_actions", "obs_size"):
        size = sizes.get(name) if isinstance(sizes, Mapping) else None
        if size != getattr(env, name):
            raise ConfigError(f"{path}.json: is for {name}={size}, but {env.name} has {name}={getattr(env, name)}")
    example = example_params(path, agent, env)
    check_arrays(f"{path}.safetensors", policy.params, example, f"the agent described in {path.name}.json")


def check_arrays(file: object, params: Any, example: Any, named: str) -> None:
    """Raise :class:`ConfigError` unless the arrays from ``file`` are like those of ``example``, which is ``named``."""
    expected, found = _shapes(example), _shapes(params)
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            there, wanted = found.get(name, "missing"), expected.get(name, "no such parameter")
            raise ConfigError(f"{file}: {name} is {there}, but {named} has {wanted}")


def example_params(path: Path, agent: Any, env: Env) -> Any:
    """Shapes and dtypes of the parameters of ``agent``."""

    def init() -> Any:
        obs, last_action = jnp.zeros((env.num_agents, env.obs_size)), jnp.zeros(env.num_agents, jnp.int32)
        return agent.init(jax.random.key(0), agent.initial_hidden(), obs, last_action)

    try:
        return jax.eval_shape(init)
    except (TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}.json: cannot build the agent from its settings: {reason[:200]}") from error


def _shapes(params: Any) -> dict[str, str]:
    flat: dict[str, Any] = flatten_dict(params["params"], sep=".")
    return {name: f"{np.dtype(value.dtype).name}{list(value.shape)}" for name, value in flat.items()}
