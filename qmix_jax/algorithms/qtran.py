"""QTRAN (Son et al. 2019): a joint value without structure, and agents whose sum has its argmax."""

import dataclasses
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from qmix_jax.acting.explore import masked_argmax
from qmix_jax.algorithms import pieces
from qmix_jax.algorithms.base import Algorithm, LossInfo, Method, Metrics
from qmix_jax.errors import ConfigError, require, unknown_choice
from qmix_jax.learning.values import chosen_values, unroll_inputs
from qmix_jax.mixers.vdn import VDNMixer
from qmix_jax.networks.dense import Dense
from qmix_jax.replay.sequences import Minibatch
from qmix_jax.types import HyperParams, Learner, Slot, Start

FORMS = ("hidden_states", "actions")


class QTRANNetworks(NamedTuple):
    """Parameters of all networks; only ``agent`` acts."""

    agent: Any
    joint: Any


class JointNetwork(nn.Module):
    """``Q_jt(s, h, u)`` and ``V_jt(s)`` of one joint action.

    Attributes:
        form: ``hidden_states``: each agent's hidden state and action are encoded, the codes summed (the paper).
            ``actions``: the network reads the one-hot actions of all agents, and no hidden states.
        embed_size: units of the hidden layers.
        layers: hidden layers of both networks.
    """

    form: str
    embed_size: int
    layers: int
    num_actions: int
    code_size: int

    def setup(self) -> None:
        """Declare the networks."""
        sizes = (*(self.embed_size,) * self.layers, 1)
        self.joint_net, self.value_net = Dense(sizes), Dense(sizes)
        if self.form == "hidden_states":
            self.encoder = Dense((self.code_size, self.code_size))

    def __call__(
        self, state: Float[Array, " G"], hidden: Float[Array, "N H"], action: Int[Array, " N"]
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Both values."""
        return self.joint(state, hidden, action), self.value(state)

    def joint(self, state: Float[Array, " G"], hidden: Float[Array, "N H"], action: Int[Array, " N"]):
        """``Q_jt`` of a joint action."""
        one_hot = self._one_hot(action, hidden)
        if self.form == "actions":
            return self._from_codes(state, one_hot.reshape(-1))
        return self._from_codes(state, self.encoder(jnp.concatenate([hidden, one_hot], axis=-1)).sum(axis=0))

    def value(self, state: Float[Array, " G"]) -> Float[Array, ""]:
        """``V_jt``, which makes up for what partial observability hides."""
        return self.value_net(state)[0]

    def alternatives(
        self, state: Float[Array, " G"], hidden: Float[Array, "N H"], action: Int[Array, " N"]
    ) -> Float[Array, "N A"]:
        """``Q_jt(u_i, u_-i)`` for every action of every agent, while the others keep theirs."""
        num_agents, num_actions = len(action), self.num_actions
        agents, actions = jnp.arange(num_agents), jnp.arange(num_actions)
        if self.form == "actions":
            changed = jnp.where((agents[:, None] == agents[None])[:, None], actions[None, :, None], action[None, None])
            codes = self._one_hot(changed, hidden).reshape(num_agents, num_actions, -1)
        else:
            every = jnp.broadcast_to(actions[None], (num_agents, num_actions))
            rows = jnp.broadcast_to(hidden[:, None], (num_agents, num_actions, hidden.shape[-1]))
            each = self.encoder(jnp.concatenate([rows, self._one_hot(every, hidden)], axis=-1))
            own = (each * self._one_hot(action, hidden)[:, :, None]).sum(axis=1)
            codes = own.sum(axis=0)[None, None] - own[:, None] + each
        states = jnp.broadcast_to(state[None, None], (num_agents, num_actions, len(state)))
        return self._from_codes(states, codes)

    def _from_codes(self, state: Float[Array, "*batch G"], codes: Float[Array, "*batch K"]) -> Float[Array, "*batch"]:
        return self.joint_net(jnp.concatenate([state, codes], axis=-1))[..., 0]

    def _one_hot(self, action: Int[Array, "*batch"], like: Array) -> Float[Array, "*batch A"]:
        return jax.nn.one_hot(action, self.num_actions, dtype=like.dtype)


class Errors(NamedTuple):
    """What the losses of a minibatch are made of."""

    td: Float[Array, "T M"]
    opt: Float[Array, "T M"]
    nopt: Float[Array, "T M *N"]
    """At the actions taken, or the smallest over each agent's own actions."""
    joint_q: Float[Array, "T M"]
    """Of the actions taken."""
    joint_greedy: Float[Array, "T M"]
    """Of the agents' greedy actions."""
    v: Float[Array, "T M"]
    value: Float[Array, "T M"]
    """Of the greedy actions, by the target network: what targets bootstrap from."""
    y: Float[Array, "T M"]


@dataclasses.dataclass(frozen=True)
class QTRAN(Method):
    """QTRAN-base and QTRAN-alt: ``loss = L_td + opt_weight L_opt + nopt_weight L_nopt`` (equations 6 to 9).

    - ``L_td``: the error of ``Q_jt`` of the actions taken; bootstraps from its target copy at the greedy actions.
    - ``L_opt``: ``sum_i q_i(u*_i) - Q_jt(u*) + V(s)`` at the agents' greedy actions ``u*`` must be 0.
    - ``L_nopt``: ``sum_i q_i(u_i) - Q_jt(u) + V(s)`` must not be negative at the actions taken. With ``alternative``
      (QTRAN-alt, equation 11) its smallest value over each agent's own actions must be 0, as a mean over agents.

    ``Q_jt`` carries no gradient in the last two; it is the online network's, as in the authors' code.

    Attributes:
        joint: what the joint network reads: see :class:`JointNetwork`.
        alternative: QTRAN-alt.
        opt_weight: factor on ``L_opt``.
        nopt_weight: factor on ``L_nopt``.
        embed_size: hidden units of the joint network.
        layers: its hidden layers.
    """

    joint: str = "hidden_states"
    alternative: bool = False
    opt_weight: float = 1.0
    nopt_weight: float = 0.1
    embed_size: int = 64
    layers: int = 2

    def __post_init__(self) -> None:
        if self.joint not in FORMS:
            raise unknown_choice("algorithm.joint", self.joint, FORMS)
        require(self.embed_size >= 1, "algorithm.embed_size", self.embed_size, "at least 1")
        require(self.layers >= 1, "algorithm.layers", self.layers, "at least 1")
        for name in ("opt_weight", "nopt_weight"):
            require(getattr(self, name) >= 0, f"algorithm.{name}", getattr(self, name), "at least 0")

    def check(self, algorithm: Algorithm) -> None:
        """The agents' values are summed: no other mixer than the sum fits."""
        if not isinstance(algorithm.mixer, VDNMixer):
            raise ConfigError(
                f"mixer._target_={pieces.path_of(algorithm.mixer)}: QTRAN has a joint network of its own and sums the "
                f"agents' values; use mixer=vdn"
            )

    def init(self, algorithm: Algorithm, agent: Any, key: Key[Array, ""]) -> QTRANNetworks:
        """The agents and the joint network."""
        env = algorithm.env
        obs = jnp.zeros((1, env.num_agents, env.obs_size))
        none, first = jnp.zeros((1, env.num_agents), jnp.int32), jnp.ones(1, bool)
        method = "outputs_and_values"
        hidden, _ = jax.eval_shape(lambda: algorithm.agent.apply(agent, obs, none, first, method=method))
        network = self.network(algorithm, hidden.shape[-1])
        joint = network.init(key, jnp.zeros(env.state_size), jnp.zeros(hidden.shape[1:]), none[0])
        return QTRANNetworks(agent=agent, joint=joint)

    def network(self, algorithm: Algorithm, hidden_size: int) -> JointNetwork:
        """The joint network for agents of this hidden size."""
        num_actions = algorithm.env.num_actions
        return JointNetwork(self.joint, self.embed_size, self.layers, num_actions, hidden_size + num_actions)

    def loss(
        self,
        algorithm: Algorithm,
        hyper: HyperParams,
        online: QTRANNetworks,
        learner: Learner,
        minibatch: Minibatch,
        transitions: Float[Array, ""] | None = None,
    ) -> tuple[Float[Array, ""], LossInfo]:
        """The three losses together; see the class."""
        batch = minibatch.slots
        errors, returns = self.errors(algorithm, hyper, online, learner, batch, minibatch.start)
        count = pieces.transition_count(batch, transitions)
        below = errors.nopt if self.alternative else jnp.minimum(errors.nopt, 0.0)
        nopt = (below**2).reshape(*batch.mask.shape, -1).mean(axis=-1)
        squares = errors.td**2 + self.opt_weight * errors.opt**2 + self.nopt_weight * nopt
        loss = pieces.masked_mean(squares, minibatch, count)
        others = {
            "opt_loss": (errors.opt**2 * batch.mask).sum() / count,
            "nopt_loss": (nopt * batch.mask).sum() / count,
        }
        info = pieces.loss_info(algorithm, hyper, learner, batch, errors.joint_q, errors.y, returns, count, **others)
        return loss, info

    def errors(
        self,
        algorithm: Algorithm,
        hyper: HyperParams,
        online: QTRANNetworks,
        learner: Learner,
        batch: Slot,
        start: Start | None = None,
    ) -> tuple[Errors, Any]:
        """The three errors in every slot, and the statistics of returns."""
        avail, target = batch.step.avail_actions, learner.target
        hidden, online_q = outputs_and_values(algorithm, online.agent, batch, start)
        target_hidden, target_q = outputs_and_values(algorithm, target.agent, batch, start)
        network = self.network(algorithm, hidden.shape[-1])
        greedy = masked_argmax(jax.lax.stop_gradient(online_q), avail)
        bootstrap = pieces.deciding_action(algorithm, online_q, target_q, batch)

        def joint(params: Any, hidden: Array, action: Array, method: str = "joint") -> Array:
            return over_slots(network, params, batch.step.state, hidden, action, method=method)

        value, taken = (joint(target.joint, target_hidden, action) for action in (bootstrap, batch.action))
        y, returns = pieces.targets(algorithm, hyper, learner, batch, value, taken)
        joint_q = joint(online.joint, hidden, batch.action)
        joint_greedy = joint(online.joint, hidden, greedy)
        v = over_slots(network, online.joint, batch.step.state, method="value")

        def total(action: Array) -> Float[Array, "T M"]:
            return chosen_values(online_q, action, algorithm.env.num_actions).sum(axis=-1)

        if self.alternative:
            others = jax.lax.stop_gradient(joint(online.joint, hidden, batch.action, method="alternatives"))
            own = chosen_values(online_q, batch.action, algorithm.env.num_actions)
            sums = (total(batch.action)[..., None] - own)[..., None] + online_q
            gap = jnp.where(avail, sums - others + v[..., None, None], jnp.inf).min(axis=-1)
            nopt = jnp.where(avail.any(axis=-1), gap, 0.0)
        else:
            nopt = total(batch.action) - jax.lax.stop_gradient(joint_q) + v
        opt = total(greedy) - jax.lax.stop_gradient(joint_greedy) + v
        return Errors(joint_q - y, opt, nopt, joint_q, joint_greedy, v, value, y), returns

    def warning_signs(
        self,
        algorithm: Algorithm,
        hyper: HyperParams,
        learner: Learner,
        batch: Slot,
        start: Start | None = None,
    ) -> Metrics:
        """``q_tot_excess`` of the joint network: above 1 values explode."""
        if algorithm.standardise_returns:  # values are in another unit than returns
            return {}
        joint_q = self.errors(algorithm, hyper, learner.online, learner, batch, start)[0].joint_q
        largest = (jnp.abs(joint_q) * batch.mask).max()
        return {"q_tot_excess": pieces.excess(largest, algorithm, hyper, learner)}


def outputs_and_values(
    algorithm: Algorithm, params: Any, batch: Slot, start: Start | None
) -> tuple[Float[Array, "T M N H"], Float[Array, "T M N A"]]:
    """Hidden states and action values of one pass."""
    inputs = unroll_inputs(algorithm.agent, params, batch, start)
    return algorithm.agent.apply(params, *inputs, method="outputs_and_values")


def over_slots(network: JointNetwork, params: Any, *arrays: Array, method: str) -> Array:
    """``method`` for every slot, ``[T, M, ...]``."""
    shape = arrays[0].shape[:2]
    rows = [x.reshape(-1, *x.shape[2:]) for x in arrays]
    flat = jax.vmap(lambda *row: cast(Array, network.apply(params, *row, method=method)))(*rows)
    return flat.reshape(*shape, *flat.shape[1:])
