"""What the command line ``python -m qmix_jax.bench`` says."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from qmix_jax.errors import ConfigError
from qmix_jax.settings.arguments import parse_arguments
from qmix_jax.settings.values import number

USAGE = """\
qmix_jax: measure speed and memory on this machine

Usage: python -m qmix_jax.bench [group=choice ...] [key=value ...] [bench.key=value ...]

Groups and keys are those of python -m qmix_jax.train; experiment=smax_3m unless experiment or env is chosen. Measured
are: tracing and compiling; for one seed, the pieces of an iteration, each alone, and the whole; what the replay stores
for a step; the peak of memory. And, where asked for:

  bench.repetitions=5           repetitions, of which the median, the lowest and the highest are given
  bench.env_steps=10_000        environment steps of one seed in one repetition (rounded up to whole iterations)
  bench.output=runs/bench       folder for bench.json and bench.png
  bench.seeds=[1,2,4]           total speed with so many seeds
  bench.num_envs=[8,16,32]      speed over rollout.num_envs
  bench.scenarios=[3m,8m]       speed over env.scenario
  bench.lengths=[32,64,128]     speed over rollout.length
  bench.baseline=flax_gru       our GRU and the learning step with it, and flax's GRUCell in nn.scan, in turns; gather:
                                picking action values by one-hot product, and by indexing
  bench.peer=FOLDER             a checkout of JaxMARL: its baselines/QLearning/qmix_rnn.py with these settings, in turns
                                with ours, for each of bench.seeds (1 unless given), from the start of a run on and
                                without evaluation; the curve over seeds is then left out
  bench.peer_python=PATH        the Python that has what the checkout needs; this one unless given

Examples:

  python -m qmix_jax.bench
  python -m qmix_jax.bench bench.seeds=[1,2,4,8] bench.baseline=flax_gru
  python -m qmix_jax.bench experiment=simple_spread bench.num_envs=[8,32,128]"""

CURVES = {"num_envs": "rollout.num_envs", "scenarios": "env.scenario", "lengths": "rollout.length"}
"""Settings of a curve, and the key that it runs through; the curve over seeds has no key."""
NUMBERS = ("seeds", "num_envs", "lengths")
PREFIX = "bench."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The keys below ``bench.``; see ``USAGE``."""

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
    """The bench's own settings, and the arguments for the configuration.

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
