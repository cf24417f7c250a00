"""Environments as people write them: small departures from the three interfaces, each of which has a meaning."""

import gymnasium
import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

AGENTS = ("a", "b", "c")


class Herd(ParallelEnv):
    """Three agents for 4 steps, each step pays 1; ``habit`` says what is unusual."""

    metadata = {"name": "herd"}  # noqa: RUF012 - PettingZoo's convention
    max_cycles = 4

    def __init__(self, habit=""):
        self.habit = habit
        self.possible_agents = set(AGENTS) if habit == "set" else list(AGENTS)
        self.agents = []
        if habit == "state is a number":
            self.state = 3
        if habit == "spaces are dictionaries":
            self.observation_space = {agent: spaces.Box(0, 9, (2,)) for agent in AGENTS}
            self.action_space = {agent: spaces.Discrete(2) for agent in AGENTS}
        if habit == "no seed":
            self.reset = self._begin

    def observation_space(self, agent):
        box = spaces.Box(0, 9, (2,))
        if self.habit in ("parts", "no action at the end"):
            parts = {"observation": box, "action_mask": spaces.Box(0, 1, (2,), np.int8)}
            return spaces.Dict(parts | ({"goal": spaces.Box(0, 9, (3,))} if self.habit == "parts" else {}))
        return box

    def action_space(self, agent):
        return spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        return self._begin()

    def _begin(self):
        self.time, self.agents = 0, list(AGENTS)
        return self._obs(), {agent: {} for agent in AGENTS}

    def _obs(self):
        obs = {agent: np.full(2, self.time, np.float32) for agent in AGENTS}
        if self.habit not in ("parts", "no action at the end"):
            return obs
        mask = np.array([0, self.time < self.max_cycles], np.int8)
        more = {"goal": np.full(3, 7, np.float32)} if self.habit == "parts" else {}
        return {agent: {"observation": seen, "action_mask": mask, **more} for agent, seen in obs.items()}

    def step(self, actions):
        self.time += 1
        over, acting = self.time == self.max_cycles, list(self.agents)
        gone = ["a"] if self.habit in ("pays the dead", "pays in arrays") and self.time == 2 else []
        self.agents = [] if over else [agent for agent in acting if agent not in gone]
        truly = over and self.habit in ("both flags", "no action at the end")
        terminated = {agent: truly or agent in gone for agent in acting}
        truncated = dict.fromkeys(acting, over and self.habit != "no action at the end")
        paid = AGENTS if self.habit == "pays the dead" else acting
        reward = np.ones(1) if self.habit == "pays in arrays" else 1.0
        obs = {} if over and self.habit == "nothing at the end" else self._obs()
        return obs, dict.fromkeys(paid, reward), terminated, truncated, {agent: {} for agent in acting}


class Row(gymnasium.Env):
    """Two agents, whose observations carry a mask: only action 2 is allowed. Their clocks stop after 2 and 3 steps."""

    observation_space = spaces.Tuple(
        [spaces.Dict({"observation": spaces.Box(0, 9, (3,)), "action_mask": spaces.Box(0, 1, (3,), np.int8)})] * 2
    )
    action_space = spaces.Tuple([spaces.Discrete(3)] * 2)
    max_steps = 9

    def reset(self, seed=None, options=None):
        self.time = 0
        return self._obs(), {}

    def step(self, action):
        assert tuple(action) == (2, 2)
        self.time += 1
        return self._obs(), [1.0, 1.0], [False, False], [self.time >= 2, self.time >= 3], {}

    def _obs(self):
        one = {"observation": np.full(3, self.time, np.float32), "action_mask": np.array([0, 0, 1], np.int8)}
        return (one, one)


class RowOfLists(Row):
    """Spaces in lists, as before Gymnasium had Tuples."""

    observation_space = list(Row.observation_space)  # noqa: RUF012 - as people write it
    action_space = list(Row.action_space)  # noqa: RUF012


if "RowOfLists-v0" not in gymnasium.registry:
    gymnasium.register("RowOfLists-v0", entry_point=RowOfLists)
if "Row-v0" not in gymnasium.registry:
    gymnasium.register("Row-v0", entry_point=Row)


class Fold:
    """PyMARL's interface for 3 steps, with EPyMARL's five results and flags for each agent."""

    def __init__(self, habit=""):
        self.habit = habit

    def get_env_info(self):
        shape = np.array([2]) if self.habit == "shape in an array" else 2
        return {"n_agents": 2, "n_actions": 2, "obs_shape": shape, "state_shape": shape, "episode_limit": 9}

    def reset(self, seed=None, options=None):
        self.time, self.start = 0, np.random.default_rng(seed).random()
        return self.get_obs(), {}

    def step(self, actions):
        self.time += 1
        over = self.time == 3
        flags = np.array([over, over]) if self.habit == "arrays" else [over, over]
        limit = [over and self.habit == "limit"] * 2
        return self.get_obs(), [1.0, 1.0], [False] * 2 if self.habit == "limit" else flags, limit, {}

    def get_obs(self):
        return [np.full(2, self.start, np.float32)] * 2

    def get_avail_actions(self):
        return [[0, 0] if self.time == 3 else [1, 1]] * 2

    def render(self):
        return np.zeros((4, 4, 3), np.uint8)
