"""PettingZoo's parallel API: ``env=pettingzoo env.name=mpe2.simple_spread_v3 +env.N=3``."""

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from qmix_jax.envs.hosted.team import (
    Door,
    EnvError,
    Raw,
    RawResult,
    Spec,
    flat_size,
    flatten,
    num_actions,
    own_limit,
    pictures,
)


class PettingZooDoor(Door):
    """A parallel environment whose agents may leave early and come late: each keeps its place.

    Args:
        name: module with ``parallel_env``, or ``module:function``.
        settings: keyword arguments of that function.
    """

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        module_name, colon, function = name.partition(":")
        module = importlib.import_module(module_name)
        make = getattr(module, function if colon else "parallel_env", None)
        if make is None:
            wanted = function if colon else "parallel_env"
            raise EnvError(f"{module_name} has no {wanted}; for a function of your own, give module:function")
        self.env = env = make(**settings)
        if not hasattr(env, "possible_agents"):
            raise EnvError(f"{name} made a {type(env).__name__}, which has not PettingZoo's parallel API")
        self.agents = agents = list(env.possible_agents)
        self._spaces = {agent: _without_mask(env.observation_space(agent)) for agent in agents}
        env.reset(seed=0)
        state = self._state()
        self._has_state = state is not None
        self.spec = Spec(
            name=name,
            agents=tuple(map(str, agents)),
            num_actions=tuple(num_actions(env.action_space(agent), str(agent)) for agent in agents),
            obs_sizes=tuple(flat_size(self._spaces[agent], str(agent)) for agent in agents),
            state_size=None if state is None else int(np.size(state)),
            episode_limit=own_limit(env),
            **pictures(list(self._spaces.values())),
        )

    def reset(self, seed: int) -> Raw:
        """Start an episode."""
        obs, infos = self.env.reset(seed=seed)
        return self._raw(obs, infos)

    def step(self, action: np.ndarray) -> RawResult:
        """Play the actions of the agents that are there.

        The episode is over when no agent is left; that is a truncation if it is one for any agent that left last.
        """
        there = list(self.env.agents)
        places = {agent: place for place, agent in enumerate(self.agents)}
        obs, rewards, _, truncated, infos = self.env.step({a: int(action[places[a]]) for a in there})
        over = not self.env.agents
        cut = over and any(truncated.get(agent, False) for agent in there)
        won = [infos[agent]["battle_won"] for agent in infos if "battle_won" in infos[agent]]
        own = np.array([rewards.get(agent, 0.0) for agent in self.agents], np.float64)
        return RawResult(self._raw(obs, infos), own, over and not cut, cut, bool(won[0]) if won else None)

    def _raw(self, obs: Mapping[Any, Any], infos: Mapping[Any, Any]) -> Raw:
        # Some show what an agent saw last after it has left; at the end of an episode all have left.
        there = set(self.env.agents) or set(obs)
        seen, avail = [], []
        for agent in self.agents:
            value = obs.get(agent) if agent in there else None
            mask = infos.get(agent, {}).get("action_mask")
            if isinstance(value, Mapping) and "action_mask" in value:
                mask = value["action_mask"]
                value = value["observation"] if "observation" in value else _rest(value)
            seen.append(None if value is None else flatten(self._spaces[agent], value))
            avail.append(mask)
        return Raw(seen, avail, self._state() if self._has_state else None)

    def _state(self) -> Any:
        try:
            return self.env.state()
        except (NotImplementedError, AttributeError):
            return None

    def draw(self) -> Any:
        """Its own picture, where it was made with ``render_mode=rgb_array``."""
        return self.env.render()

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


def _without_mask(space: Any) -> Any:
    """The space of what an agent observes, apart from its action mask."""
    parts = getattr(space, "spaces", None)
    if not isinstance(parts, Mapping) or "action_mask" not in parts:
        return space
    from gymnasium import spaces

    return parts["observation"] if "observation" in parts else spaces.Dict(_rest(parts))


def _rest(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "action_mask"}


def make_pettingzoo(
    name: str = "",
    reward: str = "sum",
    time_limit: str = "bootstrap",
    episode_limit: int | None = None,
    workers: int | None = None,
    timeout: float = 60.0,
    restarts: int = 3,
    **settings: Any,
) -> Any:
    """An :class:`~qmix_jax.envs.base.Env` around a PettingZoo parallel environment; ``settings`` are its own."""
    from qmix_jax.envs.hosted.make import Options, hosted_env, need

    need("env.name", name, "the module of a parallel environment, like mpe2.simple_spread_v3")
    options = Options(reward, time_limit, episode_limit, workers, timeout, restarts)
    return hosted_env(PettingZooDoor, (name, settings), options, f"env.name={name}")
