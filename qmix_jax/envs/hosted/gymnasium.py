"""Gymnasium environments with one entry per agent, the convention of LBF and RWARE.

``env=gymnasium env.id=Foraging-8x8-2p-3f-v3 env.import=lbforaging``: observation and action spaces are tuples, actions
and observations are tuples, rewards a list.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from qmix_jax.envs.hosted.imports import find_module
from qmix_jax.envs.hosted.spaces import flat_size, flatten, num_actions, obs_and_mask, own_limit, pictures, without_mask
from qmix_jax.envs.hosted.team import Door, EnvError, Raw, RawResult, Spec, ends


class GymnasiumDoor(Door):
    """A registered environment whose spaces are tuples with one entry per agent.

    Args:
        name: its id.
        module: what to import first, so that it is registered; empty for nothing.
        settings: keyword arguments of ``gymnasium.make``.
    """

    tells_time_limit = False
    """LBF and RWARE call running out of time ``done``."""

    def __init__(self, name: str, module: str, settings: Mapping[str, Any]) -> None:
        gymnasium: Any = find_module(f"env.id={name}", "gymnasium")
        if module:
            find_module(f"env.import={module}", module)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # Of another version; the error names it, too.
                # The checker expects one agent, and warns of everything that has several.
                self.env = env = gymnasium.make(name, disable_env_checker=True, **settings)
        except gymnasium.error.Error as error:
            advice = "" if module else "; if a package registers it, give env.import=PACKAGE"
            raise EnvError(f"{' '.join(str(error).split())}{advice}") from error
        spaces, actions = _each(env.observation_space), _each(env.action_space)
        if spaces is None or actions is None:
            raise EnvError(
                f"{name} has the observation space {type(env.observation_space).__name__} and the action space "
                f"{type(env.action_space).__name__}; both must be a Tuple with one entry per agent"
            )
        if len(spaces) != len(actions) or not actions:
            raise EnvError(
                f"{name} has {len(spaces)} observation spaces and {len(actions)} action spaces; it needs one of each "
                "for every agent"
            )
        agents = self._agents = tuple(f"agent_{place}" for place in range(len(actions)))
        self._spaces = [without_mask(space) for space in spaces]
        self.spec = Spec(
            name=name,
            agents=agents,
            num_actions=tuple(num_actions(s, agent) for s, agent in zip(actions, agents, strict=True)),
            obs_sizes=tuple(flat_size(s, agent) for s, agent in zip(self._spaces, agents, strict=True)),
            state_size=None,
            episode_limit=own_limit(env),
            **pictures(self._spaces),
        )

    def reset(self, seed: int) -> Raw:
        """Start an episode."""
        obs, info = _parts("reset", self.env.reset(seed=seed), 2, "(observations, info)")
        return self._raw(obs, info)

    def step(self, action: np.ndarray) -> RawResult:
        """Play one joint action."""
        returned = self.env.step(tuple(int(choice) for choice in action))
        names = "(observations, rewards, terminated, truncated, info)"
        obs, rewards, terminated, truncated, info = _parts("step", returned, 5, names)
        terminated, truncated = ends(terminated, truncated)
        won = bool(info["battle_won"]) if "battle_won" in info else None
        return RawResult(self._raw(obs, info), rewards, terminated, truncated, won)

    def _raw(self, obs: Any, info: Mapping[str, Any]) -> Raw:
        values, masks = zip(*map(obs_and_mask, obs), strict=True) if len(obs) else ((), ())
        agents = zip(self._agents, self._spaces, values, strict=False)
        seen: list[Any] = [flatten(space, value, agent) for agent, space, value in agents]
        seen += [None] * (len(obs) - len(seen))  # Too many, or too few, are reported by the team.
        given = info.get("action_mask")
        return Raw(seen, list(masks) if given is None else list(given))

    def draw(self) -> Any:
        """Its own picture, where it was made with ``render_mode=rgb_array``."""
        return self.env.render()

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


def _each(space: Any) -> list[Any] | None:
    """The space of each agent; None for a space that is not a Tuple, or a list of spaces as in older environments."""
    inside = getattr(space, "spaces", space)
    return list(inside) if isinstance(inside, list | tuple) else None


def _parts(what: str, returned: Any, count: int, names: str) -> tuple[Any, ...]:
    """What a call returned, the last part a dictionary."""
    if not isinstance(returned, tuple) or len(returned) != count:
        made = f"{len(returned)} values" if isinstance(returned, tuple) else f"a {type(returned).__name__}"
        raise EnvError(f"{what} returns {made}; Gymnasium's returns {count}: {names}")
    if not isinstance(returned[-1], Mapping):
        raise EnvError(f"the info that {what} returns is a {type(returned[-1]).__name__}, not a dictionary")
    if isinstance(returned[0], Mapping):
        raise EnvError(f"the observations that {what} returns are a dictionary, not one for each agent in a row")
    return returned


def make_gymnasium(
    id: str = "",
    reward: str = "sum",
    time_limit: str = "bootstrap",
    episode_limit: int | None = None,
    workers: int | None = None,
    timeout: float = 60.0,
    restarts: int = 3,
    **settings: Any,
) -> Any:
    """An :class:`~qmix_jax.envs.base.Env` around a Gymnasium environment with one entry per agent.

    ``settings`` go to ``gymnasium.make``, apart from ``import``: a package to import first.
    """
    from qmix_jax.envs.hosted.make import Options, hosted_env, need
    from qmix_jax.envs.settings import own_settings

    need("env.id", id, "the id of a registered environment, like Foraging-8x8-2p-3f-v3")
    module = settings.pop("import", None) or ""
    options = Options(reward, time_limit, episode_limit, workers, timeout, restarts)
    arguments = (id, str(module), own_settings(settings))
    return hosted_env(GymnasiumDoor, arguments, options, f"env.id={id}")
