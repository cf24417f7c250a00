"""The typed configuration of a run: one section a class, with the names and the nesting of ``conf/config.yaml``."""

import dataclasses
from typing import Any, Literal

from qmix_jax.settings.values import number

PARTS_ON_CPU = 2
"""See ``learner.minibatch_parts``."""
DEFAULT_CAPACITY = 1000
"""See ``replay.capacity``."""
MOST_SEEDS = 2**16
"""Of one run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetConfig:
    """``target.*``."""

    td_lambda: float = number(0, 1, default=0.0)
    double_q: bool
    network: Literal["target", "online"]
    update: Literal["hard", "soft"]
    update_unit: Literal["updates", "episodes"]
    update_interval: int = number(1)
    tau: float = number(0, 1, above=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """``rollout.*``."""

    num_envs: int = number(1)
    length: int | None = number(2)
    overlap: bool
    auto_reset: bool
    sequences: Literal["fresh", "continue"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PriorityConfig:
    """``replay.priority.*``."""

    alpha: float = number(0)
    beta: float = number(0, 1)
    beta_steps: int | None = number(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """``replay.*``."""

    capacity: int | None = number(1)
    batch_size: int = number(1)
    replacement: bool
    obs_dtype: Literal["float32", "float16", "bfloat16", "uint8"]
    priority: PriorityConfig | None
    on_policy: bool = False
    memory_window: int = number(0, default=0)

    def sequences(self, num_envs: int) -> int:
        """``capacity``; where it is not set, 1000 or as many as an iteration of ``num_envs`` or a minibatch has.

        With ``on_policy`` the sequences of one iteration, whatever is set.
        """
        if self.on_policy:
            return num_envs
        return self.capacity or max(DEFAULT_CAPACITY, self.batch_size, num_envs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """``learner.*``."""

    updates_per_iteration: int = number(1)
    warmup_env_steps: int = number(0)
    max_grad_norm: float | None = number(0, above=True)
    half_loss: bool
    minibatch_parts: int | None = number(1, 1024)
    burn_in: int = number(0)

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
    """``exploration.*``: numbers of epsilon or of a temperature, and of preferences; what uses them is in ``parts``."""

    schedule: Literal["linear", "exponential"]
    fraction: float = number(0, 1)
    epsilon_start: float | None = number(0, 1, default=None)
    epsilon_end: float | None = number(0, 1, default=None)
    epsilon_steps: int | None = number(0, default=None)
    temperature_start: float | None = number(0, above=True, default=None)
    temperature_end: float | None = number(0, above=True, default=None)
    temperature_steps: int | None = number(0, default=None)
    preference_share: float = number(0, 1, default=0.0)
    preference_smallest: float = number(0, above=True, default=0.03)
    preference_largest: float = number(0, above=True, default=1.0)
    preference_steps: int = number(1, default=10)
    preferences_end: int | None = number(1, default=None)

    @property
    def level(self) -> Literal["epsilon", "temperature"]:
        """What goes from ``start`` to ``end``; ``checks.py`` sees to it that all numbers of one of them are given."""
        return "epsilon" if self.temperature_start is None else "temperature"

    @property
    def start(self) -> float:
        """At the first environment step."""
        return getattr(self, f"{self.level}_start")

    @property
    def end(self) -> float:
        """When ``steps`` have passed."""
        return getattr(self, f"{self.level}_end")

    def steps(self, total_env_steps: int) -> int:
        """Environment steps of one seed from ``start`` to ``end``."""
        steps = getattr(self, f"{self.level}_steps")
        return round(self.fraction * total_env_steps) if steps is None else steps


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
    samples: int = number(1, 10_000)
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
    temperature_start: Any
    temperature_end: Any
    temperature_steps: Any
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
    system: bool
    video: bool
    artifacts: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoggerConfig:
    """``logger.*``."""

    progress: bool
    plot: bool
    tensorboard: bool
    wandb: WandbConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """``optimizer.*``: the learning rate and its schedule; the rest is in ``parts``."""

    learning_rate: float = number(0, above=True)
    learning_rate_end: float | None = number(0)
    learning_rate_steps: int | None = number(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlgorithmConfig:
    """``algorithm.*``: the name that a run is reported under; the rest is in ``parts``."""

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
    num_seeds: int = number(1, MOST_SEEDS)
    total_env_steps: int = number(1)
    gamma: float = number(0, 1)
    run_dir: str | None
    resume: bool | str
    on_nonfinite: Literal["freeze", "stop"]
    parts: dict[str, dict[str, Any]]


PARTS = ("algorithm", "env", "agent", "mixer", "target", "exploration", "optimizer")
"""Sections whose ``_target_`` names what they build; their other keys are its arguments (or fields above)."""
