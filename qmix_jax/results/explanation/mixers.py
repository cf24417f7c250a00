"""Saved mixers: beside the policies, never needed to act, only to look at what training computed."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qmix_jax.envs.base import Env
from qmix_jax.errors import ConfigError
from qmix_jax.logging import RunInfo
from qmix_jax.logging.files import Unsaved
from qmix_jax.mixers.base import MixerInput
from qmix_jax.results.policies import load_arrays, load_policy, save_arrays
from qmix_jax.results.team import Choice, policy_paths, trusted_section
from qmix_jax.settings.build import build_part
from qmix_jax.settings.cells import Lane

NAMES = {"final": "mixer", "best": "best_mixer"}
FORMAT = "qmix_jax-mixer-1"


def save_mixers(networks: Any, lanes: Sequence[Lane], run: RunInfo, unsaved: Unsaved) -> None:
    """Write the mixer of every lane, as it is at the end of training, beside the final policies.

    Args:
        networks: of all lanes, ``[L, ...]``; an algorithm without a mixer has none to save.
        lanes: which seed and cell each one is.
        run: the run that they are part of.
        unsaved: told which cannot be written.
    """
    mixers = getattr(networks, "mixer", None)
    if isinstance(mixers, Mapping):
        for index, lane in enumerate(lanes):
            with unsaved.trying(f"policies/{lane.name}/{NAMES['final']}"):
                _save(mixers, index, lane, run, "final", {})


def save_best_mixers(
    networks: Callable[[], Any],
    lanes: Sequence[Lane],
    best_at: np.ndarray,
    env_steps: np.ndarray,
    run: RunInfo,
    unsaved: Unsaved,
) -> None:
    """Write the mixers of the lanes whose agents are the best so far.

    Args:
        networks: gives those of all lanes, ``[L, ...]``.
        lanes: which seed and cell each one is.
        best_at: the environment steps at which the best agent of each lane was evaluated, ``[L]``. They are kept with
            the mixer, which belongs to no other agent: a run that was killed may go on from before.
        env_steps: of each lane so far, ``[L]``; where both are equal, the present agent is the best.
        run: the run that they are part of.
        unsaved: told which cannot be written.
    """
    is_best = np.asarray(best_at) == np.asarray(env_steps)
    mixers = getattr(networks(), "mixer", None) if is_best.any() else None
    if isinstance(mixers, Mapping):
        for index in np.flatnonzero(is_best).tolist():
            with unsaved.trying(f"policies/{lanes[index].name}/{NAMES['best']}"):
                _save(mixers, index, lanes[index], run, "best", {"env_steps": int(best_at[index])})


def _save(mixers: Any, index: Any, lane: Lane, run: RunInfo, which: str, more: Mapping[str, Any]) -> None:
    config = run.config if lane.cell is None else run.cells[lane.cell].container
    save_mixer(run.run_dir / "policies" / lane.name / which, jax.tree.map(lambda x: x[index], mixers), config, more)


def save_mixer(policy: Path, params: Any, config: Mapping[str, Any], more: Mapping[str, Any] = {}) -> None:
    """Write a mixer beside its policy.

    Args:
        policy: a path without suffix, which ends in ``final`` or ``best``.
        params: of the mixer.
        config: the settings of the run.
        more: of the description.
    """
    description = {
        "format": FORMAT,
        "mixer": config["mixer"],
        "gamma": config["gamma"],
        "reward_scale": config["reward"]["scale"],
        "standardised": config["reward"]["standardise"] or config["reward"]["standardise_returns"],
        **more,
    }
    save_arrays(policy.with_name(NAMES[policy.name]), params, description)


class Mixer(NamedTuple):
    """A mixer as it was when a policy was saved."""

    module: Any
    params: Any
    gamma: float
    reward_scale: float
    standardised: bool
    """Whether ``q_tot`` is in units of standardised rewards or returns, and so not comparable with returns."""

    def q_tot(self, inputs: MixerInput) -> Float[Array, ""]:
        """The joint value of one joint action."""
        return self.module.apply(self.params, inputs)

    def slope(self, inputs: MixerInput) -> Float[Array, " N"]:
        """``d q_tot / d q_a`` at the chosen actions: whose value counts how much."""

        def joint(chosen: Float[Array, " N"]) -> Float[Array, ""]:
            return self.q_tot(inputs._replace(chosen=chosen))

        return jax.grad(joint)(inputs.chosen)


def mixer_of(choice: Choice, env: Env) -> Mixer | None:
    """The mixer of the first of the chosen policies; see :func:`load_mixer`."""
    return load_mixer(next(iter(policy_paths(choice).values())), env, choice.mixer)


def load_mixer(policy: Path, env: Env, changes: Mapping[str, Any] = MappingProxyType({})) -> Mixer | None:
    """The mixer of a policy (a path without suffix); None where none was saved, or nothing is mixed (IQL).

    ``changes`` are those of the command line to its saved settings.

    Raises :class:`ConfigError` for files that are damaged, not to be trusted, or for another environment.
    """
    path = policy.with_name(NAMES.get(policy.name, "none"))
    if not path.with_suffix(".json").is_file():
        return None
    params, description = load_arrays(path, FORMAT)
    if "env_steps" in description and description["env_steps"] != load_policy(policy).description.get("env_steps"):
        return None
    module = build_part(
        "mixer",
        trusted_section("mixer", description, changes, path),
        num_agents=env.num_agents,
        state_size=env.state_size,
    )
    try:
        gamma, scale = float(description["gamma"]), float(description["reward_scale"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}.json: is damaged: {json.dumps(str(error))}") from error
    mixer = Mixer(module, params, gamma, scale, bool(description.get("standardised")))
    inputs = example(env)
    try:
        shape = jax.eval_shape(mixer.q_tot, inputs).shape
    except Exception as error:  # Whatever flax or JAX says of parameters that do not fit.
        raise ConfigError(f"{path}: does not fit {env.name}: {' '.join(str(error).split())[:150]}") from error
    return mixer if shape == () else None


def example(env: Env) -> MixerInput:
    """Inputs of the right shapes."""
    from qmix_jax.mixers.base import example_input

    return jax.tree.map(jnp.asarray, example_input(env.num_agents, env.num_actions, env.state_size))
