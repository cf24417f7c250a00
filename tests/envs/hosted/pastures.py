"""Small Python environments of all three kinds, good and broken. Nothing here imports jax: workers import it."""

import argparse
import logging
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings

import gymnasium
import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from qmix_jax.envs.hosted.team import TEAM_REWARDS  # noqa: F401 - workers can import the package


class Pasture(ParallelEnv):
    """Three sheep: ``early`` leaves after 2 steps, ``late`` comes after 1; all go home after ``length`` steps.

    The reward of a sheep is its action. ``how`` it ends is ``terminated`` or ``truncated``.
    """

    metadata = {"name": "pasture"}  # noqa: RUF012 - PettingZoo's convention

    def __init__(self, length=4, how="truncated", fault="", mask="info", dtype="float32", when=2):
        self.possible_agents = ["early", "late", "staying"]
        self.length, self.how, self.fault, self.mask = length, how, fault, mask
        self.max_cycles, self.when = max(10, length), when
        self.dtype = np.dtype(dtype)
        self.agents = []
        self.seen = {agent: self._space(agent) for agent in self.possible_agents}
        self.chosen = {agent: spaces.Discrete(3) for agent in self.possible_agents}

    def observation_space(self, agent):
        return self.seen[agent]

    def _space(self, agent):
        size = 2 if agent == "early" else 3
        box = spaces.Box(0, 255, (size,), self.dtype)
        if self.mask != "obs":
            return box
        return spaces.Dict({"observation": box, "action_mask": spaces.Box(0, 1, (3,), np.int8)})

    def action_space(self, agent):
        return self.chosen[agent]

    def reset(self, seed=None, options=None):
        self.time = 0
        self.agents = ["early", "staying"]
        self.start = np.random.default_rng(seed).integers(100)
        return self._obs(self.agents), self._infos(self.agents)

    def step(self, actions):
        assert set(actions) == set(self.agents)
        self.time += 1
        there = list(self.agents)
        if self.time == 1:
            self.agents = [*self.agents, "late"]
        gone = {agent: agent == "early" and self.time == 2 for agent in there}
        over = self.time == self.length
        self.agents = [] if over else [agent for agent in self.agents if not gone.get(agent)]
        seen = sorted({*there, *self.agents})
        terminated = {agent: gone.get(agent, False) or (over and self.how == "terminated") for agent in seen}
        truncated = {agent: over and self.how == "truncated" and not gone.get(agent, False) for agent in seen}
        rewards = {agent: float(actions[agent]) for agent in there}
        if self.fault == "reward" and self.time == 3:
            rewards["staying"] = float("nan")
        if self.fault == "raise" and self.time == 3:
            raise ValueError("the dog\nbarked")
        return self._obs(seen), rewards, terminated, truncated, self._infos(seen)

    def _obs(self, agents):
        obs = {}
        for agent in agents:
            size = self.observation_space("early" if agent == "early" else "late")
            size = (size["observation"] if self.mask == "obs" else size).shape[0]
            values = np.full(size, self.time + (self.start if self.fault != "still" else 0))
            values = values.astype(self.dtype)
            if self.fault == "nan" and self.time == self.when and agent == "staying":
                values[0] = np.nan
            if self.fault == "size" and self.time == 2 and agent == "staying":
                values = np.zeros(5, self.dtype)
            obs[agent] = {"observation": values, "action_mask": self._allowed(agent)} if self.mask == "obs" else values
        return obs

    def _infos(self, agents):
        return {agent: {"action_mask": self._allowed(agent)} if self.mask == "info" else {} for agent in agents}

    def render(self):
        """A grey picture, brighter with the time."""
        return np.full((8, 12, 3), 20 * self.time, np.uint8)

    def _allowed(self, agent):
        if self.fault == "mask" and self.time == 2 and agent == "staying":
            return np.zeros(3, np.int8)
        return np.array([1, 1, 0], np.int8)


def pasture(**settings):
    return Pasture(**settings)


class Wild(Pasture):
    """A pasture that does not keep to PettingZoo's parallel API from its second step on."""

    def reset(self, seed=None, options=None):
        obs, infos = super().reset(seed, options)
        if self.fault == "no agents":
            self.agents = []
        if self.fault == "old reset":
            return obs
        return obs, None if self.fault == "no infos" else infos

    def step(self, actions):
        there = list(self.agents)
        obs, rewards, terminated, truncated, infos = super().step(actions)
        if self.fault == "done agents listed" and self.time == self.length:
            self.agents = there
        if self.time != 2:
            return obs, rewards, terminated, truncated, infos
        if self.fault == "rewards by number":
            rewards = dict(enumerate(rewards.values()))
        if self.fault == "reward missing":
            del rewards["staying"]
        self.agents = [*self.agents, *{"unknown agent": ["wolf"], "done agent": ["early"]}.get(self.fault, [])]
        obs["staying"] = {"observation None": None, "observation of words": ["x", "y", "z"]}.get(
            self.fault, obs["staying"]
        )
        if self.fault == "observation missing":
            del obs["staying"]
        if self.fault == "old step":
            return obs, rewards, terminated, infos
        return obs, rewards, False if self.fault == "flags" else terminated, truncated, infos

    def close(self):
        if self.fault == "close":
            raise RuntimeError("the gate is stuck")


def wild(fault, **settings):
    if fault == "exit":
        sys.exit("no licence")
    return Wild(fault=fault, **settings)


def turns():
    """PettingZoo's other API, in which agents act in turn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PettingZoo's own.
        from pettingzoo.classic import tictactoe_v3

        return tictactoe_v3.env()


def unlucky(bad):
    """A pasture that cannot be started in workers with one seed."""
    env = Pasture(length=6)
    reset = env.reset

    def start(seed=None, options=None):
        if _in_worker() and seed == bad:
            raise RuntimeError("a bad day")
        return reset(seed, options)

    env.reset = start
    return env


def slow():
    """A pasture that takes longer to make in a worker."""
    time.sleep(0.8 * _in_worker())
    return Pasture(length=6)


def helped(file, session=False, always=False):
    """A pasture that starts a program in each worker, whose number it writes to a file."""
    if _in_worker() or always:
        program = subprocess.Popen(["sleep", "1000"], start_new_session=session)
        with open(file, "a") as numbers:  # noqa: PTH123
            numbers.write(f"{program.pid}\n")
    return Pasture(length=6)


class Mixed(Pasture):
    """Bytes in a dictionary, small numbers of the same type, a list in a space of bytes, and a state of bytes."""

    state_space = spaces.Box(0, 255, (2,), np.uint8)

    def _space(self, agent):
        picture, few = spaces.Box(0, 255, (2,), np.uint8), spaces.Box(0, 1, (1,), np.uint8)
        return spaces.Dict({"few": few, "picture": picture, "row": spaces.Tuple((picture, spaces.Discrete(2)))})

    def _obs(self, agents):
        row = (np.full(2, 51, np.uint8), 1)
        return {agent: {"few": np.ones(1, np.uint8), "picture": [255, 0], "row": row} for agent in agents}

    def state(self):
        return np.array([255, 51], np.uint8)


class Lights(ParallelEnv):
    """Two agents see a picture of 6 x 5 bytes with a lit corner, and are paid for choosing its number; 3 steps."""

    metadata = {"name": "lights"}  # noqa: RUF012 - PettingZoo's convention

    def __init__(self, dtype="uint8"):
        self.possible_agents, self.agents, self.max_cycles = ["left", "right"], [], 3
        self.seen, self.chosen = spaces.Box(0, 255, (6, 5, 1), np.dtype(dtype)), spaces.Discrete(4)

    def observation_space(self, agent):
        return self.seen

    def action_space(self, agent):
        return self.chosen

    def reset(self, seed=None, options=None):
        self.rng, self.time, self.agents = np.random.default_rng(seed), 0, list(self.possible_agents)
        return self._obs(), {agent: {} for agent in self.agents}

    def step(self, actions):
        self.time += 1
        over = self.time == 3
        rewards = {agent: float(actions[agent] == self.corner[agent]) for agent in self.possible_agents}
        flags = dict.fromkeys(self.possible_agents, over)
        obs = self._obs()
        self.agents = [] if over else self.agents
        none = dict.fromkeys(self.possible_agents, False)
        return obs, rewards, none, flags, {agent: {} for agent in self.possible_agents}

    def _obs(self):
        self.corner = {agent: int(self.rng.integers(4)) for agent in self.possible_agents}
        pictures = {agent: np.zeros((6, 5, 1), self.seen.dtype) for agent in self.possible_agents}
        for agent, corner in self.corner.items():
            pictures[agent][-(corner // 2), -(corner % 2)] = 200 + corner
        return pictures


def lights(**settings):
    return Lights(**settings)


def dying(file="", how="kill", after=3):
    """A pasture in whose workers something happens at a step, once: ``file`` remembers."""
    env = Pasture(length=6)
    step = env.step

    def dangerous(actions):
        if env.time == after and _in_worker() and not os.path.exists(file):  # noqa: PTH110
            open(file, "w").close()  # noqa: PTH123
            if how == "kill":
                print("baa, the wolf", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "exit":
                sys.exit("the licence is lost")
            if how == "end":
                os._exit(3)
            if how == "hang":
                time.sleep(1000)
            if how == "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
        return step(actions)

    env.step = dangerous
    return env


def ending(where="make", how="exit"):
    """A pasture that ends its process or hangs, wherever that is; it has forked before, so that its pipes stay open."""
    end = {
        "exit": lambda: os._exit(0),
        "fault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
        "fork": lambda: os._exit(4) if os.fork() else time.sleep(1000),
        "hang": lambda: time.sleep(1000),
    }[how]
    print("x" * 1_000_000)
    print("the fence is down", flush=True)
    if where == "make":
        end()
    env = Pasture(length=6)
    setattr(env, where, lambda *_, **__: end())
    return env


def talking(when, ends=False):
    """A pasture that prints something at each end, and may end its process in its third episode."""
    env = Pasture(length=6)
    reset, episodes = env.reset, []

    def told(seed=None, options=None):
        episodes.append(seed)
        if len(episodes) > when:
            print("baa", flush=True)
        if ends and len(episodes) > 3:
            os._exit(5)
        return reset(seed, options)

    env.reset = told
    return env


def meddling():
    """A pasture that changes what it should not: of its process, and not of the one that trains."""
    os.chdir("/")
    os.environ["QMIX_JAX_TEST"] = "changed"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - what older environments do
    logging.disable()
    sys.stdout = sys.stderr = None
    threading.Thread(target=time.sleep, args=(1000,)).start()
    return Pasture()


def changing(file):
    """A pasture whose agents have another order when it is made again."""
    env = Pasture()
    if os.path.exists(file):  # noqa: PTH110
        env.possible_agents = env.possible_agents[::-1]
    open(file, "w").close()  # noqa: PTH123
    return env


def parsing():
    """A pasture that reads the command line."""
    argparse.ArgumentParser().parse_args()
    return Pasture()


def parallel():
    """A pasture that computes in processes of its own."""
    env = Pasture(length=6)
    step = env.step

    def spread(actions):
        if _in_worker():
            process = multiprocessing.get_context("fork").Process(target=int)
            process.start()
            process.join()
        return step(actions)

    env.step = spread
    return env


def tiring(after=100):
    """A pasture that raises in workers once it has been stepped ``after`` times, over all its episodes."""
    env = Pasture(length=6)
    step, steps = env.step, []

    def tired(actions):
        steps.append(1)
        if len(steps) > after and _in_worker():
            raise RuntimeError("the grass\nis gone")
        return step(actions)

    env.step = tired
    return env


def _in_worker():
    """Not in the process of the trial."""
    return multiprocessing.current_process().name.startswith("Worker")


class Field:
    """PyMARL's interface: two agents, five steps; won, and truly over, if both choose 1 in step ``win``."""

    def __init__(self, win=3, state_size=4, fault=""):
        self.win, self.state_size, self.fault = win, state_size, fault

    def get_env_info(self):
        info = {
            "n_agents": 2,
            "n_actions": 5 if self.fault == "num_actions" else 3,
            "obs_shape": 2,
            "state_shape": self.state_size,
            "episode_limit": 5,
        }
        if self.fault == "info":
            del info["n_agents"], info["obs_shape"]
        if self.fault == "limit":
            info["episode_limit"] = -1
        if self.fault == "nobody":
            info["n_agents"] = 0
        if self.fault == "shapes":
            info |= {"obs_shape": (2, 1), "state_shape": (2, 2)}
        return info

    def seed(self):
        return 0

    def reset(self):
        self.time = 0
        return self.get_obs(), self.get_state()

    def step(self, actions):
        self.time += 1
        won = self.time == self.win and list(actions) == [1, 1]
        limit = self.time >= 5 and not won
        info = {"battle_won": won}
        if limit:
            info["episode_limit"] = True
        if self.fault == "four":
            return self.get_obs(), 0.0, limit, info
        if self.fault == "rewards":
            return [1.0, 2.0, 3.0], limit, info
        if self.fault == "column":
            return np.array([[1.0], [2.0]]), limit, info
        if self.fault == "no info":
            return 1.0, limit, None
        return float(sum(actions)), won or limit, info

    def get_obs(self):
        if self.fault == "alone" and self.time == 2:
            return [np.zeros(2, np.float32)]
        return [np.full(2, self.time, np.float32), np.full(2, -self.time, np.float32)]

    def get_state(self):
        size = self.state_size + (self.fault == "state" and self.time == 2)
        return np.full(size, self.time, np.float32)

    def get_avail_actions(self):
        return [[1, 1, 0], [1, 1, 1]]

    def close(self):
        pass


class Named(Field):
    """Arguments with the names of the adapter's."""

    def __init__(self, episode_limit, reward, target, workers, win=3):
        super().__init__(win)
        assert (reward, target, workers) == ("wool", "fence", 7)
        self.limit = episode_limit

    def get_env_info(self):
        return {**super().get_env_info(), "episode_limit": self.limit}


class Seeded(Field):
    """As SMAC: the seed is given when it is made, and ``seed()`` only tells it."""

    def __init__(self, seed=None):
        super().__init__()
        self._seed = seed

    def seed(self):
        return self._seed


class Alone(gymnasium.Env):
    """One agent: not for this project."""

    observation_space = spaces.Box(0, 1, (2,))
    action_space = spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), 0.0, False, False, {}
