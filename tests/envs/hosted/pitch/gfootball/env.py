"""One player has the ball and runs: right is action 5, a shot is action 12. Whoever shoots beyond x = 0.5 scores.

A shot ends the episode, except in a match.
"""

import sys
from typing import Any

import numpy as np

RIGHT, SHOT = 5, 12
PLACES = 115


class _Core:
    def __init__(self, options: dict[str, Any]) -> None:
        self._config = {"game_engine_random_seed": 0, **options}


class Game:
    def __init__(self, players: int, options: dict[str, Any], checkpoints: bool, ends: bool) -> None:
        self.unwrapped = _Core(options)
        self._players, self._checkpoints, self._ends, self._x = players, checkpoints, ends, 0.0

    def _obs(self) -> np.ndarray:
        obs = np.zeros((self._players, PLACES), np.float64)
        obs[:, :44] = obs[:, 44:88] = -1
        for player in range(self._players):
            obs[:, 2 * player : 2 * player + 2] = self._x - 0.1 * player, 0.1 * player
            obs[player, 97 + player] = 1
        obs[:, 88] = self._x
        return obs if self._players > 1 else obs[0]

    def reset(self) -> np.ndarray:
        seed = self.unwrapped._config["game_engine_random_seed"]
        self._x = float(np.random.default_rng(seed).uniform(0, 0.3))
        return self._obs()

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, dict[str, Any]]:
        actions = np.ravel(action)
        assert actions.shape == (self._players,)
        reward = 0.0
        if RIGHT in actions:
            self._x += 0.1
            reward += 0.1 * self._checkpoints
        shot = SHOT in actions
        scored = int(shot and self._x > 0.5)
        reward += scored
        rewards = np.full(self._players, reward) if self._players > 1 else reward
        return self._obs(), rewards, shot and self._ends, {"score_reward": scored}

    def close(self) -> None:
        self.unwrapped = None


def create_environment(
    env_name: str,
    representation: str,
    rewards: str,
    number_of_left_players_agent_controls: int,
    other_config_options: dict[str, Any],
) -> Game:
    if not env_name.startswith("academy"):
        sys.exit(1)  # As gfootball does.
    assert representation == "simple115v2"
    ends = "match" not in env_name
    return Game(number_of_left_players_agent_controls, other_config_options, "checkpoints" in rewards, ends)
