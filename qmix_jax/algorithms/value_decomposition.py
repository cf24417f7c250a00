"""Value decomposition: IQL, VDN, QMIX, QPLEX and all others that differ in the mixer only."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from qmix_jax.algorithms import pieces
from qmix_jax.algorithms.base import Algorithm, LossInfo, Method, Metrics
from qmix_jax.learning.values import action_values, joint_values, like, mixer_inputs
from qmix_jax.mixers.base import example_input
from qmix_jax.replay.sequences import Minibatch
from qmix_jax.types import HyperParams, Learner, Networks, Params, Slot, Start


@dataclasses.dataclass(frozen=True)
class ValueDecomposition(Method):
    """Agents and a mixer, trained by the error of ``q_tot`` (Sunehag et al. 2018; Rashid et al. 2018)."""

    def init(self, algorithm: Algorithm, agent: Any, key: Key[Array, ""]) -> Networks:
        """The agents and the mixer."""
        return Params(agent=agent, mixer=init_mixer(algorithm, key))

    def loss(
        self,
        algorithm: Algorithm,
        hyper: HyperParams,
        online: Networks,
        learner: Learner,
        minibatch: Minibatch,
        transitions: Float[Array, ""] | None = None,
    ) -> tuple[Float[Array, ""], LossInfo]:
        """Mean squared error of ``q_tot`` over the transitions of a minibatch (Rashid et al. 2018, equation 5).

        ``sum(weights * mask * td_error^2) / sum(mask)``; without a mixer the sums run over agents as well.
        """
        batch = minibatch.slots
        online_q = action_values(algorithm.agent, online.agent, batch, minibatch.start)
        target_q = pieces.target_values(algorithm, learner, online_q, minibatch)
        greedy_action = pieces.deciding_action(algorithm, online_q, target_q, batch)
        q_tot = mixed(algorithm, online, online_q, batch.action, batch)
        value = mixed(algorithm, learner.target, target_q, greedy_action, batch)
        taken_value = mixed(algorithm, learner.target, target_q, batch.action, batch)
        y, returns = pieces.targets(algorithm, hyper, learner, batch, value, taken_value)

        mask = like(batch.mask, q_tot)
        td_error = (q_tot - y) * mask
        count = batch.mask.sum() if transitions is None else transitions
        count = jnp.maximum(count * math.prod(q_tot.shape[2:]), 1.0)
        squares = (td_error**2 * like(minibatch.weights[None], q_tot)).sum() / count
        info = pieces.loss_info(algorithm, hyper, learner, batch, q_tot, y, returns, count)
        return squares, info

    def warning_signs(
        self,
        algorithm: Algorithm,
        hyper: HyperParams,
        learner: Learner,
        batch: Slot,
        start: Start | None = None,
    ) -> Metrics:
        """Early signs of a run that goes wrong, from one minibatch.

        ``q_tot_excess``: the largest ``|q_tot|`` over the largest return that rewards and discount allow; above 1
        values explode (left out where returns are standardised). ``mixer_slope``: mean ``d q_tot / d q_a``; near 0 the
        hypernetworks are dead and agents learn nothing.
        """
        online = learner.online
        q = action_values(algorithm.agent, online.agent, batch, start)
        inputs = mixer_inputs(q, batch.action, batch.step)

        def total(chosen: Float[Array, "T M N"]) -> tuple[Float[Array, ""], Float[Array, "T M *N"]]:
            q_tot = joint_values(algorithm.mixer, online.mixer, inputs._replace(chosen=chosen))
            return q_tot.sum(), q_tot

        slope, q_tot = jax.grad(total, has_aux=True)(inputs.chosen)
        signs = {"mixer_slope": (slope.mean(axis=-1) * batch.mask).sum() / jnp.maximum(batch.mask.sum(), 1.0)}
        if not algorithm.standardise_returns:  # values are in another unit than returns
            largest = (jnp.abs(q_tot) * like(batch.mask, q_tot)).max()
            signs["q_tot_excess"] = pieces.excess(largest, algorithm, hyper, learner)
        return signs


def init_mixer(algorithm: Algorithm, key: Key[Array, ""]) -> Any:
    """Random parameters of the mixer."""
    env = algorithm.env
    return algorithm.mixer.init(key, example_input(env.num_agents, env.num_actions, env.state_size))


def mixed(
    algorithm: Algorithm, networks: Any, q: Float[Array, "T M N A"], action: Int[Array, "T M N"], batch: Slot
) -> Float[Array, "T M *N"]:
    """``q_tot`` of the joint actions ``action``; without a mixer the agents' own values."""
    return joint_values(algorithm.mixer, networks.mixer, mixer_inputs(q, action, batch.step))
