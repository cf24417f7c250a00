"""What an epoch reports: means over its updates and episodes, its evaluation, and early signs of trouble."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from qmix_jax.acting.rollout import RolloutStats
from qmix_jax.envs.base import Env
from qmix_jax.learning.values import action_values, chosen_values, joint_values
from qmix_jax.networks.agents import AnyAgent
from qmix_jax.types import Best, Evaluation, HyperParams, Learner, Slot, TrainState

Metrics = dict[str, Float[Array, ""]]


def episode_sums(stats: RolloutStats) -> Metrics:
    """Sums over the training episodes of one iteration; :func:`epoch_metrics` makes means of them."""
    return {
        "train_episodes": stats.episodes.astype(jnp.float32),
        "train_return": stats.episode_return,
        "train_episode_length": stats.episode_length,
        "train_win_rate": stats.wins,
    }


def epoch_metrics(env: Env, state: TrainState, history: Metrics, evaluation: Evaluation) -> Metrics:
    """Means over the epoch: per update, per finished training episode, and of the evaluation."""
    ended = history.pop("train_episodes").sum()
    metrics = {}
    for name, values in history.items():
        if name.startswith("train_"):
            metrics[name] = jnp.where(ended > 0, values.sum() / ended, jnp.nan)
        else:
            metrics[name] = jnp.nanmean(values)
    if not env.has_win_rate:
        metrics["train_win_rate"] = jnp.full_like(ended, jnp.nan)
    return {
        "env_steps": state.env_steps,
        "updates": state.learner.updates,
        "episodes": state.episodes,
        **metrics,
        "frozen": (state.learner.nonfinite_update >= 0).astype(jnp.float32),
        "eval_return": evaluation.episode_return,
        "eval_win_rate": evaluation.win_rate,
        "eval_episode_length": evaluation.episode_length,
    }


def better(env: Env, state: TrainState, evaluation: Evaluation) -> Best:
    """The current agent if its evaluation beats the best so far: by win rate, then by return."""
    old = state.best.evaluation
    is_better = evaluation.episode_return > old.episode_return
    if env.has_win_rate:
        equal = evaluation.win_rate == old.win_rate
        is_better = (evaluation.win_rate > old.win_rate) | (equal & is_better)
    new = Best(agent=state.learner.online.agent, evaluation=evaluation, env_steps=state.env_steps)
    return jax.tree.map(lambda x, y: jnp.where(is_better, x, y), new, state.best)


def warning_signs(
    env: Env, agent: AnyAgent, mixer: nn.Module, hyper: HyperParams, learner: Learner, batch: Slot
) -> Metrics:
    """Early signs of a run that goes wrong, from one minibatch.

    ``q_tot_excess``: the largest ``|q_tot|`` over the largest return that rewards and discount allow; above 1 values
    explode (of no use where returns are standardised). ``mixer_slope``: mean
    ``d q_tot / d q_a``; near 0 the hypernetworks are dead and agents learn nothing. ``target_lag``: distance between
    online and target parameters over the size of the online ones.
    """
    online = learner.online
    q = chosen_values(action_values(agent, online.agent, batch), batch.action, env.num_actions)

    def total(q: Float[Array, "T M N"]) -> tuple[Float[Array, ""], Float[Array, "T M *N"]]:
        q_tot = joint_values(mixer, online.mixer, q, batch.step.state)
        return q_tot.sum(), q_tot

    slope, q_tot = jax.grad(total, has_aux=True)(q)
    seen = batch.mask.reshape(batch.mask.shape + (1,) * (q_tot.ndim - 2))
    vector, target = (ravel_pytree(params)[0] for params in (online, learner.target))
    return {
        "q_tot_excess": (jnp.abs(q_tot) * seen).max() / jnp.maximum(_largest_return(env, hyper, learner), 1e-6),
        "mixer_slope": (slope.mean(axis=-1) * batch.mask).sum() / jnp.maximum(batch.mask.sum(), 1.0),
        "target_lag": optax.tree.norm(vector - target) / jnp.maximum(optax.tree.norm(vector), 1e-6),
    }


def _largest_return(env: Env, hyper: HyperParams, learner: Learner) -> Float[Array, ""]:
    """From the largest reward in the targets so far, and from the environment's own limit where it has one."""
    steps = jnp.where(hyper.gamma < 1, 1 / jnp.maximum(1 - hyper.gamma, 1e-6), env.episode_limit)
    limit = learner.max_reward * steps
    return limit if env.max_return is None else jnp.minimum(limit, env.max_return * hyper.reward_scale)
