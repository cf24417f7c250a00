"""Settings and usage of ``python -m qmix_jax.bench``."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from qmix_jax.errors import ConfigError
from qmix_jax.settings.arguments import parse_arguments
from qmix_jax.settings.values import number

USAGE = """\
qmix_jax: measure speed and memory on this machine

Usage: python -m qmix_jax.bench [group=choice ...] [key=value ...] [bench.key=value ...]

Groups and keys are those of python -m qmix_jax.train; the default is experiment=smax_3m. This measures tracing and
compiling, the pieces of an iteration of one seed, each alone, and the whole iteration, the bytes that the replay stores
per step, and peak memory. Options:

  bench.repetitions=5           repetitions; median, minimum and maximum are reported
  bench.env_steps=10_000        environment steps per seed in one repetition (rounded up to whole iterations)
  bench.output=runs/bench       folder for bench.json and bench.png
  bench.seeds=[1,2,4]           total speed with these numbers of seeds
  bench.num_envs=[8,16,32]      speed over rollout.num_envs
  bench.scenarios=[3m,8m]       speed over env.scenario
  bench.lengths=[32,64,128]     speed over rollout.length
  bench.baseline=flax_gru       compare our GRU and the update with flax's GRUCell in nn.scan; gather: compare
                                selecting action values by one-hot product and by indexing
  bench.peer=FOLDER             compare with a checkout of JaxMARL: its baselines/QLearning/qmix_rnn.py with these
                                settings and ours, alternating, for each of bench.seeds (default 1), from the start
                                of a run and without evaluation; there is no curve over seeds then
  bench.peer_python=PATH        the Python with the checkout's dependencies; the current one by default

Examples:

  python -m qmix_jax.bench
  python -m qmix_jax.bench bench.seeds=[1,2,4,8] bench.baseline=flax_gru
  python -m qmix_jax.bench experiment=simple_spread bench.num_envs=[8,32,128]"""

CURVES = {"num_envs": "rollout.num_envs", "scenarios": "env.scenario", "lengths": "rollout.length"}
"""Settings of a curve, and the key that it varies; the curve over seeds has no key."""
NUMBERS = ("seeds", "num_envs", "lengths")
PREFIX = "bench."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The keys under ``bench.``; see ``USAGE``."""

    repetitions: int = number(1, default=5)
    env_steps: int = number(1, default=10_000)
    output: str = "runs/bench"
    seeds: list[str] = dataclasses.field(default_factory=list)
    num_envs: list[str] = dataclasses.field(default_factory=list)
    scenarios: list[str] = dataclasses.field(default_factory=list)
    lengths: list[str] = dataclasses.field(default_factory=list)
    baseline: Literal["flax_gru", "gather"] | None = None
    peer: str | None = None
    peer_python: str | None = None


def parse(arguments: Sequence[str]) -> tuple[Settings, list[str]]:
    """The bench settings, and the remaining arguments for the configuration.

    Raises :class:`ConfigError`.
    """
    settings, others = parse_arguments(Settings, arguments, prefix=PREFIX)
    if not any(argument.startswith(("experiment=", "env=")) for argument in others):
        others.insert(0, "experiment=smax_3m")
    for name in NUMBERS:
        for text in getattr(settings, name):
            if not (text.isdecimal() and int(text) > 0):
                raise ConfigError(f"bench.{name}={text}: must be a list of whole numbers from 1 on, like [1,2,4]")
    return settings, others
