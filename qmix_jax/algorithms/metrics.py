"""What an epoch reports: means over its updates and episodes, its evaluation, and early signs of trouble."""

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from qmix_jax.acting.rollout import RolloutStats
from qmix_jax.algorithms.base import Metrics
from qmix_jax.envs.base import Env
from qmix_jax.types import Best, Evaluation, Learner, TrainState


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


def target_lag(learner: Learner) -> Float[Array, ""]:
    """The distance between online and target parameters over the size of the online ones."""
    vector, target = (ravel_pytree(networks)[0] for networks in (learner.online, learner.target))
    return optax.tree.norm(vector - target) / jnp.maximum(optax.tree.norm(vector), 1e-6)
