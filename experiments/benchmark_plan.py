"""The runs of the benchmark: every map, algorithm, length and seed, with the command of each."""

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qmix_jax.envs.smax.scenarios import JAXMARL_SCENARIOS, find_scenario
from qmix_jax.errors import LARGEST, ConfigError, require, unknown_choice
from qmix_jax.settings.groups import conf_dir

SEEDS = (0, 1, 2, 3, 4)
"""The seeds that are reported; settings are chosen with others."""
LONG, SHORT = 10_000_000, 2_000_000
"""Environment steps of one seed."""
SMAX = {
    **dict.fromkeys(("MMM", "3s5z", "MMM2", "5m_vs_6m", "2c_vs_64zg"), LONG),
    **dict.fromkeys(("3m", "2s3z", "8m", "3s_vs_5z", "10m_vs_11m", "6h_vs_8z", "27m_vs_30m"), SHORT),
}
OWN_MAPS = ("2m_vs_1z", "3s_vs_3z", "1c3s5z", "3s_vs_4z", "8m_vs_9m", "corridor", "bane_vs_bane")
"""Further maps of SMAC, on which only QMIX is trained, for :data:`SHORT`."""
MPE = dict.fromkeys(("simple_spread", "simple_reference", "simple_speaker_listener"), SHORT)
PLAIN = ("qmix", "vdn", "iql", "qplex", "cw_qmix", "ow_qmix", "qtran", "pqn_vdn")
WITH_GRU = {f"{name}_gru": (name, f"algorithm={name}", "agent=gru") for name in PLAIN}
"""On SMAX, whose own choice is ``agent=entities``. Only those that are named are run."""
VARIANTS = {
    **WITH_GRU,
    "qmix_min_gru": ("qmix", "algorithm=qmix", "agent=min_gru"),
    "smax_pqn_vdn": ("pqn_vdn", "experiment=smax_pqn_vdn"),
}
"""Algorithms with other settings, on SMAX: the algorithm, and the arguments that set them."""
ALGORITHMS = (*PLAIN, *VARIANTS)
FEW_ALGORITHMS = ("qmix", "vdn", "iql")
"""On :data:`MPE`'s tasks but simple_spread, where all are compared."""
PEER_DRIVER = Path(__file__).with_name("benchmark_peer.py")
PEERS = {
    "peer_qmix": ("QLearning/qmix_rnn.py", "QLearning/config/alg/ql_rnn_{kind}.yaml"),
    "peer_pqn_vdn": ("QLearning/pqn_vdn_rnn.py", "QLearning/config/alg/pqn_vdn_rnn_{kind}.yaml"),
    "peer_mappo": ("MAPPO/mappo_rnn_smax.py", "MAPPO/config/mappo_homogenous_rnn_smax.yaml"),
}
"""JaxMARL's programs and their settings, below ``baselines/`` of a checkout."""
MPE_PEERS = ("peer_qmix",)
TINY_OVERRIDES = (
    "rollout.num_envs=2",
    "replay.capacity=20",
    "replay.batch_size=4",
    "learner.updates_per_iteration=1",
    "learner.warmup_env_steps=0",
    "evaluation.interval_env_steps=40",
    "evaluation.episodes=2",
    "agent.hidden_size=4",
)
"""Settings of a run that takes seconds; a benchmark of such runs is only to see whether everything works."""


PEER_SHORTER = 0.02
"""Fraction by which a peer's run may be shorter than asked for: it does whole iterations only."""


class Task(NamedTuple):
    """What is to be learned, and for how long."""

    name: str
    arguments: tuple[str, ...]
    """Of ``python -m qmix_jax.train``."""
    steps: int
    units: int | None = None
    """Of both teams, on SMAX."""


class Case(NamedTuple):
    """One seed of one algorithm on one map."""

    task: Task
    algorithm: str
    steps: int
    seed: int

    @property
    def label(self) -> str:
        """The algorithm, with the length of the run where that is not the planned one."""
        return self.algorithm if self.steps == self.task.steps else f"{self.algorithm}-{short(self.steps)}"

    def is_over(self, summary: Mapping[str, Any]) -> bool:
        """Whether a run with this ``summary.json`` came to its end."""
        steps = self.steps * (1 - PEER_SHORTER) if self.is_peer else self.steps
        return not summary.get("interrupted") and summary["env_steps"] >= steps

    @property
    def is_peer(self) -> bool:
        """Whether another project trains it."""
        return self.algorithm in PEERS


def tasks(tiny: bool = False) -> dict[str, Task]:
    """All tasks by name."""
    if tiny:
        return {"two_step": Task("two_step", ("env=two_step", *TINY_OVERRIDES), 80)}
    maps = SMAX | dict.fromkeys(OWN_MAPS, SHORT)
    smax = {name: Task(name, ("env=smax", f"env.scenario={name}"), steps, _units(name)) for name, steps in maps.items()}
    return smax | {name: Task(name, ("env=mpe", f"env.task={name}"), steps) for name, steps in MPE.items()}


def _units(name: str) -> int:
    scenario = find_scenario(name)
    return len(scenario.allies) + len(scenario.enemies)


def cases(
    maps: Sequence[str] = (),
    algorithms: Sequence[str] = (),
    seeds: Sequence[int] = SEEDS,
    steps: int | None = None,
    tiny: bool = False,
) -> list[Case]:
    """The planned runs, all but :data:`WITH_GRU` or those that are named; ``steps`` instead of the planned length.

    Raises :class:`qmix_jax.ConfigError` for a name that is not in the plan.
    """
    known = tasks(tiny)
    for key, given, choices in (("map", maps, known), ("algorithm", algorithms, (*ALGORITHMS, *PEERS))):
        for name in given:
            if name not in choices:
                raise unknown_choice(key, name, choices)
    return [
        Case(task, algorithm, steps or task.steps, seed)
        for task in known.values()
        if not maps or task.name in maps
        for algorithm in algorithms_of(task)
        if (algorithm in algorithms if algorithms else algorithm not in WITH_GRU)
        for seed in seeds
    ]


def algorithms_of(task: Task) -> list[str]:
    """Those that are compared on a task; JaxMARL's on its own maps."""
    if task.name in OWN_MAPS:
        return ["qmix", "qmix_gru"]
    own = [name for name in ALGORITHMS if name not in VARIANTS or task.name in SMAX]
    if task.name in MPE:
        return [*(own if task.name == "simple_spread" else FEW_ALGORITHMS), *MPE_PEERS]
    return [*own, *(PEERS if task.name in JAXMARL_SCENARIOS else ())]


def is_there(algorithm: str) -> bool:
    """Whether this version of the project has the algorithm."""
    chosen = (argument.partition("=") for argument in _arguments(algorithm))
    return algorithm in PEERS or all((conf_dir() / group / f"{name}.yaml").is_file() for group, _, name in chosen)


def _arguments(algorithm: str) -> list[str]:
    """Without what is the plain command's."""
    given = VARIANTS[algorithm][1:] if algorithm in VARIANTS else (f"algorithm={algorithm}",)
    return [argument for argument in given if argument != "algorithm=qmix"]


def settings(case: Case) -> list[str]:
    """The arguments that decide what a run learns: the plain command, and what names the algorithm."""
    return [*case.task.arguments, *_arguments(case.algorithm), f"total_env_steps={case.steps}"]


def command(
    case: Case, run_dir: Path, num_seeds: int = 1, peer: str | None = None, peer_python: str | None = None
) -> list[str]:
    """The command that trains a case, or ``num_seeds`` seeds from the case's on in one program."""
    if case.is_peer:
        places = [str(place) for place in peer_files(case, str(peer))]
        name = f"MPE_{case.task.name}_v3" if case.task.name in MPE else case.task.name
        own = [case.algorithm, name, str(case.steps), str(case.seed), str(run_dir)]
        return [peer_python or sys.executable, "-P", str(PEER_DRIVER), *places, *own]
    own = [f"seed={case.seed}", f"num_seeds={num_seeds}", f"run_dir={run_dir}", "resume=true"]
    own += ["logger.wandb.mode=disabled", "checkpoint.keep=1"]
    return [sys.executable, "-m", "qmix_jax.train", *settings(case), *own]


def peer_files(case: Case, checkout: str) -> list[Path]:
    """JaxMARL's program for a case and its settings, in a checkout."""
    kind = "mpe" if case.task.name in MPE else "smax"
    return [Path(checkout) / "baselines" / part.format(kind=kind) for part in PEERS[case.algorithm]]


def check_peer(peers: Iterable[Case], checkout: str, python: str | None) -> None:
    """Raise :class:`ConfigError` where JaxMARL's programs, or the Python for them, are not there."""
    for place in (place for case in peers for place in peer_files(case, checkout)):
        require(place.is_file(), "peer", checkout, f"a checkout of JaxMARL, with {place.relative_to(checkout)}")
    there = python is None or shutil.which(python) is not None
    require(there, "peer_python", python, "a Python that can be started, like ../JaxMARL/.venv/bin/python")


def shown_command(case: Case) -> str:
    """The command as a reader types it."""
    if case.is_peer:
        return f"python experiments/benchmark.py run map={case.task.name} algorithm={case.algorithm} seeds={case.seed}"
    return " ".join(["python -m qmix_jax.train", *settings(case), f"seed={case.seed}"])


def short(steps: int) -> str:
    """``2M``, ``800k``, ``80``."""
    for size, unit in ((1_000_000, "M"), (1000, "k")):
        if steps >= size and steps % (size // 10) == 0:
            return f"{steps / size:g}{unit}"
    return str(steps)


def read_steps(text: str) -> int:
    """``2M``, ``800k``, ``2_000_000`` or ``2e6`` as a number.

    Raises :class:`ValueError`.
    """
    unit = {"k": 1000, "M": 1_000_000}.get(text[-1:])
    number = float(text[:-1]) * unit if unit else float(text)
    if not 1 <= number <= LARGEST[int] or abs(number - round(number)) > 1e-6:  # 2.3 * 1e6 is not quite 2.3M
        raise ValueError(text)
    return round(number)


def read_seeds(texts: Iterable[str]) -> list[int]:
    """``0``, ``3`` and ``0-4`` as seeds.

    Raises :class:`ValueError`, and :class:`ConfigError` for a range without a seed.
    """
    found: dict[int, None] = {}
    for text in texts:
        first, dash, last = text.partition("-")
        seeds = range(int(first), int(last if dash else first) + 1)
        if not seeds:
            raise ConfigError(f"seeds={text}: is empty; did you mean seeds={last}-{first}?")
        found |= dict.fromkeys(seeds)
    return list(found)
