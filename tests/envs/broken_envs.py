"""Small environments, each with one thing that users get wrong; a module of a user's, as far as the tests go."""

import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from qmix_jax.envs.base import Env
from qmix_jax.types import Outcome, TimeStep

AGENTS, ACTIONS, SIZE = 2, 3, 4


def make_env(fault: str = "", length: int = 3, agents: int = AGENTS) -> Env:
    """Two agents count to ``length``; the reward is the sum of their actions. Observations are 0 to 3, the state is
    the time."""

    def see(time):
        obs = jnp.full((agents, SIZE), time, jnp.float32)
        avail = jnp.ones((agents, ACTIONS), bool)
        state = jnp.full(5, time, jnp.float32)
        return TimeStep(**{"obs": obs, "avail_actions": avail, "state": state} | SEEN.get(fault, _same)(obs, avail))

    def reset(key):
        del key
        if fault == "exit-reset":
            sys.exit("no map")
        return jnp.int32(0), see(jnp.int32(0))

    def step(key, time, action):
        del key
        if fault == "if" and time > 1:
            return time, see(time), None
        time = time + 1
        if fault == "state-changes":
            return jnp.stack([time, time]), see(time), None
        if fault == "numpy-step":
            action = np.asarray(action)
        outcome = Outcome(
            reward=action.sum().astype(jnp.float32),
            discount=jnp.ones((), jnp.float32),
            last=time >= length,
            won=jnp.zeros((), bool),
        )
        return time, see(time), outcome._replace(**OUTCOMES.get(fault, _same)(action, time))

    sizes = {"num_agents": agents, "num_actions": ACTIONS, "obs_size": SIZE, "state_size": 5} | SIZES.get(fault, {})
    return Env(name="counting", episode_limit=length, reset=reset, step=step, **sizes)


def _same(*_):
    return {}


SEEN = {
    "uint8": lambda obs, avail: {"obs": obs.astype(jnp.uint8)},
    "int32": lambda obs, avail: {"obs": obs.astype(jnp.int32)},
    "float16": lambda obs, avail: {"obs": obs.astype(jnp.float16), "avail_actions": avail.astype(jnp.int8)},
    "no-state": lambda obs, avail: {"state": None},
    "empty-state": lambda obs, avail: {"state": jnp.zeros(0)},
    "obs-shape": lambda obs, avail: {"obs": obs[:, :2]},
    "no-actions": lambda obs, avail: {"avail_actions": avail & (jnp.arange(AGENTS) != 1)[:, None]},
    "avail-shape": lambda obs, avail: {"avail_actions": avail[:, :2]},
    "nan": lambda obs, avail: {"obs": obs.at[1, 0].set(jnp.nan)},
    "inf-state": lambda obs, avail: {"state": jnp.full(5, jnp.inf)},
    "avail-nan": lambda obs, avail: {"avail_actions": jnp.where(avail, jnp.nan, 0)},
    "complex": lambda obs, avail: {"obs": obs.astype(jnp.complex64)},
    "obs-none": lambda obs, avail: {"obs": None},
    "late-nan": lambda obs, avail: {"obs": jnp.where(obs > 0, jnp.nan, obs)},
}


def _divide(_):
    return 1 / 0


OUTCOMES = {
    "each": lambda action, time: {"reward": action.astype(jnp.float32) * jnp.array([1.0, 10.0])},
    "int-reward": lambda action, time: {"reward": action.sum(), "last": (time >= 3).astype(jnp.float32)},
    "reward-nan": lambda action, time: {"reward": jnp.float32(jnp.nan)},
    "python-reward": lambda action, time: {"reward": 3},
    "reward-none": lambda action, time: {"reward": None},
    "won-none": lambda action, time: {"won": None},
    "reward-of-one": lambda action, time: {"reward": action.astype(jnp.float32)},
    "discount-nan": lambda action, time: {"discount": jnp.float32(jnp.nan)},
    "discount-2": lambda action, time: {"discount": jnp.float32(2)},
    "callback": lambda action, time: {
        "reward": jax.pure_callback(_divide, jax.ShapeDtypeStruct((), jnp.float32), time)
    },
    "reward-shape": lambda action, time: {"reward": jnp.zeros((1, 1))},
    "done-shape": lambda action, time: {"last": jnp.zeros(AGENTS, bool)},
}
SIZES = {
    "no-state": {"state_size": 0},
    "empty-state": {"state_size": 0},
    "undeclared-state": {"state_size": 0},
    "actions": {"num_actions": 5},
    "agents": {"num_agents": 0},
    "agents-array": {"num_agents": jnp.int32(2)},
    "return-array": {"max_return": jnp.float32(2)},
    "shape-list": {"image_shape": [2, 2, 1]},
    "state-array": {"state_size": jnp.zeros(2)},
}


AGENTS_OF = {"agents-2": 2, "agents-none": None, "agents-empty": [], "agents-twice": ["a", "a"], "agents-text": "ab"}
AVAIL = {
    "avail-missing": {"a": jnp.ones(3)},
    "avail-small": {"a": jnp.ones(3), "b": jnp.ones(2)},
    "avail-big": {"a": jnp.ones(5), "b": jnp.ones(5)},
    "avail-array": jnp.ones((2, 3)),
}


class Multi:
    """JaxMARL's interface: ``a`` and ``b`` count to three."""

    def __init__(self, fault: str = "", act_type: str = "Continuous") -> None:
        self.fault = fault
        self.agents = AGENTS_OF.get(fault, ["a", "b"])
        self.max_steps = None if fault == "no-limit" else jnp.int32(3) if fault == "limit-array" else 3
        if fault in AVAIL:
            self.get_avail_actions = lambda state: AVAIL[fault]
        if fault.startswith("state-"):
            self.get_world_state = lambda state: self._world_state()

    def _world_state(self):
        if self.fault == "state-later":
            raise NotImplementedError

    def action_space(self, agent):
        return SimpleNamespace(shape=(2,)) if self.fault == "box" else SimpleNamespace(n=3, shape=())

    def reset(self, key):
        del key
        if self.fault == "no-tuple":
            return self.see(0)
        return self.see(0), {"time": jnp.int32(0)}

    def step_env(self, key, state, actions):
        del key
        fault, time = self.fault, state["time"] + 1
        if fault == "numpy":
            time = np.asarray(time)
        if fault == "if" and time > 1:
            return None
        done = time >= 3
        dones = {"a": done, "b": done, "__all__": done}
        if fault == "no-all":
            del dones["__all__"]
        if fault == "done-list":
            dones = [done, done]
        if fault == "done-shape":
            dones["__all__"] = jnp.stack([done, done])
        rewards = {"a": jnp.float32(actions["a"]), "b": jnp.float32(actions["b"])}
        if fault == "no-reward":
            del rewards["b"]
        if fault == "reward-shape":
            rewards["b"] = jnp.zeros(2)
        state = {"time": time, **({"more": time} if fault == "state-grows" else {})}
        if fault == "five":
            return self.see(time), state, rewards, dones
        return self.see(time, stepped=True), state, rewards, dones, {}

    def see(self, time, stepped=False):
        obs = {"a": jnp.full(2, time, jnp.float32), "b": jnp.full(3, time, jnp.float32)}
        if self.fault in ("uint8", "complex64"):
            obs["a"] = obs["a"].astype(self.fault)
        if self.fault == "obs-none":
            obs["b"] = None
        if self.fault == "list":
            return list(obs.values())
        if self.fault == "missing" and stepped:
            del obs["b"]
        if self.fault == "obs-grows" and stepped:
            obs["b"] = jnp.zeros(4)
        if self.fault == "nan":
            obs["b"] = obs["b"] * jnp.nan
        return obs


class NumpyGame:
    """An environment of one's own, stepped in NumPy, with no interface that anybody knows."""

    def reset(self):
        return np.zeros((2, 3))

    def step(self, actions):
        return np.zeros((2, 3)), float(np.sum(actions)), False


def in_numpy() -> Env:
    """An ``Env`` whose functions are written in NumPy."""

    def step(key, place, action):
        moved = place + np.array([-1, 0, 1])[np.asarray(action)]
        return moved, TimeStep(moved[:, None], np.ones((2, 3), bool), moved), None

    def reset(key):
        place = jnp.zeros(2)
        return place, TimeStep(place[:, None], jnp.ones((2, 3), bool), place)

    return Env("in_numpy", 2, 3, 1, 2, 5, reset, step)


def random_like():
    """A NumPy function where a factory should be."""
    return np.random.default_rng(0).random((2, 3))


class Exiting:
    """A property ends the program."""

    reset = step_env = action_space = None

    @property
    def agents(self):
        sys.exit(3)


def exiting():
    sys.exit(5)


def failing():
    raise RuntimeError("no licence\nfound")


def needing_jax_values():
    return jax.jit(np.asarray)(3)
