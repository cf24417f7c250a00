"""An algorithm with a second network: a value of the state, from which the agents' joint value is an advantage."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from qmix_jax.algorithms import pieces
from qmix_jax.algorithms.base import Method
from qmix_jax.algorithms.value_decomposition import init_mixer, mixed
from qmix_jax.learning.values import action_values


class Networks(NamedTuple):
    """All that is trained; only ``agent`` acts."""

    agent: Any
    mixer: Any
    critic: Any


@dataclasses.dataclass(frozen=True)
class WithCritic(Method):
    """``Q_tot + V(s)``, both trained by the same error; ``critic_size`` is ``algorithm.critic_size``."""

    critic_size: int = 8

    def init(self, algorithm, agent, key):
        """The agents, the mixer and the critic."""
        mixer_key, critic_key = jax.random.split(key)
        critic = self._critic().init(critic_key, jnp.zeros(algorithm.env.state_size))
        return Networks(agent=agent, mixer=init_mixer(algorithm, mixer_key), critic=critic)

    def loss(self, algorithm, hyper, online, learner, minibatch, transitions=None):
        """The mean squared error of the sum of both values."""
        batch = minibatch.slots
        online_q = action_values(algorithm.agent, online.agent, batch, minibatch.start)
        target_q = pieces.target_values(algorithm, learner, online_q, minibatch)
        greedy = pieces.deciding_action(algorithm, online_q, target_q, batch)

        def total(networks, q, action):
            return mixed(algorithm, networks, q, action, batch) + self._critic().apply(
                networks.critic, batch.step.state
            ).squeeze(axis=-1)

        value, taken = (total(learner.target, target_q, action) for action in (greedy, batch.action))
        y, returns = pieces.targets(algorithm, hyper, learner, batch, value, taken)
        q_tot = total(online, online_q, batch.action)
        count = pieces.transition_count(batch, transitions)
        info = pieces.loss_info(algorithm, hyper, learner, batch, q_tot, y, returns, count)
        return pieces.masked_mean((q_tot - y) ** 2, minibatch, count), info

    def _critic(self):
        return nn.Sequential([nn.Dense(self.critic_size), nn.relu, nn.Dense(1)])
