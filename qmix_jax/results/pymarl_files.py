"""Policies from the network files of PyMARL, PyMARL2 and EPyMARL, and back."""

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from qmix_jax.envs.build import make_env
from qmix_jax.envs.settings import check_choice
from qmix_jax.errors import ConfigError, unknown_choice
from qmix_jax.networks.pymarl_names import agent_from_pymarl, agent_to_pymarl, mixer_from_pymarl
from qmix_jax.results.explanation.mixers import save_mixer
from qmix_jax.results.policies import check_arrays, example_params, load_policy, save_policy
from qmix_jax.results.team import Choice, policy_paths
from qmix_jax.settings.build import build_agent
from qmix_jax.settings.command_line import compose_config
from qmix_jax.settings.reading import to_container

SUFFIXES = (".safetensors", ".npz", ".th", ".pt")
"""Of files of networks; the last two are PyTorch's."""


def import_policy(files: Sequence[Path], run_dir: Path, overrides: Sequence[str]) -> list[Path]:
    """Save the policy in ``files`` (agent, optionally mixer) for an environment; return the paths.

    Raises :class:`ConfigError` for files that cannot be read or do not fit, and if the folder already holds policies.
    """
    if any(run_dir.glob("policies/*")):
        raise ConfigError(f"run_dir={run_dir}: already holds policies; give another folder")
    container = to_container(compose_config(overrides))
    env_settings = container["env"]
    env = make_env(env_settings)
    state = read(files[0])
    with _naming(files[0]):
        params, agent_settings = agent_from_pymarl(state, env.obs_size, env.num_actions, env.num_agents)
    params = {"params": {name: np.asarray(x, np.float32) for name, x in params["params"].items()}}
    mixer = None
    if len(files) == 2:
        state = read(files[1])
        with _naming(files[1]):
            mixer = jax.tree.map(lambda x: np.asarray(x, np.float32), mixer_from_pymarl(state))
    sizes = {key: getattr(env, key) for key in ("num_agents", "num_actions", "obs_size", "state_size")}
    description: dict[str, Any] = {
        "algorithm": "pymarl",
        "seed": 0,
        "env_steps": None,
        "evaluation": None,
        "sizes": sizes,
        "agent": agent_settings,
        "env": env_settings,
        "source": files[0].name,
    }
    folder = run_dir / "policies" / "seed_0"
    example = example_params(files[0], build_agent(agent_settings, env), env)
    check_arrays(files[0], params, example, f"an agent in {env.name}")
    for which in ("final", "best"):
        save_policy(folder / which, params, description)
        if mixer is not None:
            save_mixer(folder / which, mixer, {**container, "mixer": _qmix_settings(mixer)})
    return [folder / which for which in ("final", "best")]


def _qmix_settings(mixer: dict[str, Any]) -> dict[str, Any]:
    """The section ``mixer`` of the settings that has these parameters."""
    layers = mixer["params"]
    hidden = layers.get("hyper_w1_hidden")
    size = {} if hidden is None else {"hypernet_size": hidden["bias"].shape[0]}
    return {
        "_target_": "qmix_jax.mixers.qmix.QMIXMixer",
        "embed_size": layers["hyper_b1"]["bias"].shape[0],
        "hypernet_layers": 1 if hidden is None else 2,
        **size,
    }


def export_policy(run_dir: Path, out: Path, options: dict[str, str]) -> Path:
    """Write the agent of a saved policy as PyMARL's state dict.

    Raises :class:`ConfigError` if the policy is missing, if PyMARL has no such network, and for unknown file types.
    """
    if not out.parent.is_dir():
        raise ConfigError(f"out={out}: no such folder: {out.parent}")
    if out.suffix not in SUFFIXES:
        raise unknown_choice("out", out, [f"{out.with_suffix(suffix)}" for suffix in SUFFIXES[:3]])
    which = options.get("which", "final")
    check_choice("which", which, ("final", "best"))
    seed, cell = (_number(name, options.get(name)) for name in ("seed", "cell"))
    path = next(iter(policy_paths(Choice(str(run_dir), cast(Any, which), seed, cell)).values()))
    policy = load_policy(path)
    with _naming(path):
        state = agent_to_pymarl(policy.params)
    write(out, state)
    return out


def _number(name: str, text: str | None) -> int | None:
    if text is not None and not text.isdecimal():
        raise ConfigError(f"{name}={text}: must be a whole number from 0 on")
    return None if text is None else int(text)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Begin the message of a :class:`ConfigError` with the file that it is about."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays in a file.

    Raises :class:`ConfigError` if the file is missing, has an unknown type, or holds more than arrays.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return dict(file)
        if path.suffix in (".th", ".pt"):
            return _read_torch(path)
    except (SafetensorError, ValueError, OSError, EOFError) as error:
        raise ConfigError(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from error
    raise ConfigError(f"{path}: must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays to a file; its suffix, one of ``SUFFIXES``, chooses the type.

    Raises :class:`ConfigError` where PyTorch is needed and missing.
    """
    if path.suffix == ".safetensors":
        path.write_bytes(save(arrays))
    elif path.suffix == ".npz":
        np.savez(path, **arrays)  # type: ignore[arg-type]
    else:
        torch = _torch(path)
        torch.save({name: torch.from_numpy(x.copy()) for name, x in arrays.items()}, path)


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    torch = _torch(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {name: tensor.numpy() for name, tensor in state.items()}
    except Exception as error:  # PyTorch raises its own and pickle's errors, and AttributeError for anything but a dict
        raise ConfigError(f"{path}: holds more than arrays: {' '.join(str(error).split())[:200]}") from error


def _torch(path: Path) -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise ConfigError(
            f"{path}: needs PyTorch; pip install 'qmix_jax[torch]', or give .npz or .safetensors"
        ) from error
