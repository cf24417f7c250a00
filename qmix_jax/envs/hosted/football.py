"""Google Research Football (Kurach et al. 2020) as a PyMARL ``MultiAgentEnv``: ``env=football``.

Nothing of the project but what workers need is imported here, and ``gfootball`` only where an environment is made.
"""

import pkgutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from qmix_jax.envs.hosted.team import EnvError
from qmix_jax.errors import ConfigError, unknown_choice

REWARDS = {"scoring": "scoring", "checkpoints": "scoring,checkpoints"}
OBS_SIZE = 115
ACTIVE = slice(97, 108)
"""Where ``simple115v2`` says which player the observation belongs to: the rest is the same for all of a team."""
NUM_ACTIONS = 19
GOAL_HALF_WIDTH = 0.044


class Football:
    """Some players of the left team; the others, and the right team, are played by the game.

    Each agent observes ``simple115v2``: positions and directions of all players and of the ball, who has it, the
    mode of the game, and which player it is itself. The state is the same without the last. An episode is won when
    the left team has scored.

    Args:
        scenario: one of gfootball's, like ``academy_3_vs_1_with_keeper``.
        agents: controlled players; no more than the scenario lets be controlled.
        rewards: ``scoring``: 1 for a goal, -1 for one of the others. ``checkpoints``: also 0.1 for each of
            ten distances to the goal that the ball is carried over, once.
        limit: transitions of an episode, which the scenario may end before.
        options: gfootball's ``other_config_options``.
    """

    def __init__(
        self,
        scenario: str,
        agents: int,
        rewards: str = "scoring",
        limit: int = 150,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        try:
            from gfootball import env as football  # pyright: ignore[reportMissingImports]
            from gfootball import scenarios  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise EnvError(f"needs gfootball, which docs/football.md says how to install ({error})") from error
        known = [module.name for module in pkgutil.iter_modules(scenarios.__path__)]
        if scenario.partition(".")[0] not in known:  # gfootball would end the process.
            raise unknown_choice("env.scenario", scenario, known)
        self._agents, self._limit, self._played = agents, limit, 0
        self._options = dict(options or {})
        self._env = football.create_environment(
            env_name=scenario,
            representation="simple115v2",
            rewards=REWARDS[rewards],
            number_of_left_players_agent_controls=agents,
            other_config_options=self._options,
        )
        self._obs = np.zeros((agents, OBS_SIZE), np.float32)

    def get_env_info(self) -> dict[str, int]:
        """Sizes, in PyMARL's words."""
        state_size = OBS_SIZE - (ACTIVE.stop - ACTIVE.start)
        return {
            "n_agents": self._agents,
            "n_actions": NUM_ACTIONS,
            "obs_shape": OBS_SIZE,
            "state_shape": state_size,
            "episode_limit": self._limit,
        }

    def seed(self, number: int) -> None:
        """Decide the random numbers of the next episodes, and which team the game moves first, as gfootball does."""
        config = self._env.unwrapped._config
        config["game_engine_random_seed"] = number % 2**31
        if "reverse_team_processing" not in self._options:
            config["reverse_team_processing"] = bool(number % 2)

    def reset(self) -> None:
        """Start an episode."""
        self._played, self._scored = 0, False
        self._see(self._env.reset())

    def step(self, actions: list[int]) -> tuple[float, bool, dict[str, bool]]:
        """Play one transition. gfootball pays every controlled player the same: it counts once."""
        obs, reward, done, info = self._env.step(actions if self._agents > 1 else actions[0])
        self._played += 1
        self._see(obs)
        limit = not done and self._played >= self._limit
        self._scored |= info["score_reward"] > 0  # not every scenario ends with a goal
        told = {"battle_won": self._scored, "episode_limit": limit}
        return float(np.ravel(reward)[0]), bool(done) or limit, told

    def _see(self, obs: Any) -> None:
        self._obs = np.asarray(obs, np.float32).reshape(self._agents, OBS_SIZE)

    def get_obs(self) -> list[np.ndarray]:
        """One ``simple115v2`` for each agent."""
        return list(self._obs)

    def get_state(self) -> np.ndarray:
        """What all agents observe alike."""
        return np.delete(self._obs[0], np.r_[ACTIVE])

    def get_avail_actions(self) -> list[np.ndarray]:
        """All actions at all times, as in gfootball."""
        return [np.ones(NUM_ACTIONS, np.int8)] * self._agents

    def render(self, mode: str = "rgb_array") -> np.ndarray:
        """The pitch from above; gfootball's own pictures need a screen."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        del mode
        seen = self._obs[0]
        figure = Figure(figsize=(6, 3), dpi=100, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot(facecolor="#3f7f3f")
        axes.set(xlim=(-1.08, 1.08), ylim=(0.48, -0.48), xticks=[], yticks=[], title=f"step {self._played}")
        line = {"color": "white", "linewidth": 1}
        axes.plot([-1, 1, 1, -1, -1], [-0.42, -0.42, 0.42, 0.42, -0.42], **line)
        axes.plot([0, 0], [-0.42, 0.42], **line)
        for side in (-1, 1):
            axes.plot([side, 1.06 * side, 1.06 * side, side], np.array([-1, -1, 1, 1]) * GOAL_HALF_WIDTH, **line)
        # Players that do not play are at -1, -1.
        for start, color in ((0, "tab:blue"), (44, "tab:red")):
            players = seen[start : start + 22].reshape(-1, 2)
            players = players[(players > -1).any(axis=1)]
            axes.scatter(players[:, 0], players[:, 1], s=60, color=color, edgecolors="white")
        own = self._obs[:, ACTIVE].argmax(axis=1)
        axes.scatter(seen[2 * own], seen[2 * own + 1], s=130, facecolors="none", edgecolors="yellow")
        axes.scatter(seen[88], seen[89], s=18 + 60 * max(0.0, float(seen[90])), color="white", edgecolors="black")
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def close(self) -> None:
        """End the game."""
        self._env.close()


def make_football(
    scenario: str = "academy_3_vs_1_with_keeper",
    agents: int = 3,
    rewards: str = "scoring",
    max_steps: int = 150,
    time_limit: str = "bootstrap",
    workers: int | None = None,
    timeout: float = 60.0,
    restarts: int = 3,
    **options: Any,
) -> Any:
    """An :class:`~qmix_jax.envs.base.Env` around :class:`Football`; ``options`` are gfootball's own settings."""
    from qmix_jax.envs.hosted.make import Options, hosted_env
    from qmix_jax.envs.hosted.pymarl import PyMarlDoor
    from qmix_jax.envs.settings import check_at_least, check_choice, own_settings

    check_choice("env.rewards", rewards, tuple(REWARDS))
    check_at_least("env.agents", agents, 1)
    check_at_least("env.max_steps", max_steps, 1)
    for name, own in (("reward", "env.rewards"), ("episode_limit", "env.max_steps")):
        if name in options:
            raise ConfigError(f"env.{name}={options[name]}: football calls it {own}")
    settings = {"scenario": scenario, "agents": agents, "rewards": rewards, "limit": max_steps}
    settings["options"] = own_settings(options)
    own = Options("first", time_limit, None, workers, timeout, restarts)
    env = hosted_env(PyMarlDoor, (f"{__name__}.Football", settings), own, f"env.scenario={scenario}")
    return env._replace(name=f"football-{scenario}")
