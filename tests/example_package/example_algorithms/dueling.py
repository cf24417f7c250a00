"""A mixer that reads all action values, the greedy ones and the actions, not only the chosen values."""

import flax.linen as nn
import jax

from qmix_jax.mixers.base import MixerInput


class DuelingMixer(nn.Module):
    """Greedy values, advantages weighted by the state and the joint action, and a part of the mean over actions."""

    num_agents: int
    state_size: int
    mean_weight: float = 0.1

    @nn.compact
    def __call__(self, inputs: MixerInput):
        """The joint value."""
        action = jax.nn.one_hot(inputs.action, inputs.num_actions).reshape(-1)
        weights = nn.softplus(nn.Dense(self.num_agents)(inputs.state) + nn.Dense(self.num_agents)(action))
        advantage = inputs.chosen - inputs.greedy
        return inputs.greedy.sum() + weights @ advantage + self.mean_weight * inputs.q.mean()
