"""The typed configuration of a run, and every check that can be made before anything is compiled.

This is the only reader of OmegaConf. Fields have the names and the nesting of ``conf/config.yaml``.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from qmix_jax.errors import ConfigError, unknown_choice


class Range(NamedTuple):
    """Smallest and largest value of a number, both allowed unless ``above`` excludes the smallest."""

    low: float | None = None
    high: float | None = None
    above: bool = False


LARGEST = {int: 2**31 - 1, float: 1e38}
"""On the device numbers have 32 bits."""
PARTS_ON_CPU = 2
"""See ``learner.minibatch_parts``."""


def number(
    low: float | None = None, high: float | None = None, above: bool = False, default: Any = dataclasses.MISSING
) -> Any:
    """A field for a number in a :class:`Range`; with a ``default`` a section may leave it out."""
    return dataclasses.field(metadata={"range": Range(low, high, above)}, default=default)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetConfig:
    """``target.*``."""

    td_lambda: float = number(0, 1, default=0.0)
    double_q: bool
    update: Literal["hard", "soft"]
    update_unit: Literal["updates", "episodes"]
    update_interval: int = number(1)
    tau: float = number(0, 1, above=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """``rollout.*``."""

    num_envs: int = number(1)
    length: int | None = number(2)
    auto_reset: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class PriorityConfig:
    """``replay.priority.*``."""

    alpha: float = number(0)
    beta: float = number(0, 1)
    beta_steps: int | None = number(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """``replay.*``."""

    capacity: int = number(1)
    batch_size: int = number(1)
    replacement: bool
    obs_dtype: Literal["float32", "float16", "bfloat16"]
    priority: PriorityConfig | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """``learner.*``."""

    updates_per_iteration: int = number(1)
    warmup_env_steps: int = number(0)
    max_grad_norm: float | None = number(0, above=True)
    half_loss: bool
    minibatch_parts: int | None = number(1, 1024)

    @property
    def most_parts(self) -> int:
        """The most parts that a minibatch may come in; how many is only known with the environment (``build.py``)."""
        return self.minibatch_parts or PARTS_ON_CPU


@dataclasses.dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """``reward.*``."""

    scale: float = number(0, above=True)
    standardise: bool
    standardise_returns: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExplorationConfig:
    """``exploration.*``."""

    epsilon_start: float = number(0, 1)
    epsilon_end: float = number(0, 1)
    epsilon_steps: int = number(0)
    schedule: Literal["linear", "exponential"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """``evaluation.*``."""

    interval_env_steps: int = number(1)
    episodes: int = number(1)
    seed: int = number(0, 2**32 - 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DevicesConfig:
    """``devices.*``."""

    platform: Literal["cpu", "gpu", "tpu"] | None
    count: int | None = number(1)
    seeds_per_device: int | None = number(1)
    matmul_precision: Literal["float32", "tensorfloat32", "bfloat16"] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """``checkpoint.*``."""

    every_minutes: float | None = number(0)
    keep: int = number(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistributedConfig:
    """``distributed.*``."""

    auto: bool
    coordinator: str | None
    num_processes: int | None = number(1)
    process_id: int | None = number(0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """``sweep.*``; what the numbers may be is checked where they are read, in ``cells.py``."""

    design: Literal["grid", "zip", "random"]
    samples: int = number(1)
    seed: int = number(0, 2**32 - 1)
    halving: int | None = number(1)
    lr: Any
    gamma: Any
    td_lambda: Any
    target_update_interval: Any
    tau: Any
    epsilon_start: Any
    epsilon_end: Any
    epsilon_steps: Any
    max_grad_norm: Any
    reward_scale: Any
    priority_alpha: Any
    priority_beta: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class WandbConfig:
    """``logger.wandb.*``."""

    mode: Literal["online", "offline", "disabled"]
    runs: Literal["each", "aggregate"]
    project: str
    name: str | None
    group: str | None
    entity: str | None
    tags: list[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoggerConfig:
    """``logger.*``."""

    progress: bool
    plot: bool
    wandb: WandbConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """``optimizer.*``: the learning rate and its schedule; the rest is in ``parts``."""

    learning_rate: float = number(0, above=True)
    learning_rate_end: float | None = number(0)
    learning_rate_steps: int | None = number(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlgorithmConfig:
    """``algorithm.*``: the name that a run is reported under."""

    name: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A whole run. ``parts`` keeps the open sections: ``_target_`` and keyword arguments of what they build."""

    algorithm: AlgorithmConfig
    target: TargetConfig
    optimizer: OptimizerConfig
    rollout: RolloutConfig
    replay: ReplayConfig
    learner: LearnerConfig
    reward: RewardConfig
    exploration: ExplorationConfig
    evaluation: EvaluationConfig
    sweep: SweepConfig
    devices: DevicesConfig
    distributed: DistributedConfig
    checkpoint: CheckpointConfig
    logger: LoggerConfig
    seed: int = number(0, 2**31 - 1)
    num_seeds: int = number(1)
    total_env_steps: int = number(1)
    gamma: float = number(0, 1)
    run_dir: str | None
    resume: bool | str
    on_nonfinite: Literal["freeze", "stop"]
    parts: dict[str, dict[str, Any]]


PARTS = ("env", "agent", "mixer", "target", "optimizer")
"""Sections whose ``_target_`` names what they build; their other keys are its arguments (or fields above)."""


def to_container(config: Any) -> dict[str, Any]:
    """An OmegaConf tree as plain, resolved dicts and lists.

    Raises :class:`ConfigError` for interpolations that do not resolve.
    """
    try:
        container = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0]) from error
    return typing.cast(dict[str, Any], container)


def from_arguments(arguments: Sequence[str]) -> dict[str, Any]:
    """``key=value`` arguments with dotted keys as a plain tree; values are read as YAML.

    Raises :class:`ConfigError` for one that cannot be read.
    """
    tree = OmegaConf.create()
    for argument in arguments:
        try:
            tree = OmegaConf.merge(tree, OmegaConf.from_dotlist([argument]))
        except Exception as error:  # OmegaConf's own errors, and those of the YAML reader that it uses.
            raise ConfigError(f"{argument}: cannot be read: {' '.join(str(error).split())}") from error
    return to_container(tree)


def parse(container: Mapping[str, Any]) -> Config:
    """The typed configuration in a plain tree.

    Raises :class:`ConfigError` for an unknown or missing key, a value of another kind, a number out of its range, and
    settings that contradict each other.
    """
    tree = dict(container)
    parts = {}
    for name in PARTS:
        if not isinstance(tree.get(name) or {}, Mapping):
            raise ConfigError(f"{name}={tree[name]}: must be a section of keys")
        section = dict(tree.get(name) or {})
        if not section:
            raise ConfigError(f"{name}: missing; choose one of conf/{name}, for example {name}=...")
        typed = {"target": TargetConfig, "optimizer": OptimizerConfig}.get(name)
        own = {field.name for field in dataclasses.fields(typed)} if typed else set()
        parts[name] = {key: value for key, value in section.items() if key not in own}
        if typed:
            tree[name] = {key: value for key, value in section.items() if key in own}
        else:
            tree.pop(name)
    if "parts" in tree:
        raise ConfigError(f"parts={tree['parts']}: unknown key")
    config = parse_section(Config, {**tree, "parts": parts}, "")
    _check_together(config)
    return config


def _check_together(config: Config) -> None:
    rollout, replay, exploration = config.rollout, config.replay, config.exploration
    if replay.batch_size > replay.capacity:
        raise ConfigError(
            f"replay.batch_size={replay.batch_size}: larger than replay.capacity={replay.capacity}; "
            f"use at most {replay.capacity}"
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
    if rollout.num_envs > replay.capacity:
        raise ConfigError(
            f"replay.capacity={replay.capacity}: must hold the rollout.num_envs={rollout.num_envs} sequences of one "
            f"iteration; use at least {rollout.num_envs}"
        )
    if exploration.epsilon_end > exploration.epsilon_start:
        raise ConfigError(
            f"exploration.epsilon_end={exploration.epsilon_end}: above "
            f"exploration.epsilon_start={exploration.epsilon_start}; epsilon goes down"
        )
    if exploration.schedule == "exponential" and exploration.epsilon_end == 0:
        raise ConfigError("exploration.epsilon_end=0: an exponential schedule never reaches 0; use a small number")
    _check_distributed(config)
    if config.seed + config.num_seeds > 2**31:
        raise ConfigError(f"num_seeds={config.num_seeds}: the last seed would be above {2**31 - 1}")


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


def parse_section(kind: type, section: Any, path: str) -> Any:
    """A plain tree as the dataclass ``kind``; ``path`` is the dotted path of the section, for messages.

    Raises :class:`ConfigError` for an unknown or missing key, a value of another kind and a number out of its range.
    """
    if not isinstance(section, Mapping):
        raise ConfigError(f"{path}={section}: must be a section of keys")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    prefix = f"{path}." if path else ""
    for key in section:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.0)[0]
            raise ConfigError(f"{prefix}{key}={section[key]}: unknown key; did you mean {prefix}{near}?")
    values = {}
    for name, field in fields.items():
        if name not in section and field.default is not dataclasses.MISSING:
            values[name] = field.default
            continue
        if name not in section:
            raise ConfigError(f"{prefix}{name}: missing")
        values[name] = _parse_value(hints[name], section[name], f"{prefix}{name}", field.metadata.get("range"))
    return kind(**values)


def _parse_value(hint: Any, value: Any, key: str, limits: Range | None) -> Any:
    is_union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    options = typing.get_args(hint) if is_union else (hint,)
    if hint is Any or (value is None and type(None) in options):
        return value
    kind = options[0]
    if options == (bool, str):
        if not isinstance(value, bool | str):
            raise ConfigError(f"{key}={value}: must be true, false or a folder")
        return value
    if dataclasses.is_dataclass(kind):
        return parse_section(typing.cast(type, kind), value, key)
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise unknown_choice(key, value, typing.get_args(kind))
        return value
    if dict in (kind, typing.get_origin(kind)):
        return value
    if typing.get_origin(kind) is list:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ConfigError(f"{key}={value}: must be a list of texts, like [a,b]")
        return value
    return _check_range(_parse_scalar(typing.cast(type, kind), value, key), key, limits)


def _parse_scalar(kind: type, value: Any, key: str) -> Any:
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[kind]
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)  # 1e6 is a float in YAML
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not fits:
        raise ConfigError(f"{key}={value}: must be {words}")
    return value


def _check_range(value: Any, key: str, limits: Range | None) -> Any:
    if limits is None:
        return value
    low, high, above = limits
    largest = LARGEST[type(value)]
    high = largest if high is None else high
    if value != value or value in (float("inf"), float("-inf")):
        raise ConfigError(f"{key}={value}: must be a finite number")
    if low is not None and (value < low or (above and value == low)):
        raise ConfigError(f"{key}={value}: must be {'more than' if above else 'at least'} {low}")
    if high is not None and value > high:
        raise ConfigError(f"{key}={value}: must be at most {high}")
    return value
