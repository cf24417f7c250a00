"""Saved mixers: beside the policies, never needed to act, only to look at what training computed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qmix_jax.envs.base import Env
from qmix_jax.errors import ConfigError
from qmix_jax.logging import RunInfo
from qmix_jax.mixers.base import MixerInput
from qmix_jax.results.policies import load_arrays, save_arrays
from qmix_jax.results.team import trusted_section
from qmix_jax.settings.build import build_part
from qmix_jax.settings.cells import Lane

NAME = "mixer"
FORMAT = "qmix_jax-mixer-1"


def save_mixers(networks: Any, lanes: Sequence[Lane], run: RunInfo) -> None:
    """Write the mixer of every lane, as it is at the end of training, beside the final policies.

    Args:
        networks: of all lanes, ``[L, ...]``; an algorithm without a mixer has none to save.
        lanes: which seed and cell each one is.
        run: the run that they are part of.
    """
    mixers = getattr(networks, "mixer", None)
    if not isinstance(mixers, Mapping):
        return
    for index, lane in enumerate(lanes):
        config = run.config if lane.cell is None else run.cells[lane.cell].container
        description = {
            "format": FORMAT,
            "mixer": config["mixer"],
            "gamma": config["gamma"],
            "reward_scale": config["reward"]["scale"],
            "standardised": config["reward"]["standardise"] or config["reward"]["standardise_returns"],
        }
        own = jax.tree.map(lambda x, index=index: x[index], mixers)
        save_arrays(run.run_dir / "policies" / lane.name / NAME, own, description)


class Mixer(NamedTuple):
    """A mixer as it was at the end of training."""

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


def load_mixer(folder: Path, env: Env) -> Mixer | None:
    """The mixer beside the policies in ``folder``; None where none was saved, or nothing is mixed (IQL).

    Raises :class:`ConfigError` for files that are damaged, not to be trusted, or for another environment.
    """
    path = folder / NAME
    if not path.with_suffix(".json").is_file():
        return None
    params, description = load_arrays(path, FORMAT)
    module = build_part(
        "mixer", trusted_section("mixer", description, {}, path), num_agents=env.num_agents, state_size=env.state_size
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
