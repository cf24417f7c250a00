"""The actions of environments with JaxMARL's interface: how many there are, and which are available."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from qmix_jax.errors import ConfigError


def count_actions(env: Any, agent: str) -> int:
    """The number of an agent's actions.

    Raises :class:`ConfigError` where they are not discrete.
    """
    space = env.action_space(agent)
    count = getattr(space, "n", None)
    if count is None or getattr(space, "shape", ()) != ():
        raise ConfigError(
            f"env: the action space of {agent} in {type(env).__name__} is a {type(space).__name__}; "
            f"only Discrete action spaces can be used{_discrete_form(env)}"
        )
    return int(count)


def _discrete_form(env: Any) -> str:
    """The setting, as JaxMARL calls it, that makes the actions of some environments discrete."""
    taken = inspect.signature(type(env).__init__).parameters
    name = next((name for name in ("action_type", "act_type") if name in taken), None)
    if name is None:
        return ""
    return f"; add +env.{name}={'discrete' if str(taken[name].default).islower() else 'Discrete'}"


def find_avail_actions(
    env: Any, agents: Sequence[str], num_actions: Sequence[int], env_state_like: Any
) -> Callable[[Any], Bool[Array, "N A"]]:
    """``avail_actions(env_state)``, by the environment's own method where it has one, else all actions of an agent."""
    for method in ("get_avail_actions", "get_legal_moves"):
        found = own_method(env, method, env_state_like)
        if found is not None:
            avail, like = found
            _check_avail(f"env: {method} of {type(env).__name__} returns", like, agents, num_actions)
            return lambda env_state: _stack_avail(avail(env_state), agents, max(num_actions))
    own_actions = np.arange(max(num_actions)) < np.asarray(num_actions)[:, None]
    return lambda env_state: jnp.asarray(own_actions)


def _check_avail(told: str, avail: Any, agents: Sequence[str], num_actions: Sequence[int]) -> None:
    """Raise unless every agent has a number for each of its actions, or for each of the most that an agent has."""
    advice = "return a dict with one number for each action of every agent in env.agents"
    if not isinstance(avail, Mapping):
        raise ConfigError(f"{told} no dict; {advice}")
    for agent, count in zip(agents, num_actions, strict=True):
        if agent not in avail:
            raise ConfigError(f"{told} nothing for {agent}; {advice}")
        if size_of(avail[agent]) not in (count, max(num_actions)):
            raise ConfigError(f"{told} {size_of(avail[agent])} numbers for {agent}, not {count}; {advice}")


def _stack_avail(avail: Mapping[str, Array], agents: Sequence[str], num_actions: int) -> Bool[Array, "N A"]:
    return jnp.stack([pad(jnp.ravel(avail[agent]), num_actions) for agent in agents]).astype(bool)


def own_method(env: Any, method: str, env_state_like: Any) -> tuple[Callable[[Any], Any], Any] | None:
    """A method of the environment's state and what it returns; one that only raises ``NotImplementedError`` is none."""
    function = getattr(env, method, None)
    if function is None:
        return None
    try:
        return function, jax.eval_shape(function, env_state_like)
    except NotImplementedError:
        return None


def size_of(likes: Any) -> int:
    """How many numbers a tree has."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(likes))


def pad(vector: Array, size: int) -> Array:
    """With zeros behind, up to ``size``."""
    return jnp.pad(vector, (0, size - vector.shape[0]))
