"""A guessing game with JaxMARL's interface: agents of different observation and action sizes."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxmarl.environments.multi_agent_env import MultiAgentEnv
from jaxmarl.environments.spaces import Box, Discrete


@struct.dataclass
class State:
    """JaxMARL's states have ``done`` and ``step``; the rest is the game's own."""

    done: jax.Array
    step: jax.Array
    secret: jax.Array
    said: jax.Array


class Guess(MultiAgentEnv):
    """The teller sees a secret number and says one of ``num_words`` words; the guesser hears it and names a number.

    Both get a reward of 1 for a correct guess. The game ends after ``length`` rounds.
    """

    def __init__(self, num_numbers: int = 4, num_words: int = 2, length: int = 4) -> None:
        super().__init__(num_agents=2)
        self.agents = ["teller", "guesser"]
        self.num_numbers, self.num_words, self.max_steps = num_numbers, num_words, length
        self.action_spaces = {"teller": Discrete(num_words), "guesser": Discrete(num_numbers)}
        self.observation_spaces = {"teller": Box(0, 1, (num_numbers,)), "guesser": Box(0, 1, (num_words,))}

    def reset(self, key):
        """Start with a new secret and nothing said."""
        secret = jax.random.randint(key, (), 0, self.num_numbers)
        state = State(done=jnp.array(False), step=0, secret=secret, said=-1)
        return self.get_obs(state), state

    def step_env(self, key, state, actions):
        """Pay for the guess, pass the word on and draw the next secret."""
        reward = (actions["guesser"] == state.secret).astype(float)
        step = state.step + 1
        done = step >= self.max_steps
        secret = jax.random.randint(key, (), 0, self.num_numbers)
        state = State(done=done, step=step, secret=secret, said=actions["teller"])
        dones = {"teller": done, "guesser": done, "__all__": done}
        return self.get_obs(state), state, {"teller": reward, "guesser": reward}, dones, {}

    def get_obs(self, state):
        """The secret for the teller, the last word for the guesser."""
        return {
            "teller": jax.nn.one_hot(state.secret, self.num_numbers),
            "guesser": jax.nn.one_hot(state.said, self.num_words),
        }
