"""One Python environment as arrays: the same agents in the same places at every step, and every promise checked.

Nothing but NumPy and the standard library is imported here: worker processes start with this file.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from qmix_jax.errors import USERS_ERRORS, in_a_line

T = TypeVar("T")
TEAM_REWARDS: dict[str, Callable[[Any], Any]] = {
    "sum": lambda rewards: float(np.sum(rewards)),
    "mean": lambda rewards: float(np.mean(rewards)),
    "first": lambda rewards: float(np.ravel(rewards)[0]),
    "individual": np.asarray,
}
"""The team's reward from the agents' rewards; ``first`` is for environments that give every agent the same, and
``individual`` keeps each agent's own."""

START = -2
"""In place of an agent's action: start the next episode."""
IDLE = -1
"""In place of an agent's action: do nothing."""


class EnvError(RuntimeError):
    """What is wrong with an environment, in one line."""


class Spec(NamedTuple):
    """Names and sizes of a team."""

    name: str
    agents: tuple[str, ...]
    num_actions: tuple[int, ...]
    """Of every agent."""
    obs_sizes: tuple[int, ...]
    """Of every agent, flattened."""
    state_size: int | None
    """None where the state is the observations in a row."""
    episode_limit: int | None
    """Transitions of the longest episode; None where the environment does not say."""
    image_shape: tuple[int, int, int] | None = None
    """Height, width and channels, where all observations are images of this size."""
    bytes: bool = False
    """Observations are bytes."""


class Raw(NamedTuple):
    """What an environment shows at one moment, agent by agent; ``None`` for an agent that is not there."""

    obs: Sequence[Any]
    """Flat vectors."""
    avail: Sequence[Any]
    """Vectors of 0 and 1; ``None`` where all actions are available."""
    state: Any = None


class RawResult(NamedTuple):
    """What a joint action led to, in the environment's own words."""

    raw: Raw
    rewards: Any
    """One number, or one per agent, None for one that is not paid."""
    terminated: bool
    truncated: bool
    won: bool | None
    """None where the environment does not say."""


class View(NamedTuple):
    """A team's moment as arrays."""

    obs: np.ndarray
    avail: np.ndarray
    state: np.ndarray


class Result(NamedTuple):
    """What a joint action led to."""

    view: View
    reward: Any
    """One number, or one per agent."""
    terminated: bool
    truncated: bool
    won: bool | None


def ends(terminated: Any, truncated: Any) -> tuple[bool, bool]:
    """Whether an episode is over for a team, and how, from flags of the team or of each agent.

    It is over when it is for every agent; by a time limit unless all have truly ended.
    """
    over = bool(np.all(np.logical_or(terminated, truncated)))
    truly = bool(np.all(terminated))
    return truly, over and not truly


class Door:
    """What is particular to one kind of environment; see the three files that are named after them."""

    spec: Spec
    tells_time_limit = True
    """Whether ``truncated`` can be relied on."""
    draws_when_asked = True
    """Whether it must be made with ``render_mode`` to draw; its settings are then the last argument."""

    def reset(self, seed: int) -> Raw:
        """Start an episode."""
        raise NotImplementedError

    def step(self, action: np.ndarray) -> RawResult:
        """Play one joint action ``[N]``."""
        raise NotImplementedError

    def draw(self) -> Any:
        """A picture of now, ``uint8 [height, width, 3]``; None where the environment draws none."""
        return None

    def close(self) -> None:
        """Let the environment give back what it holds."""


class Team:
    """A :class:`Door` with checks, padding, the team's reward and the episode limit.

    Agents that are absent have zeros for observations and only action 0, which is ignored.

    Args:
        door: the environment.
        reward: how the agents' rewards make the team's, one of ``TEAM_REWARDS``.
        episode_limit: episodes are cut (truncated) after so many transitions.
    """

    def __init__(self, door: Door, reward: str, episode_limit: int) -> None:
        self.door = door
        self.spec = spec = door.spec
        self.episode_limit = episode_limit
        self._reward = TEAM_REWARDS[reward]
        self._individual = reward == "individual"
        self._played = 0
        self._num_actions = max(spec.num_actions)
        self._own_actions = np.arange(self._num_actions) < np.asarray(spec.num_actions)[:, None]

    def reset(self, seed: int) -> View:
        """Start an episode."""
        self._played = 0
        return self._view(self._answer(lambda: self.door.reset(seed)))

    def step(self, action: np.ndarray) -> Result:
        """Play one joint action ``[N]``.

        Where the environment does not tell its time limit from a true end, an end at the limit is the time limit.
        """
        self._played += 1
        raw, rewards, terminated, truncated, won = self._answer(lambda: self.door.step(action))
        at_limit = self._played >= self.episode_limit
        if at_limit and not (terminated and self.door.tells_time_limit):
            truncated = True
        view, reward = self._view(raw, ended=bool(terminated) and not truncated), self._team_reward(rewards)
        return Result(view, reward, bool(terminated) and not truncated, bool(truncated), won)

    def _answer(self, ask: Callable[[], T]) -> T:
        """What the door answers. Whatever it raises becomes an :class:`EnvError` that names the step."""
        try:
            return ask()
        except EnvError as error:
            raise EnvError(f"step {self._played}: {error}") from error
        except USERS_ERRORS as error:
            raise EnvError(f"step {self._played}: {in_a_line(error)}") from error

    def _team_reward(self, rewards: Any) -> Any:
        if isinstance(rewards, list) and any(reward is None for reward in rewards):
            paid = [reward for reward in rewards if reward is not None]
            # The first agent that is paid stands for those that are not, where all are paid the same.
            other = paid[0] if paid and self._reward is TEAM_REWARDS["first"] else 0.0
            rewards = [other if reward is None else reward for reward in rewards]
        try:
            rewards = np.asarray(rewards, np.float64)
        except (TypeError, ValueError) as error:
            raise EnvError(f"step {self._played}: the reward is no number: {rewards!r:.60}") from error
        rewards = rewards.ravel() if rewards.ndim else rewards
        if not np.isfinite(rewards).all():
            agent = self._names(~np.isfinite(np.atleast_1d(rewards))) if rewards.ndim else "the team"
            raise EnvError(f"step {self._played}: the reward of {agent} is not finite")
        if rewards.ndim and rewards.size != len(self.spec.agents):
            raise EnvError(
                f"step {self._played}: {rewards.size} rewards for {len(self.spec.agents)} agents; return one number, "
                "or one for each agent"
            )
        if self._individual and not rewards.ndim:
            raise EnvError("env.reward=individual: it pays the team one reward; use env.reward=sum")
        return self._reward(rewards)

    def _view(self, raw: Raw, ended: bool = False) -> View:
        spec = self.spec
        for what, values in (("observations", raw.obs), ("action masks", raw.avail)):
            if len(values) != len(spec.agents):
                raise EnvError(
                    f"step {self._played}: {len(values)} {what} for {len(spec.agents)} agents; return one for each "
                    f"of {', '.join(spec.agents)}, at every step"
                )
        obs = np.zeros((len(spec.agents), max(spec.obs_sizes)), np.float32)
        avail = self._own_actions.copy()
        for place, (seen, allowed) in enumerate(zip(raw.obs, raw.avail, strict=True)):
            if seen is None:
                avail[place] = np.arange(self._num_actions) == 0
                continue
            obs[place, : spec.obs_sizes[place]] = self._vector(seen, spec.obs_sizes[place], place, "observation")
            if allowed is not None:
                count = spec.num_actions[place]
                avail[place, :count] = self._vector(allowed, count, place, "action mask").astype(bool)
        if ended:  # Nobody acts there, nor asks what could have been done.
            avail[~avail.any(axis=1), 0] = True
        self._check(np.isfinite(obs).all(axis=1), "the observation of {} is not finite")
        self._check(avail.any(axis=1), "no action is available to {}")
        if spec.state_size is None:
            parts = [obs[place, :size] for place, size in enumerate(spec.obs_sizes)]
            return View(obs, avail, np.concatenate(parts))
        state = self._numbers(raw.state, "the state")
        if state.size != spec.state_size or not np.isfinite(state).all():
            wrong = "not finite" if state.size == spec.state_size else f"{state.size} numbers, not {spec.state_size}"
            raise EnvError(f"step {self._played}: the state is {wrong}")
        return View(obs, avail, state)

    def _vector(self, values: Any, size: int, place: int, what: str) -> np.ndarray:
        vector = self._numbers(values, f"the {what} of {self.spec.agents[place]}")
        if vector.size != size:
            raise EnvError(
                f"step {self._played}: the {what} of {self.spec.agents[place]} has {vector.size} numbers, not {size}"
            )
        return vector

    def _numbers(self, values: Any, what: str) -> np.ndarray:
        try:
            return np.asarray(values, np.float32).ravel()
        except (TypeError, ValueError) as error:
            raise EnvError(f"step {self._played}: {what} is no array of numbers: {values!r:.60}") from error

    def _check(self, good: Any, words: str) -> None:
        if not good.all():
            raise EnvError(f"step {self._played}: {words.format(self._names(~good))}")

    def _names(self, places: np.ndarray) -> str:
        return ", ".join(name for name, there in zip(self.spec.agents, places, strict=False) if there)

    @property
    def played(self) -> int:
        """Transitions of this episode so far."""
        return self._played

    def close(self) -> None:
        """Close the environment."""
        self.door.close()
