"""PyMARL's ``MultiAgentEnv``, the interface of SMAC, SMACv2, SMAClite and most research code.

``env=pymarl env._target_=my_package.make_env``.
"""

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from qmix_jax.envs.hosted.imports import find_module, find_name, right_door, takes
from qmix_jax.envs.hosted.team import Door, EnvError, Raw, RawResult, Spec, ends

METHODS = ("reset", "step", "get_obs", "get_avail_actions", "get_env_info")
SIZES = ("n_agents", "n_actions", "obs_shape")


class PyMarlDoor(Door):
    """A ``MultiAgentEnv``: one team reward, ``terminated``, ``battle_won`` and ``episode_limit`` in ``info``.

    Args:
        target: dotted path of a callable that makes it.
        settings: the callable's keyword arguments.

    An environment that has no ``seed(number)`` but is made with a ``seed``, as SMAC, is made with one of its own for
    each copy, unless ``settings`` have one: at the first reset, since only then the seed is known. One whose
    ``reset`` takes a seed is given it there.
    """

    draws_when_asked = False

    def __init__(self, target: str, settings: Mapping[str, Any]) -> None:
        module, _, name = target.rpartition(".")
        told = f"env._target_={target}"
        self._make = find_name(told, find_module(told, module), name)
        self._settings = dict(settings)
        self._seeded_when_made = "seed" not in settings and takes(self._make, "seed")
        self.env = self._make(**self._settings)
        missing = [name for name in METHODS if not hasattr(self.env, name)]
        if missing:
            advice = right_door(self.env, "pymarl")
            raise EnvError(
                f"{target} made a {type(self.env).__name__}, which is no MultiAgentEnv: it has no {', '.join(missing)}"
                f"{advice and '; '}{advice}"
            )
        info = self.env.get_env_info()
        absent = [name for name in SIZES if name not in (info or ())]
        if absent:
            raise EnvError(f"get_env_info() has no {', '.join(absent)}; it needs {', '.join(SIZES)}")
        count, actions, features = (_size(info, name) for name in SIZES)
        tells = info.get("state_shape") is not None and hasattr(self.env, "get_state")
        state_size = _size(info, "state_shape", 0) if tells else 0
        self._has_state = state_size > 0
        limit = _size(info, "episode_limit") if info.get("episode_limit") else None
        self.spec = Spec(
            name=name,
            agents=tuple(f"agent_{place}" for place in range(count)),
            num_actions=(actions,) * count,
            obs_sizes=(features,) * count,
            state_size=state_size or None,
            episode_limit=limit,
        )

    def reset(self, seed: int) -> Raw:
        """Start an episode with its seed, where the environment takes one."""
        is_set = self._seed(seed)
        if not is_set and takes(self.env.reset, "seed"):
            self.env.reset(seed=seed)
            return self._raw()
        if not is_set and self._seeded_when_made:
            self._seeded_when_made = False
            with contextlib.suppress(Exception):  # It is let go, whatever it says.
                self.close()
            self.env = self._make(**self._settings, seed=seed)
        self.env.reset()
        return self._raw()

    def _seed(self, seed: int) -> bool:
        setter = getattr(self.env, "set_seed", None) or getattr(self.env, "seed", None)
        if not callable(setter):
            return False
        try:
            setter(seed)
        except TypeError:  # SMAC's seed() only tells it.
            return False
        return True

    def step(self, action: np.ndarray) -> RawResult:
        """Play one joint action; accepts EPyMARL's five results as well."""
        results = self.env.step([int(choice) for choice in action])
        if not isinstance(results, tuple | list):
            raise EnvError(f"step returns a {type(results).__name__}; return (reward, terminated, info)")
        if len(results) == 5:
            _, reward, terminated, truncated, info = results
            terminated, truncated = ends(terminated, truncated)
        elif len(results) != 3:
            raise EnvError(
                f"step returns {len(results)} values; return (reward, terminated, info), or EPyMARL's five: (obs, "
                "reward, terminated, truncated, info)"
            )
        else:
            reward, terminated, info = results
            terminated = bool(np.all(terminated))
            truncated = terminated and bool((info or {}).get("episode_limit", False))
        won = bool(info["battle_won"]) if "battle_won" in (info or ()) else None
        return RawResult(self._raw(), reward, terminated, truncated, won)

    def _raw(self) -> Raw:
        avail = self.env.get_avail_actions()
        state = self.env.get_state() if self._has_state else None
        return Raw(list(self.env.get_obs()), list(avail), state)

    def draw(self) -> Any:
        """Its own picture, where ``render`` returns one."""
        render = getattr(self.env, "render", None)
        if not callable(render):
            return None
        return render(mode="rgb_array") if takes(render, "mode", or_any=True) else render()

    def close(self) -> None:
        """Close the environment."""
        close = getattr(self.env, "close", None)
        if callable(close):
            close()


def _size(info: Mapping[str, Any], name: str, least: int = 1) -> int:
    """A size in ``get_env_info()``: a number, or a shape."""
    try:
        size = int(np.prod(info[name]))
    except (TypeError, ValueError):
        size = -1
    if size < least:
        raise EnvError(f"get_env_info() has {name}={info[name]!r:.40}; it must be a number from {least} on, or a shape")
    return size


def make_pymarl(
    target: str = "",
    reward: str = "sum",
    time_limit: str = "bootstrap",
    episode_limit: int | None = None,
    workers: int | None = None,
    timeout: float = 60.0,
    restarts: int = 3,
    **settings: Any,
) -> Any:
    """An :class:`~qmix_jax.envs.base.Env` around what ``target`` makes with ``settings``."""
    from qmix_jax.envs.hosted.make import Options, hosted_env
    from qmix_jax.envs.settings import own_settings

    options = Options(reward, time_limit, episode_limit, workers, timeout, restarts)
    return hosted_env(PyMarlDoor, (target, own_settings(settings)), options, f"env._target_={target}")
