"""A small game whose observations are images, with JaxMARL's interface; a module of a user's, as far as tests go."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp


class Lights:
    """Two agents see 6 x 5 bytes with a lit corner each, and are paid for choosing its number; 2 steps."""

    def __init__(self) -> None:
        self.agents = ["left", "right"]
        self.max_steps = 2

    def action_space(self, agent):
        return SimpleNamespace(n=4, shape=())

    def reset(self, key):
        state = {"corner": jax.random.randint(key, (2,), 0, 4), "time": jnp.int32(0)}
        return self.see(state), state

    def step_env(self, key, state, actions):
        rewards = {
            name: (actions[name] == state["corner"][i]).astype(jnp.float32) for i, name in enumerate(self.agents)
        }
        state = {"corner": jax.random.randint(key, (2,), 0, 4), "time": state["time"] + 1}
        over = state["time"] >= self.max_steps
        return self.see(state), state, rewards, {"left": over, "right": over, "__all__": over}, {}

    def see(self, state):
        def picture(corner):
            return jnp.zeros((6, 5, 1), jnp.uint8).at[-(corner // 2), -(corner % 2), 0].set(200 + corner)

        return {name: picture(state["corner"][i]) for i, name in enumerate(self.agents)}
