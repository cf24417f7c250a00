"""The promises of JaxMARL's ``MultiAgentEnv`` interface, checked by tracing before an environment is adapted."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from qmix_jax.envs.adapter import foreign_code
from qmix_jax.envs.contract.findings import broken, few
from qmix_jax.envs.contract.start import BrokenPromiseError, refused

BY_NAME = "a dict with an entry for every agent in env.agents"


def check_multi_agent(env: Any, told: str) -> None:
    """Trace ``reset`` and ``step_env`` of an environment with JaxMARL's interface.

    Raises :class:`BrokenPromiseError`, beginning with ``told``, if one cannot be traced, returns something else than
    JaxMARL's environments do, leaves out an agent or ``__all__``, or changes its state's structure.
    """
    agents = tuple(env.agents)
    actions = {agent: jax.ShapeDtypeStruct((), jnp.int32) for agent in agents}
    key = jax.random.key(0)
    started = _traced(told, "reset", env.reset, key)
    _check_parts(told, "reset", started, ("observations", "state"))
    stepped = _traced(told, "step_env", env.step_env, key, started[1], actions)
    _check_parts(told, "step_env", stepped, ("observations", "state", "rewards", "dones", "infos"))
    for what, obs in (("reset", started[0]), ("step_env", stepped[0])):
        _check_agents(told, f"{what} returns observations", obs, agents, "zeros for one that is out of the game")
    sizes = [{agent: [leaf.shape for leaf in jax.tree.leaves(obs[agent])] for agent in agents}
             for obs in (started[0], stepped[0])]  # fmt: skip
    for agent in agents:
        if sizes[0][agent] != sizes[1][agent]:
            words = f"the observation of {agent} is {sizes[0][agent]} after reset and {sizes[1][agent]} after step_env"
            raise BrokenPromiseError(told, broken("obs_type", words, "return the same shapes at every call"))
    _check_agents(told, "step_env returns rewards", stepped[2], agents, "0 for one that gets none")
    for agent in agents:
        if sum(leaf.size for leaf in jax.tree.leaves(stepped[2][agent])) != 1:
            words = f"the reward of {agent} has the shape {[x.shape for x in jax.tree.leaves(stepped[2][agent])]}"
            raise BrokenPromiseError(told, broken("reward_type", words, "return one number for each agent"))
    _check_dones(told, stepped[3])
    _check_state(told, started[1], stepped[1])


def _traced(told: str, what: str, function: Any, *arguments: Any) -> Any:
    try:
        with foreign_code():
            return jax.eval_shape(function, *arguments)
    except Exception as error:  # Whatever a user's environment raises.
        raise refused(told, what, error) from error


def _check_parts(told: str, what: str, returned: Any, names: Sequence[str]) -> None:
    if isinstance(returned, tuple) and len(returned) == len(names):
        return
    found = f"{len(returned)} values" if isinstance(returned, tuple) else f"a {type(returned).__name__}"
    words = f"{what} returns {found}, not {len(names)}"
    raise BrokenPromiseError(
        told, broken("returns", words, f"return ({', '.join(names)}), as JaxMARL's environments do")
    )


def _check_agents(told: str, what: str, values: Any, agents: Sequence[str], where_out: str) -> None:
    if not isinstance(values, Mapping):
        raise BrokenPromiseError(told, broken("returns", f"{what} as a {type(values).__name__}", f"return {BY_NAME}"))
    missing = [str(agent) for agent in agents if agent not in values]
    if missing:
        words = f"{what} without {few(missing)}"
        raise BrokenPromiseError(told, broken("returns", words, f"return {BY_NAME} at every step, {where_out}"))


def _check_dones(told: str, dones: Any) -> None:
    if not isinstance(dones, Mapping) or "__all__" not in dones:
        words = f"step_env returns dones without '__all__' (a {type(dones).__name__})"
        raise BrokenPromiseError(told, broken("returns", words, "add dones['__all__'], true where the episode is over"))
    shapes = [leaf.shape for leaf in jax.tree.leaves(dones["__all__"])]
    if sum(leaf.size for leaf in jax.tree.leaves(dones["__all__"])) != 1:
        raise BrokenPromiseError(
            told, broken("last_type", f"dones['__all__'] has the shape {shapes}", "return one bool")
        )


def _check_state(told: str, first: Any, second: Any) -> None:
    def shapes(state: Any) -> dict[str, tuple[int, ...]]:
        return {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(state)}

    before, after = shapes(first), shapes(second)
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if changed:
        words = [f"state{name} is {before.get(name, 'missing')} after reset and {after.get(name, 'missing')} "
                 "after step_env" for name in changed]  # fmt: skip
        raise BrokenPromiseError(told, broken("env_state_type", few(words), "always return the same fields and shapes"))
