"""``python -m qmix_jax.import_pymarl``: import PyMARL's saved networks as policies, and export policies."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from qmix_jax.errors import ConfigError

USAGE = """\
Import a network saved by PyMARL, PyMARL2 or EPyMARL as a policy for qmix_jax.evaluate:

  python -m qmix_jax.import_pymarl agent.th [mixer.th] run_dir=FOLDER env=... [env.KEY=VALUE ...]

Export a policy as a PyMARL state dict:

  python -m qmix_jax.import_pymarl out=agent.npz run_dir=FOLDER [seed=0] [which=final|best]

Files are .safetensors, .npz or .th. Reading .th needs PyTorch (pip install torch); only arrays are loaded.
The mixer is not part of a policy; it is saved in the same folder as mixer.safetensors, with qmix_jax's names.

Example:

  python -m qmix_jax.import_pymarl agent.safetensors run_dir=runs/imported env=smax env.scenario=3m
  python -m qmix_jax.evaluate run_dir=runs/imported"""

OPTIONS = ("run_dir", "out", "seed", "which")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line. Exit status 2, with one line on standard error, for invalid input."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or any(argument in ("help", "--help", "-h") for argument in arguments):
        print(USAGE)
        return
    files = [argument for argument in arguments if "=" not in argument]
    options = dict(a.split("=", 1) for a in arguments if a.split("=", 1)[0] in OPTIONS)
    overrides = [a for a in arguments if "=" in a and a.split("=", 1)[0] not in OPTIONS]
    try:
        run_dir = options.get("run_dir")
        if not run_dir:
            raise ConfigError("run_dir: missing; give a folder: run_dir=runs/imported")
        if "out" in options:
            if files or overrides:
                raise ConfigError(f"{(files + overrides)[0]}: not used with out=; the policy has all settings")
            print(f"out={export_policy(Path(run_dir), Path(options['out']), options)}")
            return
        if not 1 <= len(files) <= 2:
            raise ConfigError(f"{' '.join(files) or 'agent file'}: give the agent's file and optionally the mixer's")
        for path in import_policy([Path(file) for file in files], Path(run_dir), overrides):
            print(f"policy={path}")
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def import_policy(files: Sequence[Path], run_dir: Path, overrides: Sequence[str]) -> list[Path]:
    """Save the policy in ``files`` (agent, optionally mixer) for an environment; return the paths.

    Raises :class:`ConfigError` for files that cannot be read or do not fit, and if the folder already holds policies.
    """
    from qmix_jax.envs.build import make_env
    from qmix_jax.networks.pymarl_names import agent_from_pymarl, mixer_from_pymarl
    from qmix_jax.results.policies import Policy, check_policy, save_policy
    from qmix_jax.settings.build import build_agent
    from qmix_jax.settings.command_line import compose_config
    from qmix_jax.settings.reading import to_container

    if any(run_dir.glob("policies/*")):
        raise ConfigError(f"run_dir={run_dir}: already holds policies; give another folder")
    env_settings = to_container(compose_config(overrides))["env"]
    env = make_env(env_settings)
    state = read(files[0])
    params, agent_settings = agent_from_pymarl(state, env.obs_size, env.num_actions, env.num_agents)
    params = {"params": {name: np.asarray(x, np.float32) for name, x in params["params"].items()}}
    mixer = mixer_from_pymarl(read(files[1])) if len(files) == 2 else None
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
    check_policy(files[0], Policy(params, description), build_agent(agent_settings, env), env)
    for which in ("final", "best"):
        save_policy(folder / which, params, description)
    if mixer is not None:
        flat = {
            f"{layer}.{kind}": np.asarray(x, np.float32)
            for layer, p in mixer["params"].items()
            for kind, x in p.items()
        }
        save_file(flat, folder / "mixer.safetensors")
    return [folder / which for which in ("final", "best")]


def export_policy(run_dir: Path, out: Path, options: dict[str, str]) -> Path:
    """Write the agent of a saved policy as PyMARL's state dict.

    Raises :class:`ConfigError` if the policy is missing, if PyMARL has no such network, and for unknown file types.
    """
    from qmix_jax.networks.pymarl_names import agent_to_pymarl
    from qmix_jax.results.policies import load_policy

    which, seed = options.get("which", "final"), options.get("seed", "0")
    if which not in ("final", "best"):
        raise ConfigError(f"which={which}: must be final or best")
    policy = load_policy(run_dir / "policies" / f"seed_{seed}" / which)
    write(out, agent_to_pymarl(policy.params))
    return out


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
    raise ConfigError(f"{path}: must end in .safetensors, .npz or .th")


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays to a file; its suffix chooses the type.

    Raises :class:`ConfigError` for an unknown type or a missing folder.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"out={path}: no such folder: {path.parent}")
    if path.suffix == ".safetensors":
        save_file(arrays, path)
    elif path.suffix == ".npz":
        np.savez(path, **arrays)  # type: ignore[arg-type]
    elif path.suffix in (".th", ".pt"):
        torch = _torch(path)
        torch.save({name: torch.from_numpy(x.copy()) for name, x in arrays.items()}, path)
    else:
        raise ConfigError(f"out={path}: must end in .safetensors, .npz or .th")


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


if __name__ == "__main__":
    main()
