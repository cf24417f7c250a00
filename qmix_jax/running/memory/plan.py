"""What a run will take in memory, before anything is compiled, and what to choose where that is too much."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from qmix_jax.algorithms.base import Algorithm
from qmix_jax.errors import ConfigError
from qmix_jax.running.memory.free import available_bytes, free_on_host
from qmix_jax.running.memory.seed import SeedBytes, seed_bytes
from qmix_jax.running.waves import devices_per_seed

COMPILING = 1250 * 2**20
"""What Python, JAX, the libraries and XLA's compiler take at their peak, as measured with an empty cache."""
PROGRAM = 550 * 2**20
"""What stays of that while the run trains: :func:`qmix_jax.running.devices.after_compiling` sees to the rest."""
FILLED = 0.75
"""Share of the memory that a run with copies for its checkpoints may take."""
ROOMY = 0.9
"""Share of the memory that a run may take by what the program chooses itself."""
SPREAD_FROM = 512 * 2**20
"""Bytes of a replay from which on devices that share a seed spread it among them; a smaller one is faster whole."""
BATCHES = "replay.batch_size, rollout.num_envs, rollout.length or evaluation.episodes"
"""Settings that an iteration's memory grows with."""
SMALLEST, STEP = 200, 50
"""The smallest replay that the program chooses itself, and what its capacity is a multiple of."""


class Plan(NamedTuple):
    """The memory of a run on the fullest of its devices (on CPU: of the machine, which its devices share)."""

    one: SeedBytes
    num_seeds: int
    resident: int
    """States that live there: those of all waves do, throughout; each device of several that share a seed has one."""
    at_once: int
    """How many of them are trained at the same time."""
    snapshots: int
    """States that are there once more while a checkpoint is written."""
    limit: int | None
    """Bytes there are; None where nobody can say."""
    num_devices: int = 1
    """Devices that the run uses."""
    program: int = 0
    """Bytes of the program itself while it trains, where it shares the memory."""
    compiling: int = 0
    """Bytes of the program itself while it is compiled, where it shares the memory."""
    copies: bool = True
    """Whether there is room to copy all states for a checkpoint, so that training goes on while it is written."""
    capacity: int = 0
    """Sequences that a replay holds."""
    replay_devices: int = 1
    """Devices that a seed's replay is spread over."""
    instead: str = ""
    """What would not have fitted, where something else was chosen."""

    @property
    def total(self) -> int:
        """Bytes that the run takes there at its peak, which may be when it is compiled, beside the first states."""
        one = self.one
        states = self.resident * (one.replay // self.replay_devices + one.parameters)
        training = self.snapshots * (one.replay + one.parameters) + self.at_once * one.batches + self.program
        return states + max(training, self.compiling)

    def fits(self, share: float = 1.0) -> bool:
        """Whether it takes no more than this share of the bytes that there are."""
        return self.limit is None or self.total <= share * self.limit


class May(NamedTuple):
    """What the program may choose otherwise where a run does not fit, since nobody has asked for it."""

    fewer_devices: bool = False
    smaller_replay: bool = False


def check(
    algorithm: Algorithm,
    num_seeds: int,
    devices: Sequence[Any],
    seeds_per_device: int | None = None,
    checkpoints: bool = False,
    limit: int | None = None,
    may: May = May(),  # noqa: B008 - immutable
    resumed: bool = False,
    measure: Callable[[Algorithm], SeedBytes] | None = None,
) -> Plan:
    """What training ``num_seeds`` seeds with :class:`qmix_jax.running.waves.Waves` takes.

    Args:
        algorithm: the parts of the run.
        num_seeds: seeds of the run.
        devices: as for ``Waves``.
        seeds_per_device: as for ``Waves``.
        checkpoints: whether all states are copied to the host's memory at times (which on CPU is the same memory).
            Where that would not fit, checkpoints are written without a copy.
        limit: bytes there are on one device (on CPU: for all of them); None asks the first device.
        may: what to choose otherwise where the run does not fit.
        resumed: the run has its replay already.
        measure: tells what one seed takes, by default :func:`seed_bytes`.

    Raises:
        ConfigError: it cannot fit; names the largest ``replay.capacity`` and ``num_seeds`` that do.
    """
    one = (measure or seed_bytes)(algorithm)
    if limit is None:
        limit = available_bytes(devices[0])
    on_cpu = devices[0].platform == "cpu"
    capacity, parts = algorithm.sizes.capacity, algorithm.sizes.minibatch_parts

    def planned(num_seeds: int, num_devices: int = len(devices), each: int | None = seeds_per_device) -> Plan:
        resident, at_once = placement(num_seeds, num_devices, each, on_cpu, parts)
        sharing = devices_per_seed(parts, num_seeds, num_devices)
        spread = sharing if one.replay >= SPREAD_FROM and capacity % sharing == 0 else 1
        own = (PROGRAM, COMPILING) if on_cpu else (0, 0)
        return Plan(one, num_seeds, resident, at_once, 0, limit, num_devices, *own, True, capacity, spread)

    counts = range(len(devices), 0, -1) if may.fewer_devices else [len(devices)]
    plans = [planned(num_seeds, count) for count in counts]
    plan = _chosen(plans, algorithm, may.smaller_replay)
    enough = math.ceil(num_seeds / min(len(devices), num_seeds))
    if (plan is None or plan.instead) and (seeds_per_device or 1) > enough and planned(num_seeds, each=enough).fits():
        raise ConfigError(
            f"devices.seeds_per_device={seeds_per_device}: {_would_take(plans[0], limit or 0)}; use "
            f"devices.seeds_per_device={enough}, as there are no more than {num_seeds} seed(s)"
        )
    if plan is not None:
        copied = plan._replace(snapshots=num_seeds if on_cpu and checkpoints else 0)
        room = copied.fits(FILLED) if on_cpu else _host_has(num_seeds * (plan.one.replay + plan.one.parameters))
        return copied if room else plan._replace(copies=False)
    plan, limit = min(plans, key=lambda plan: plan.total), limit or 0
    if resumed:
        raise ConfigError(f"resume: {_would_take(plan, limit)}; a run keeps its replay: resume it where more is free")
    if num_seeds < len(devices) and planned(num_seeds, num_seeds).fits():
        raise ConfigError(
            f"devices.count={len(devices)}: {_would_take(plan, limit)}; use devices.count={num_seeds}, so that every "
            f"seed is on one device only"
        )
    seeds = next((n for n in range(num_seeds - 1, 0, -1) if planned(n, plan.num_devices).fits()), None)
    raise ConfigError(_refusal(plan, limit, algorithm, largest_capacity(plan, algorithm), seeds))


def _chosen(plans: Sequence[Plan], algorithm: Algorithm, smaller: bool) -> Plan | None:
    """The first plan that leaves some room; else the best with a smaller replay, if it may be; else one that fits.

    None where none does.
    """
    first, smallest = plans[0], min(plans, key=lambda plan: plan.total)
    room = 1.0 if len(plans) == 1 and not smaller else ROOMY
    plan = next((plan for plan in plans if plan.fits(room)), None)
    if plan is None and smaller:
        plan = _with_smaller_replay(smallest, algorithm)
    plan = plan or next((plan for plan in plans if plan.fits()), None)
    if plan is None or (plan.num_devices, plan.capacity) == (first.num_devices, first.capacity):
        return plan
    return plan._replace(instead=f"{first.capacity} sequences on {first.num_devices} device(s), {_size(first.total)}")


def _with_smaller_replay(plan: Plan, algorithm: Algorithm) -> Plan | None:
    """As many sequences as leave some room; None where those would be too few to learn from."""
    limit = None if plan.limit is None else int(ROOMY * plan.limit)
    largest = largest_capacity(plan._replace(limit=limit), algorithm) or 0
    capacity = max(largest // STEP * STEP, _fewest(algorithm))
    if not SMALLEST <= capacity <= largest or capacity >= algorithm.sizes.capacity:
        return None
    smaller = algorithm._replace(sizes=algorithm.sizes._replace(capacity=capacity))
    return plan._replace(one=seed_bytes(smaller), capacity=capacity)


def describe(plan: Plan, every_minutes: float | None = None) -> list[str]:
    """Lines for people: what the run takes, and what checkpoints cost where there are some every so many minutes."""
    one = plan.one
    there = "" if plan.limit is None else f" of {_size(plan.limit)} there are"
    lines = [
        f"memory: {_size(plan.total)}{there}; a seed takes {_size(one.replay)} for the replay, {_size(one.parameters)} "
        f"for parameters and about {_size(one.batches)} for batches while it runs ({plan.num_seeds} seed(s), "
        f"{plan.resident} state(s) in memory, {plan.at_once} at once)"
        + (f", the program about {_size(plan.program)}, compiling {_size(plan.compiling)}" if plan.program else "")
    ]
    if plan.instead:
        lines.append(
            f"memory: chose devices.count={plan.num_devices} replay.capacity={plan.capacity}, since by default "
            f"({plan.instead}) the run would not fit"
        )
    if every_minutes is not None:
        how = "in the background" if plan.copies else "while training waits, since a copy does not fit into memory"
        often = f"every {every_minutes:g} minutes" if every_minutes else "after every epoch"
        lines.append(f"checkpoints: {_size(plan.num_seeds * (one.replay + one.parameters))} {often}, written {how}")
    return lines


def placement(
    num_seeds: int, num_devices: int, seeds_per_device: int | None, on_cpu: bool, minibatch_parts: int = 1
) -> tuple[int, int]:
    """States that share one memory, and how many of them are trained at once; by the rules of ``Waves``."""
    sharing = devices_per_seed(minibatch_parts, num_seeds, num_devices)
    groups = min(num_devices // sharing, num_seeds)
    if seeds_per_device is None:
        seeds_per_device = 1 if on_cpu else math.ceil(num_seeds / groups)
    waves = math.ceil(num_seeds / (groups * seeds_per_device))
    at_once = seeds_per_device * (groups * sharing if on_cpu else 1)
    return waves * at_once, at_once


def largest_capacity(plan: Plan, algorithm: Algorithm) -> int | None:
    """The largest ``replay.capacity`` with which ``plan`` fits its limit, or None where no replay is small enough."""
    if plan.limit is None:
        return None
    capacity = algorithm.sizes.capacity
    sequence = plan.one.replay / capacity
    replays = plan.resident / plan.replay_devices
    free = plan.limit - (plan.total - replays * plan.one.replay)
    # A few numbers of a replay do not grow with its capacity: one sequence less makes up for them.
    largest = math.floor(free / replays / sequence) - 1
    return largest if largest >= _fewest(algorithm) else None


def _fewest(algorithm: Algorithm) -> int:
    """Sequences that a replay must hold: a minibatch, and those of one iteration."""
    return max(algorithm.sizes.batch_size, algorithm.sizes.num_envs)


def _host_has(count: int) -> bool:
    free = free_on_host()
    return free is None or count <= FILLED * free


def _refusal(plan: Plan, limit: int, algorithm: Algorithm, capacity: int | None, seeds: int | None) -> str:
    remedies = [] if capacity is None else [f"replay.capacity={capacity}"]
    remedies += [] if seeds is None else [f"num_seeds={seeds}"]
    one = plan.one
    smaller = "agent.hidden_size or mixer.embed_size" if one.parameters > max(one.batches, one.replay) else BATCHES
    advice = f"use at most {' or '.join(remedies)}" if remedies else f"make {smaller} smaller"
    return (
        f"replay.capacity={algorithm.sizes.capacity} num_seeds={plan.num_seeds}: {_would_take(plan, limit)}; {advice}"
    )


def _would_take(plan: Plan, limit: int) -> str:
    return f"would take {_size(plan.total)} where {_size(limit)} are free"


def _size(count: float) -> str:
    """950 B, 12.34 KiB, 1.05 GiB."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"
