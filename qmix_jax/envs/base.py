"""The interface of an environment."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import Array, Int, Key

from qmix_jax.types import Entities, EnvState, Outcome, TimeStep


class Env(NamedTuple):
    """A cooperative multi-agent environment: a pair of pure functions and their sizes.

    ``reset(key)`` starts an episode. ``step(key, env_state, action[N])`` plays one joint action and never resets by
    itself: with an :class:`Outcome` with ``last`` set, the returned :class:`TimeStep` is the true final observation.
    Both must be jittable and vmappable, return the same shapes and dtypes at every call, depend only on their
    arguments, and leave at least one action available to every agent.

    ``episode_limit`` is the largest number of transitions in an episode. ``max_return``, if known, bounds the
    absolute value of the undiscounted team return. ``state_from_obs`` says that the state is always the concatenated
    observations (``obs.reshape(-1)``), so that it need not be stored as well. ``render(episode,
    path)`` draws one recorded episode to a file, whose name ends in one of ``drawn_as``.

    With ``individual_reward`` the reward is [N], one for each agent (``env.reward=individual``), and the team's return
    is the sum over agents.

    ``image_shape`` is the height, width and channels of observations that are images in a row, for ``agent=cnn``. With
    ``byte_scale`` observations times it are whole numbers from 0 to 255 (``replay.obs_dtype=uint8``).

    ``entities``, if given, says which parts of an observation are of which entity, for ``agent=entities``.

    ``hosted``, if given, is a :class:`qmix_jax.envs.hosted.make.Hosted`: the environment is Python code that worker
    processes step. ``reset`` and ``step`` then only raise.
    """

    name: str
    num_agents: int
    num_actions: int
    obs_size: int
    state_size: int
    episode_limit: int
    reset: Callable[[Key[Array, ""]], tuple[EnvState, TimeStep]]
    step: Callable[[Key[Array, ""], EnvState, Int[Array, " N"]], tuple[EnvState, TimeStep, Outcome]]
    has_win_rate: bool = False
    max_return: float | None = None
    state_from_obs: bool = False
    render: Callable[["Episode", Path], None] | None = None
    drawn_as: tuple[str, ...] = (".gif", ".png", ".md", ".txt")
    hosted: Any = None
    individual_reward: bool = False
    image_shape: tuple[int, int, int] | None = None
    byte_scale: float | None = None
    entities: Entities | None = None

    @property
    def reward_shape(self) -> tuple[int, ...]:
        """``()``, or ``(N,)`` with ``individual_reward``."""
        return (self.num_agents,) if self.individual_reward else ()

    def team_reward(self, reward: Any) -> Any:
        """The team's reward ``[*batch]`` from a stored one."""
        return reward.sum(axis=-1) if self.individual_reward else reward


class Episode(NamedTuple):
    """One recorded episode of L transitions, on the host, for rendering."""

    env_states: Sequence[EnvState]
    """L + 1 environment states."""
    keys: Sequence[Key[Array, ""]]
    """The L keys that ``step`` was called with."""
    actions: Sequence[Int[Array, " N"]]
    """L joint actions."""
    rewards: Sequence[float]
    """L team rewards."""
