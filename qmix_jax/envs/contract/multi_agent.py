"""The promises of JaxMARL's ``MultiAgentEnv`` interface, checked by tracing before an environment is adapted."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qmix_jax.envs.adapter import foreign_code
from qmix_jax.envs.contract.findings import broken, few
from qmix_jax.envs.contract.refusal import BrokenPromiseError, users_code
from qmix_jax.envs.contract.repairs import Note, cast_note, is_real
from qmix_jax.envs.contract.types import kind_of

BY_NAME = "a dict with an entry for every agent in env.agents"


def check_multi_agent(env: Any, told: str) -> list[Note]:
    """Trace ``reset`` and ``step_env`` of an environment with JaxMARL's interface.

    Returns what the adapter will cast. Raises :class:`BrokenPromiseError`, beginning with ``told``, if one cannot be
    traced, returns something else than JaxMARL's environments do, leaves out an agent or ``__all__``, or changes its
    state's structure.
    """
    agents = _agents(env, told)
    actions = {agent: jax.ShapeDtypeStruct((), jnp.int32) for agent in agents}
    key = jax.random.key(0)
    started = _traced(told, "reset", env.reset, key)
    _check_parts(told, "reset", started, ("observations", "state"))
    stepped = _traced(told, "step_env", env.step_env, key, started[1], actions)
    _check_parts(told, "step_env", stepped, ("observations", "state", "rewards", "dones", "infos"))
    for what, obs in (("reset", started[0]), ("step_env", stepped[0])):
        _check_agents(told, f"{what} returns observations", obs, agents, "zeros for one that is out of the game")
        _check_numbers(told, what, obs, agents)
    sizes = [{agent: [leaf.shape for leaf in jax.tree.leaves(obs[agent])] for agent in agents}
             for obs in (started[0], stepped[0])]  # fmt: skip
    for agent in agents:
        if sizes[0][agent] != sizes[1][agent]:
            words = f"the observation of {agent} is {sizes[0][agent]} after reset and {sizes[1][agent]} after step_env"
            raise BrokenPromiseError(told, broken("obs_type", words, "return the same shapes at every call"))
    _check_agents(told, "step_env returns rewards", stepped[2], agents, "0 for one that gets none")
    for agent in agents:
        if sum(leaf.size for leaf in jax.tree.leaves(stepped[2][agent])) != 1:
            words = f"the reward of {agent} {_shapes(stepped[2][agent])}"
            raise BrokenPromiseError(told, broken("reward_type", words, "return one number for each agent"))
    _check_dones(told, stepped[3])
    _check_state(told, started[1], stepped[1])
    of_agents = {"obs": [obs[agent] for obs in (started[0], stepped[0]) for agent in agents],
                 "reward": [stepped[2][agent] for agent in agents]}  # fmt: skip
    return _casts(of_agents, np.float32) + _casts({"last": stepped[3]["__all__"]}, bool)


def _agents(env: Any, told: str) -> tuple[str, ...]:
    with users_code(told, "env.agents"):
        names = env.agents
    try:
        good = isinstance(names, Collection) and not isinstance(names, str) and len(set(names)) == len(names) > 0
    except TypeError:  # They cannot be hashed.
        good = False
    if not good:
        advice = "it must be a list of different names, like ['agent_0', 'agent_1']"
        raise BrokenPromiseError(told, broken("declared", f"agents={names!r}", advice))
    return tuple(names)


def _casts(parts: Mapping[str, Any], dtype: Any) -> list[Note]:
    others = {name: {leaf.dtype for leaf in jax.tree.leaves(part)} - {np.dtype(dtype)} for name, part in parts.items()}
    return [cast_note(name, found, dtype) for name, found in others.items() if found]


def _traced(told: str, what: str, function: Any, *arguments: Any) -> Any:
    with users_code(told, what), foreign_code():
        return jax.eval_shape(function, *arguments)


def _check_parts(told: str, what: str, returned: Any, names: Sequence[str]) -> None:
    if isinstance(returned, tuple) and len(returned) == len(names):
        return
    found = f"{len(returned)} values" if isinstance(returned, tuple) else kind_of(returned)
    words = f"{what} returns {found}, not {len(names)}"
    raise BrokenPromiseError(
        told, broken("returns", words, f"return ({', '.join(names)}), as JaxMARL's environments do")
    )


def _check_agents(told: str, what: str, values: Any, agents: Sequence[str], where_out: str) -> None:
    if not isinstance(values, Mapping):
        raise BrokenPromiseError(told, broken("returns", f"{what} as {kind_of(values)}", f"return {BY_NAME}"))
    missing = [str(agent) for agent in agents if agent not in values]
    if missing:
        words = f"{what} without {few(missing)}"
        raise BrokenPromiseError(told, broken("returns", words, f"return {BY_NAME} at every step, {where_out}"))


def _check_numbers(told: str, what: str, obs: Mapping[str, Any], agents: Sequence[str]) -> None:
    for agent in agents:
        wrong = [kind_of(obs[agent])] if not jax.tree.leaves(obs[agent]) else []
        wrong += [str(leaf.dtype) for leaf in jax.tree.leaves(obs[agent]) if not is_real(leaf.dtype)]
        if wrong:
            words = f"the observation of {agent} is {few(wrong)} after {what}"
            advice = "return real numbers, zeros for an agent that is out of the game"
            raise BrokenPromiseError(told, broken("obs_type", words, advice))


def _shapes(tree: Any) -> str:
    shapes = [leaf.shape for leaf in jax.tree.leaves(tree)]
    return f"has the shape {shapes}" if shapes else f"is {kind_of(tree)}"


def _check_dones(told: str, dones: Any) -> None:
    if not isinstance(dones, Mapping) or "__all__" not in dones:
        words = f"step_env returns dones without '__all__' ({kind_of(dones)})"
        raise BrokenPromiseError(told, broken("returns", words, "add dones['__all__'], true where the episode is over"))
    if sum(leaf.size for leaf in jax.tree.leaves(dones["__all__"])) != 1:
        raise BrokenPromiseError(
            told, broken("last_type", f"dones['__all__'] {_shapes(dones['__all__'])}", "return one bool")
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
