"""Select the saved policies to play, and build their environment and network.

Files in a run's folder are untrusted: nothing in them is executed, and they can only name environments and agents of
this package.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from qmix_jax.envs.base import Env
from qmix_jax.envs.build import make_env
from qmix_jax.envs.settings import foreign_code
from qmix_jax.errors import ConfigError
from qmix_jax.logging.files import near_run
from qmix_jax.logging.moved import current_target
from qmix_jax.networks.agents import AnyAgent
from qmix_jax.results.policies import check_policy, find_policy, load_policy
from qmix_jax.settings.build import build_agent
from qmix_jax.settings.command_line import shipped_targets


class Choice(NamedTuple):
    """The policies of a run to play, and changes to their saved settings."""

    run_dir: str
    which: Literal["final", "best"] = "final"
    seed: int | None = None
    """None is all seeds of the run."""
    cell: int | None = None
    """Cell of a sweep; None is the best one."""
    env: Mapping[str, Any] = {}
    agent: Mapping[str, Any] = {}
    mixer: Mapping[str, Any] = {}
    policy: str | None = None
    """One policy instead of those of a run, see :func:`~qmix_jax.results.policies.find_policy`."""


class Team(NamedTuple):
    """The policies of one run, with their environment and network."""

    env: Env
    agent: AnyAgent
    env_settings: Mapping[str, Any]
    policies: Mapping[int, Any]
    """Parameters by training seed."""


def load_team(choice: Choice, env: Env | None = None) -> Team:
    """Load the chosen policies of a run, and build their environment and network.

    Args:
        choice: which policies.
        env: the environment to use instead of the saved one.

    Raises :class:`ConfigError` unless the policies have the same settings, and sizes and parameters that fit them.
    """
    paths = policy_paths(choice)
    policies = {seed: load_policy(path) for seed, path in paths.items()}
    first = next(iter(policies))
    for seed, policy in policies.items():
        for name in ("env", "agent"):
            if policy.description.get(name) != policies[first].description.get(name):
                raise ConfigError(f"{paths[seed]}.json: {name} is not that of seed {first}; play one with seed=...")
    env_settings = {} if env else trusted_section("env", policies[first].description, choice.env, paths[first])
    agent_settings = trusted_section("agent", policies[first].description, choice.agent, paths[first])
    env = env or make_env(env_settings)
    agent = build_agent(agent_settings, env)
    for seed, policy in policies.items():
        check_policy(paths[seed], policy, agent, env)
    return Team(env, agent, env_settings, {seed: policy.params for seed, policy in policies.items()})


def policy_paths(choice: Choice) -> dict[int, Path]:
    """The chosen policy files, without suffix, by training seed.

    Raises :class:`ConfigError` where there is no such folder, cell or seed.
    """
    if choice.policy is not None:
        path = find_policy(choice.policy)
        return {int(load_policy(path).description.get("seed", 0)): path}
    folder = Path(choice.run_dir)
    if not folder.is_dir():
        raise ConfigError(f"run_dir={choice.run_dir}: no such folder{near_run(folder)}")
    policies = policies_folder(choice)
    matches = ((re.fullmatch(r"seed_(\d+)", path.name), path) for path in policies.glob("seed_*"))
    found = sorted((int(match[1]), path / choice.which) for match, path in matches if match)
    if not found:
        none = f"holds no policies (policies/seed_*/{choice.which}.json)"
        raise ConfigError(f"run_dir={choice.run_dir}: {none}{near_run(folder)}")
    paths = dict(found)
    if choice.seed is None:
        return paths
    if choice.seed not in paths:
        wanted = choice.seed
        near = min(paths, key=lambda seed: abs(seed - wanted))
        raise ConfigError(
            f"seed={choice.seed}: not in this run; did you mean {near}? (choices: {', '.join(map(str, paths))})"
        )
    return {choice.seed: paths[choice.seed]}


def policies_folder(choice: Choice) -> Path:
    """The folder of the policies; in a sweep, that of the chosen cell or of the best one."""
    folder = Path(choice.run_dir) / "policies"
    cells = sorted(int(path.name[5:]) for path in folder.glob("cell_*") if path.name[5:].isdigit())
    if choice.cell is not None and choice.cell not in cells:
        there = f"choices: {', '.join(map(str, cells))}" if cells else "the run is no sweep"
        raise ConfigError(f"cell={choice.cell}: not in this run ({there})")
    if not cells:
        return folder
    return folder / f"cell_{_best_cell(choice, cells) if choice.cell is None else choice.cell}"


def _best_cell(choice: Choice, cells: Sequence[int]) -> int:
    path = Path(choice.run_dir) / "summary.json"
    try:
        ranks = {cell["cell"]: cell["rank"] for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]}
        return min(cells, key=lambda cell: ranks[cell])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{path}: does not say which cell is the best; choose one with cell=...") from error


def trusted_section(
    name: str, description: Mapping[str, Any], overrides: Mapping[str, Any], path: Path
) -> Mapping[str, Any]:
    """A section of the saved settings, with the overrides of the command line.

    A saved ``_target_`` is only imported if this package's own configuration contains it: any other import path would
    let the file choose which code runs.
    """
    saved = description.get(name)
    if not isinstance(saved, Mapping):
        raise ConfigError(f"{path}.json: has no settings under {name!r}")
    target = current_target(saved.get("_target_"))
    if overrides.get("_target_") is None:
        if not (isinstance(target, str) and target.startswith("qmix_jax.") and target in shipped_targets(name)):
            raise ConfigError(
                f"{path}.json: {name}._target_={target!r} does not come with qmix_jax; "
                f"{_how_to_name(name, {'_target_': target})}"
            )
    elif overrides["_target_"] != target:
        if "door" not in saved:
            return overrides  # The saved settings belong to another target.
        from qmix_jax.envs.hosted.make import Options

        # Those of the adapter stay: both environments are made with it.
        return {**{key: saved[key] for key in ("door", *Options._fields) if key in saved}, **overrides}
    named = {key: saved[key] for key in (foreign_code(saved) if name == "env" else ())}
    for key, value in named.items():
        if overrides.get(key) != value:
            told = f"env.{key}={value!r} names code to run"
            raise ConfigError(f"{path}.json: {told}; {_how_to_name('env', named)}")
    return {**saved, "_target_": target, **overrides}


def _how_to_name(name: str, settings: Mapping[str, Any]) -> str:
    arguments = " ".join(f"{name}.{key}={value}" for key, value in settings.items())
    python = "" if name == "mixer" else f" (in Python: policy({name}={dict(settings)}))"
    return f"if you trust it, name it on the command line: {arguments}{python}"
