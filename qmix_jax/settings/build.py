"""From a typed configuration to the static parts and the numbers of a run."""

import contextlib
import functools
import importlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import jax
import numpy as np

from qmix_jax.acting.explore import Exploration
from qmix_jax.acting.preferences import Preferences
from qmix_jax.algorithms.base import Algorithm, Sizes, TargetUpdate
from qmix_jax.algorithms.pieces import has_team_value, path_of
from qmix_jax.envs.base import Env
from qmix_jax.envs.settings import check_kind, check_known
from qmix_jax.errors import ConfigError, unknown_choice
from qmix_jax.learning.targets import Sequence as TargetSequence
from qmix_jax.networks.agents import AnyAgent
from qmix_jax.networks.entities import entities_for
from qmix_jax.networks.images import image_shape_for
from qmix_jax.networks.separate import SeparateAgents
from qmix_jax.replay.packing import OBS_DTYPES
from qmix_jax.settings.checks import check_continuing, check_memory
from qmix_jax.settings.config import PARTS_ON_CPU, Config, ExplorationConfig, TargetConfig
from qmix_jax.types import HyperParams

ROWS_OF_A_PART = 1024
"""With fewer, the cost of starting each of XLA's operations once more exceeds what a second core saves."""


def build(config: Config, env: Env) -> tuple[Algorithm, HyperParams]:
    """Everything that a run in ``env`` is compiled from.

    Raises :class:`ConfigError` for settings that the parts refuse or that do not fit the environment.
    """
    parts = config.parts
    mixer = build_part("mixer", parts["mixer"], num_agents=env.num_agents, state_size=env.state_size)
    algorithm = Algorithm(
        method=build_part("algorithm", parts["algorithm"]),
        env=env,
        agent=build_agent(parts["agent"], env),
        mixer=mixer,
        target=build_target(parts["target"]),
        optimizer=build_part("optimizer", parts["optimizer"]),
        sizes=sizes(config, env),
        double_q=config.target.double_q,
        target_update=target_update(config.target),
        prioritised=config.replay.priority is not None,
        replacement=config.replay.replacement,
        on_policy=config.replay.on_policy,
        explore=build_exploration(parts["exploration"]),
        exploration_level=config.exploration.level,
        exponential_exploration=config.exploration.schedule == "exponential",
        preferences=preferences(config.exploration),
        half_loss=config.learner.half_loss,
        standardise_rewards=config.reward.standardise,
        standardise_returns=config.reward.standardise_returns,
        obs_dtype=obs_dtype(config.replay.obs_dtype, env),
    )
    algorithm.method.check(algorithm)
    check_memory(config)
    _check_reward(algorithm)
    return algorithm, hyper_params(config)


def obs_dtype(name: str, env: Env) -> Any:
    """The type of stored observations and states."""
    if name != "uint8":
        return OBS_DTYPES[name]
    if env.byte_scale is None or not env.state_from_obs:
        what = "has a state of its own" if env.byte_scale is not None else "has observations that are no bytes"
        raise ConfigError(f"replay.obs_dtype=uint8: {env.name} {what}; use float16")
    return np.uint8


def _check_reward(algorithm: Algorithm) -> None:
    """Own rewards train own values."""
    if algorithm.env.individual_reward and has_team_value(algorithm):
        raise ConfigError(
            f"env.reward=individual: {path_of(algorithm.mixer)} learns one value for the team from one reward; use "
            "algorithm=iql (mixer=none), or env.reward=sum"
        )


NORMS = ("none", "layer")
"""Of the agents' dense layers, ``agent.norm``."""


def target_update(target: TargetConfig) -> TargetUpdate:
    """How the target network follows, or that there is none."""
    if target.network == "online":
        return TargetUpdate.ONLINE
    return TargetUpdate("soft" if target.update == "soft" else target.update_unit)


def build_agent(settings: Mapping[str, Any], env: Env) -> AnyAgent:
    """The agent networks for the sizes of an environment: one for all, or with ``shared: false`` one each."""
    settings = dict(settings)
    shared = settings.pop("shared", True)
    check_kind("agent.shared", shared, True)
    norm = settings.pop("norm", None)
    if norm == "batch":
        raise ConfigError("agent.norm=batch: an agent that acts alone has no batch to normalise over; use layer")
    if norm not in (None, *NORMS):
        if isinstance(norm, bool):
            raise ConfigError(f"agent.norm={str(norm).lower()}: is given by name; use {'layer' if norm else 'none'}")
        raise unknown_choice("agent.norm", norm, NORMS)
    if norm is not None:
        settings["layer_norm"] = norm == "layer"
    if "image_shape" in settings:
        settings["image_shape"] = image_shape_for(settings["image_shape"], env)
    if "entities" in settings:
        settings["entities"] = entities_for(settings["entities"], env)
    sizes = {"obs_size": env.obs_size, "num_actions": env.num_actions}
    if shared:
        return build_part("agent", settings, num_agents=env.num_agents, **sizes)
    return SeparateAgents(build_part("agent", settings, num_agents=1, **sizes), env.num_agents)


def build_exploration(settings: Mapping[str, Any]) -> Exploration:
    """The exploration function. Its numbers are traced, so it takes no settings of its own."""
    settings = dict(settings)
    path = settings.pop("_target_", None)
    explore = locate("exploration", path)
    check_known(settings, (), "exploration")
    with _own_code("exploration", path):
        jax.eval_shape(explore, np.zeros((1, 2), np.float32), np.ones((1, 2), bool), np.float32(0))
    return explore


def preferences(own: ExplorationConfig) -> Preferences:
    """Of teams, for some steps."""
    return Preferences(own.preference_share, own.preference_smallest, own.preference_largest, own.preference_steps)


def hyper_params(config: Config) -> HyperParams:
    """The numbers that are traced; of NumPy, as JAX would compile a program for some of them."""
    real, whole = cast(Any, np.float32), cast(Any, np.int32)
    priority = config.replay.priority
    learning_rate = config.optimizer.learning_rate
    learning_rate_end = config.optimizer.learning_rate_end
    return HyperParams(
        learning_rate=real(learning_rate),
        learning_rate_end=real(learning_rate if learning_rate_end is None else learning_rate_end),
        learning_rate_steps=real(config.optimizer.learning_rate_steps or config.total_env_steps),
        gamma=real(config.gamma),
        td_lambda=real(config.target.td_lambda),
        exploration_start=real(config.exploration.start),
        exploration_end=real(config.exploration.end),
        exploration_steps=real(config.exploration.steps(config.total_env_steps)),
        preferences_end=real(config.exploration.preferences_end or config.total_env_steps),
        target_update_interval=whole(config.target.update_interval),
        target_tau=real(config.target.tau),
        max_grad_norm=real(math.inf if config.learner.max_grad_norm is None else config.learner.max_grad_norm),
        reward_scale=real(config.reward.scale),
        priority_alpha=real(priority.alpha if priority else 0.0),
        priority_beta=real(priority.beta if priority else 0.0),
        priority_beta_steps=real((priority and priority.beta_steps) or config.total_env_steps),
    )


def hyper_params_of(configs: Sequence[Config], repeats: int) -> HyperParams:
    """The numbers of several configurations as lanes: each ``repeats`` times in a row, ``[len(configs) * repeats]``."""
    each = [hyper_params(config) for config in configs]
    return jax.tree.map(lambda *numbers: np.repeat(np.stack(numbers), repeats), *each)


def build_target(settings: Mapping[str, Any]) -> Callable[..., Any]:
    """The target function with the settings of its own."""
    settings = dict(settings)
    path = settings.pop("_target_", None)
    target = locate("target", path)
    parameters = dict(list(_parameters("target", path, target).items())[3:])
    check_known(settings, parameters, "target")
    for name, value in settings.items():
        check_kind(f"target.{name}", value, parameters[name].default)
    target = functools.partial(target, **settings) if settings else target
    row: Any = np.zeros(2, np.float32)
    with _own_code("target", path):
        jax.eval_shape(target, TargetSequence(*(row for _ in TargetSequence._fields)), row[0], row[0])
    return target


def sizes(config: Config, env: Env) -> Sizes:
    """The static numbers of the loop; an iteration steps every environment at most ``length - 1`` times."""
    rollout, replay = config.rollout, config.replay
    length = rollout.length if rollout.length is not None else env.episode_limit + 1
    if not rollout.auto_reset and length < env.episode_limit + 1:
        raise ConfigError(
            f"rollout.length={length}: without rollout.auto_reset a sequence must hold a whole episode of "
            f"{env.episode_limit} transitions; use at least {env.episode_limit + 1}"
        )
    burn_in, window = config.learner.burn_in, replay.memory_window
    if burn_in + window > length - 1:
        keys = {"learner.burn_in": burn_in, "replay.memory_window": window}
        given = " ".join(f"{key}={value}" for key, value in keys.items() if value)
        raise ConfigError(
            f"{given}: the sequence before has only {length - 1} slots to repeat (rollout.length={length}); use at "
            f"most {length - 1}{' together' if burn_in and window else ''}"
        )
    steps = rollout.num_envs * (length - 1)
    iterations = max(1, round(config.evaluation.interval_env_steps / steps))
    if rollout.sequences == "continue":
        check_continuing(config, env, length, transitions=iterations * (length - 1))
    for_minibatch = math.ceil(replay.batch_size / rollout.num_envs)
    return Sizes(
        num_envs=rollout.num_envs,
        length=length,
        auto_reset=rollout.auto_reset,
        capacity=replay.sequences(rollout.num_envs),
        batch_size=replay.batch_size,
        updates_per_iteration=config.learner.updates_per_iteration,
        # The first iteration that learns has its own sequences in the replay already.
        warmup_iterations=max(for_minibatch - 1, math.ceil(config.learner.warmup_env_steps / steps)),
        iterations_per_epoch=iterations,
        evaluation_episodes=config.evaluation.episodes,
        evaluation_seed=config.evaluation.seed,
        minibatch_parts=_minibatch_parts(config, rows=length * replay.batch_size * env.num_agents),
        continues=rollout.sequences == "continue",
        burn_in=burn_in,
        memory_window=config.replay.memory_window,
    )


def _minibatch_parts(config: Config, rows: int) -> int:
    """The number of parts to process a minibatch in; a row is one agent at one step of one sequence.

    Where nothing was asked for that depends on the platform and on sizes, but not on the number of devices or seeds,
    so that a seed's numbers depend on these by rounding only.
    """
    if config.learner.minibatch_parts is not None:
        return config.learner.minibatch_parts
    small = rows < PARTS_ON_CPU * ROWS_OF_A_PART
    uneven = config.replay.batch_size % PARTS_ON_CPU or config.reward.standardise_returns
    return 1 if jax.default_backend() != "cpu" or small or uneven else PARTS_ON_CPU


def build_part(key: str, settings: Mapping[str, Any], **given: Any) -> Any:
    """Call the ``_target_`` of a section with its other settings and what the run itself provides."""
    arguments = dict(settings)
    path = arguments.pop("_target_", None)
    target = locate(key, path)
    parameters = {
        name: parameter
        for name, parameter in _parameters(key, path, target).items()
        if name not in given and name not in ("parent", "name")  # the latter two are flax's own
    }
    check_known(arguments, parameters, key)
    for name, value in arguments.items():
        check_kind(f"{key}.{name}", value, parameters[name].default)
    with _own_code(key, path):
        return target(**given, **arguments)


@contextlib.contextmanager
def _own_code(key: str, path: object) -> Iterator[None]:
    """What a ``_target_`` raises becomes one line that names it."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        words = next(iter(str(error).strip().splitlines()), "")
        raise ConfigError(f"{key}._target_={path}: cannot be used as {key}: {type(error).__name__}: {words}") from error


def _parameters(key: str, path: object, target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    with _own_code(key, path):
        return inspect.signature(target).parameters


def locate(key: str, path: object) -> Callable[..., Any]:
    """What a dotted import path names."""
    module_name, _, name = str(path or "").rpartition(".")
    if not module_name or not all(part.isidentifier() for part in str(path).split(".")):
        raise ConfigError(f"{key}._target_={path}: must be a dotted path like my_package.my_module.MyClass")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{key}._target_={path}: cannot be imported: {error}") from error
    if not callable(found):
        raise ConfigError(f"{key}._target_={path}: is a {type(found).__name__}, not a class or function")
    return found
