"""PettingZoo's parallel API: ``env=pettingzoo env.name=mpe2.simple_spread_v3 +env.N=3``."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from qmix_jax.envs.hosted.imports import find_module, find_name, right_door, takes
from qmix_jax.envs.hosted.spaces import (
    flat_size,
    flatten,
    is_bytes,
    num_actions,
    obs_and_mask,
    own_limit,
    pictures,
    without_mask,
)
from qmix_jax.envs.hosted.team import Door, EnvError, Raw, RawResult, Spec
from qmix_jax.envs.settings import own_settings, say
from qmix_jax.errors import ConfigError

RESET = ("observations", "infos")
STEP = ("observations", "rewards", "terminations", "truncations", "infos")
"""What the parallel API returns: dictionaries with a value for each agent."""
OPPOSED = ("simple_adversary", "simple_crypto", "simple_push", "simple_tag", "simple_world_comm")
"""Games of mpe2 whose sides have opposed rewards."""


class PettingZooDoor(Door):
    """A parallel environment whose agents may leave early and come late: each keeps its place.

    Args:
        name: module with ``parallel_env``, or ``module:function``.
        settings: keyword arguments of that function.
    """

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        self.env = env = _maker(name)(**settings)
        _check_parallel(env)
        self.agents = agents = list(env.possible_agents)
        self._spaces = {agent: without_mask(_space_of(env.observation_space, agent)) for agent in agents}
        self._state_space = getattr(env, "state_space", None)
        env.reset(seed=0)
        state = self._state()
        self._has_state = state is not None
        self.spec = Spec(
            name=name,
            agents=tuple(map(str, agents)),
            num_actions=tuple(num_actions(_space_of(env.action_space, agent), str(agent)) for agent in agents),
            obs_sizes=tuple(flat_size(self._spaces[agent], str(agent)) for agent in agents),
            state_size=None if state is None else int(np.size(state)),
            episode_limit=own_limit(env),
            **pictures(list(self._spaces.values())),
        )

    def reset(self, seed: int) -> Raw:
        """Start an episode."""
        obs, infos = _parts("reset", self.env.reset(seed=seed), RESET)
        there = self._there()
        if not there:
            raise EnvError("no agent is there after reset: env.agents is empty")
        return self._raw(there, obs, infos)

    def step(self, action: np.ndarray) -> RawResult:
        """Play the actions of the agents that are there.

        The episode is over when no agent is left; that is a truncation if it is one for any agent that left last. An
        environment that keeps agents in its list although all of them are done has no agent left either. Agents that
        are not there may be paid, too: a team's reward, for example.
        """
        acting = self._there()
        places = {agent: place for place, agent in enumerate(self.agents)}
        returned = self.env.step({agent: int(action[places[agent]]) for agent in acting})
        obs, rewards, terminated, truncated, infos = _parts("step", returned, STEP)
        for name, values in (("rewards", rewards), ("terminations", terminated), ("truncations", truncated)):
            _need(name, values, acting)
        there, gone = self._there(), [agent for agent in acting if terminated[agent] or truncated[agent]]
        stayed = [agent for agent in there if agent in gone]
        there = [agent for agent in there if agent not in gone]
        if stayed and there:
            raise EnvError(f"env.agents still lists {_named(stayed)}, which is done; remove agents that are done")
        cut = not there and any(truncated[agent] and not terminated[agent] for agent in acting)
        if cut and not obs:
            raise EnvError("no observations come with the time limit; return what the agents saw last")
        won = [infos[agent]["battle_won"] for agent in infos if "battle_won" in (infos[agent] or ())]
        own = [None if rewards.get(agent) is None else _number(rewards[agent]) for agent in self.agents]
        told = bool(won[0]) if won else None
        return RawResult(self._raw(there, obs, infos), own, not there and not cut, cut, told)

    def _there(self) -> list[Any]:
        unknown = [agent for agent in self.env.agents if agent not in self.agents]
        if unknown:
            raise EnvError(f"env.agents lists {_named(unknown)}, but possible_agents does not")
        return list(self.env.agents)

    def _raw(self, there: list[Any], obs: Mapping[Any, Any], infos: Mapping[Any, Any]) -> Raw:
        _need("observations", obs, there)
        # Some show what an agent saw last after it has left; at the end of an episode all have left.
        seeing = there or list(obs)
        seen, avail = [], []
        for agent in self.agents:
            value, mask = obs_and_mask(obs.get(agent) if agent in seeing else None)
            seen.append(None if value is None else flatten(self._spaces[agent], value, str(agent)))
            avail.append((infos.get(agent) or {}).get("action_mask") if mask is None else mask)
        return Raw(seen, avail, self._state() if self._has_state else None)

    def _state(self) -> Any:
        try:
            tell = self.env.state
            if not callable(tell):  # of its own, whatever it is
                return None
            state = tell()
        except (NotImplementedError, AttributeError):
            return None
        return np.asarray(state) / np.float32(255) if is_bytes(self._state_space) else state

    def draw(self) -> Any:
        """Its own picture, where it was made with ``render_mode=rgb_array``."""
        return self.env.render()

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


def _maker(name: str) -> Any:
    module_name, colon, function = name.partition(":")
    told = f"env.name={name}"
    if colon and not function:
        raise ConfigError(f"{told}: give module:function")
    if module_name == "__main__":
        raise ConfigError(f"{told}: worker processes do not run the script; put {function} into a module of its own")
    module = find_module(told, module_name)
    if not colon and not hasattr(module, "parallel_env"):
        raise ConfigError(
            f"{told}: {module_name} has no parallel_env; for a function of your own, give module:function"
        )
    return find_name(told, module, function or "parallel_env")


def _check_parallel(env: Any) -> None:
    if hasattr(env, "agent_iter"):
        raise EnvError(
            "takes turns (PettingZoo's AEC API), and only environments whose agents act at once can be used; if its "
            "agents may, give a function that returns pettingzoo.utils.conversions.aec_to_parallel(env)"
        )
    missing = [name for name in ("possible_agents", "observation_space", "action_space") if not hasattr(env, name)]
    if missing:
        advice = right_door(env, "pettingzoo")
        raise EnvError(
            f"made a {type(env).__name__}, which does not have PettingZoo's parallel API: it lacks {', '.join(missing)}"
            f"{advice and '; '}{advice}"
        )
    if isinstance(env.possible_agents, set | frozenset):
        raise EnvError("possible_agents is a set, whose order is another one in each process; make it a list")
    if not takes(env.reset, "seed", or_any=True):
        raise EnvError("reset takes no seed; write reset(self, seed=None, options=None)")
    if not env.possible_agents:
        raise EnvError(f"the {type(env).__name__} has no agents: possible_agents is empty")


def _parts(what: str, returned: Any, names: tuple[str, ...]) -> tuple[Mapping[Any, Any], ...]:
    """What a call returned, each part a dictionary."""
    if not isinstance(returned, tuple) or len(returned) != len(names):
        count = f"{len(returned)} values" if isinstance(returned, tuple) else f"a {type(returned).__name__}"
        raise EnvError(f"{what} returns {count}; PettingZoo's parallel API returns {len(names)}: {', '.join(names)}")
    for name, part in zip(names, returned, strict=True):
        if not isinstance(part, Mapping):
            raise EnvError(f"the {name} that {what} returns must be a dictionary by agent, not {type(part).__name__}")
    return returned


def _need(name: str, values: Mapping[Any, Any], agents: list[Any]) -> None:
    missing = [agent for agent in agents if values.get(agent) is None]
    if missing:
        raise EnvError(f"the {name} have no entry for {_named(missing)}; they have {_named(values) or 'none'}")


def _named(agents: Any) -> str:
    return ", ".join(map(str, agents))


def _space_of(told: Any, agent: Any) -> Any:
    """What an environment tells of an agent, by a method or in a dictionary."""
    return told(agent) if callable(told) else told[agent]


def _number(reward: Any) -> Any:
    """A reward, which may be an array of one number."""
    return np.asarray(reward).item() if np.size(reward) == 1 else reward


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
    game = name.rpartition(".")[2].rpartition("_v")[0]
    if game in OPPOSED and name.startswith(("mpe2.", "pettingzoo.mpe.")):
        say(
            f"note: env.name={name}: its sides have opposed rewards, and one team of all of them is trained; "
            f"env=jaxmarl env.id=MPE_{game}_v3 env.team=adversaries env.opponents=random trains one side"
        )
    return hosted_env(PettingZooDoor, (name, own_settings(settings)), options, f"env.name={name}")
