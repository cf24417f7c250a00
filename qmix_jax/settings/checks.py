"""Settings that contradict each other."""

from typing import TYPE_CHECKING

from qmix_jax.errors import ConfigError
from qmix_jax.settings.config import Config, ExplorationConfig

if TYPE_CHECKING:  # It imports JAX, and settings are checked before that.
    from qmix_jax.envs.base import Env

LONGEST_EPOCH = 10_000_000
"""Environment steps that an epoch may have beyond those of the run. Its metrics are kept until it ends."""


def check_together(config: Config) -> None:
    """Raise :class:`ConfigError` for two settings that do not fit each other; the message names both."""
    _check_minibatch(config)
    _check_sequences(config)
    _check_on_policy(config)
    _check_exploration(config.exploration)
    _check_distributed(config)
    interval, total = config.evaluation.interval_env_steps, config.total_env_steps
    if interval > max(total, LONGEST_EPOCH):
        raise ConfigError(
            f"evaluation.interval_env_steps={interval}: the run would be as long, and total_env_steps={total}; "
            f"use at most {max(total, LONGEST_EPOCH)}"
        )
    if config.seed + config.num_seeds > 2**31:
        raise ConfigError(f"num_seeds={config.num_seeds}: the last seed would be above {2**31 - 1}")


def _check_minibatch(config: Config) -> None:
    rollout, replay = config.rollout, config.replay
    capacity = replay.sequences(rollout.num_envs)
    if replay.on_policy and replay.batch_size > rollout.num_envs:
        raise ConfigError(
            f"rollout.num_envs={rollout.num_envs}: fewer sequences than a minibatch has, replay.batch_size="
            f"{replay.batch_size}; use at least {replay.batch_size}, or replay.batch_size={rollout.num_envs}"
        )
    if replay.batch_size > capacity:
        raise ConfigError(
            f"replay.batch_size={replay.batch_size}: larger than replay.capacity={capacity}; use at most {capacity}"
        )
    parts = config.learner.minibatch_parts or 1
    if replay.batch_size % parts:
        fits = max(count for count in range(1, parts) if replay.batch_size % count == 0)
        raise ConfigError(
            f"learner.minibatch_parts={parts}: does not divide replay.batch_size={replay.batch_size}; use {fits}"
        )
    if parts > 1 and config.reward.standardise_returns:
        raise ConfigError(
            f"learner.minibatch_parts={parts}: reward.standardise_returns needs the whole minibatch; use 1"
        )
    if rollout.num_envs > capacity:
        raise ConfigError(
            f"replay.capacity={capacity}: must hold the rollout.num_envs={rollout.num_envs} sequences of one "
            f"iteration; use at least {rollout.num_envs}"
        )


def _check_sequences(config: Config) -> None:
    rollout, burn_in = config.rollout, config.learner.burn_in
    if rollout.sequences == "fresh":
        for key, value in (("learner.burn_in", burn_in), ("replay.memory_window", config.replay.memory_window)):
            if value:
                raise ConfigError(
                    f"{key}={value}: sequences that begin with an episode have nothing before them; use 0, or "
                    f"rollout.sequences=continue"
                )
        return
    if not rollout.auto_reset:
        raise ConfigError(
            "rollout.sequences=continue: plays one episode after the other, and rollout.auto_reset=false one per "
            "sequence; use rollout.auto_reset=true"
        )


def check_continuing(config: Config, env: "Env", length: int, transitions: int) -> None:
    """Raise :class:`ConfigError` where sequences of ``length`` slots cannot continue; an epoch has ``transitions``."""
    rollout, limit = config.rollout, env.episode_limit
    if env.hosted is None and rollout.overlap:
        raise ConfigError("rollout.overlap=true: only for hosted environments; use false")
    if env.hosted is not None and transitions < limit:
        raise ConfigError(
            f"evaluation.interval_env_steps={config.evaluation.interval_env_steps}: workers begin new episodes after "
            f"an evaluation, and those of {env.name} have up to {limit} transitions; use at least "
            f"{rollout.num_envs * (limit + length)}"
        )


def check_memory(config: Config) -> None:
    """Raise :class:`ConfigError` for slots to learn from once more beside a replay, which has them anyway.

    Asked after the algorithm, for one that takes no replay has more to say.
    """
    if config.replay.memory_window and not config.replay.on_policy:
        raise ConfigError(
            f"replay.memory_window={config.replay.memory_window}: a memory that is sampled from, by priority or "
            f"otherwise, keeps those slots anyway; use replay=on_policy, or 0"
        )


def _check_on_policy(config: Config) -> None:
    replay, num_envs, updates = config.replay, config.rollout.num_envs, config.learner.updates_per_iteration
    if not replay.on_policy:
        return
    if replay.priority is not None:
        raise ConfigError("replay.priority: replay=on_policy learns from all sequences equally often; use null")
    if num_envs % replay.batch_size:
        fits = max(size for size in range(1, replay.batch_size) if num_envs % size == 0)
        raise ConfigError(
            f"replay.batch_size={replay.batch_size}: does not divide rollout.num_envs={num_envs}, the sequences of one "
            f"iteration; use {fits}"
        )
    one_pass = num_envs // replay.batch_size
    if updates % one_pass:
        raise ConfigError(
            f"learner.updates_per_iteration={updates}: a pass over rollout.num_envs={num_envs} sequences takes "
            f"{one_pass} updates; use {max(1, round(updates / one_pass)) * one_pass}"
        )


def _check_exploration(exploration: ExplorationConfig) -> None:
    level = exploration.level
    other = "temperature" if level == "epsilon" else "epsilon"
    for end in ("start", "end", "steps"):
        if end != "steps" and getattr(exploration, f"{level}_{end}") is None:
            raise ConfigError(f"exploration.{level}_{end}=null: must be a number")
        unused = getattr(exploration, f"{other}_{end}")
        if unused is not None:
            article = "an" if level == "epsilon" else "a"
            raise ConfigError(
                f"exploration.{other}_{end}={unused}: this exploration has {article} {level}; set "
                f"exploration.{level}_{end}, and take the other one out with ~exploration.{other}_{end}"
            )
    if exploration.end > exploration.start:
        raise ConfigError(
            f"exploration.{level}_end={exploration.end}: above exploration.{level}_start={exploration.start}; "
            f"{level} goes down"
        )
    if exploration.preference_smallest > exploration.preference_largest:
        raise ConfigError(
            f"exploration.preference_smallest={exploration.preference_smallest}: above "
            f"exploration.preference_largest={exploration.preference_largest}"
        )
    if exploration.schedule == "exponential" and exploration.end == 0:
        raise ConfigError(f"exploration.{level}_end=0: an exponential schedule never reaches 0; use a small number")


def _check_distributed(config: Config) -> None:
    own = config.distributed
    if own.auto and own.coordinator is not None:
        raise ConfigError(
            f"distributed.coordinator={own.coordinator}: found by distributed.auto=true; give only one of them"
        )
    for name in ("num_processes", "process_id"):
        value = getattr(own, name)
        if (value is None) != (own.coordinator is None) and not own.auto:
            needed = f"needs distributed.{name}=..." if value is None else "has no effect"
            key = f"distributed.coordinator={own.coordinator}" if value is None else f"distributed.{name}={value}"
            raise ConfigError(f"{key}: {needed}{'' if value is None else ' without distributed.coordinator=HOST:PORT'}")
    if not own.auto and own.coordinator is None:
        return
    if own.process_id is not None and own.num_processes is not None and own.process_id >= own.num_processes:
        raise ConfigError(
            f"distributed.process_id={own.process_id}: must be less than distributed.num_processes={own.num_processes}"
        )
    if config.run_dir is None and not isinstance(config.resume, str):
        raise ConfigError("run_dir=null: several processes need the same folder; give run_dir=...")
    if config.checkpoint.every_minutes is not None and config.checkpoint.keep < 2:
        raise ConfigError(f"checkpoint.keep={config.checkpoint.keep}: several processes need at least 2")
    if config.sweep.halving is not None:
        raise ConfigError(f"sweep.halving={config.sweep.halving}: only where one process trains all cells")
