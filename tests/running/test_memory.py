"""What a run is said to take, against what its states do take, and what is said when it cannot fit."""

import math
import re
import resource
from types import SimpleNamespace
from typing import NamedTuple

import jax
import pytest

from qmix_jax import make_algorithm
from qmix_jax.algorithms import loop as qmix
from qmix_jax.errors import ConfigError
from qmix_jax.running.memory import free
from qmix_jax.running.memory import plan as memory
from qmix_jax.running.memory.plan import May, Plan, SeedBytes


class SizesOf(NamedTuple):
    """What the plan reads of an algorithm's sizes."""

    capacity: int
    batch_size: int
    num_envs: int
    minibatch_parts: int


class Parts(NamedTuple):
    """What the plan reads of an algorithm."""

    sizes: SizesOf


ONE = SeedBytes(replay=1000, parameters=100, batches=10)


def device(platform: str = "gpu", stats: dict | None = None) -> SimpleNamespace:
    return SimpleNamespace(platform=platform, memory_stats=lambda: stats)


@pytest.fixture(scope="module")
def algorithm():
    arguments = ["env=two_step", "agent.hidden_size=8", "mixer.embed_size=4"]
    return make_algorithm([*arguments, "rollout.num_envs=4", "replay.batch_size=8", "replay.capacity=50"])[0]


def test_replay_and_parameters_are_those_of_a_real_state(algorithm):
    state = jax.jit(lambda key: qmix.init(algorithm, key))(jax.random.key(0))
    one = memory.seed_bytes(algorithm)
    assert one.replay == sum(x.nbytes for x in jax.tree.leaves(state.replay))
    learner = sum(x.nbytes for x in jax.tree.leaves((state.learner, state.best)))
    counters = one.parameters - learner
    assert 0 < counters <= 16  # the key, and two counts


def test_batches_hold_the_minibatch_and_what_its_gradient_keeps(algorithm):
    one = memory.seed_bytes(algorithm)
    sequence = one.replay / algorithm.sizes.capacity
    assert one.batches > 2 * 12 * sequence
    larger = algorithm._replace(sizes=algorithm.sizes._replace(batch_size=16))
    grown = memory.seed_bytes(larger).batches - one.batches
    hidden_states = 8 * algorithm.sizes.length * algorithm.env.num_agents * 8 * 4
    assert grown > 2 * 8 * sequence + 2 * hidden_states


def test_a_large_evaluation_and_many_updates_count(algorithm):
    def batches(**sizes):
        return memory.seed_bytes(algorithm._replace(sizes=algorithm.sizes._replace(**sizes))).batches

    assert batches(evaluation_episodes=10**7) > 3 * 10**7 * 2 * 8 * 4  # two agents' hidden states at the least
    assert batches(updates_per_iteration=10**8) > 10**8 * 8  # the random keys at the least


@pytest.mark.parametrize(
    ("num_seeds", "num_devices", "seeds_per_device", "on_cpu", "parts", "expected"),
    [
        (1, 2, None, True, 1, (1, 1)),
        (5, 2, None, True, 2, (6, 2)),  # three waves of two, the last filled up
        (8, 2, 3, True, 1, (12, 6)),
        (8, 1, None, False, 1, (8, 8)),
        (9, 4, None, False, 1, (3, 3)),  # of the fullest device
        (9, 4, 1, False, 1, (3, 1)),
        (1, 2, None, True, 2, (2, 2)),  # both have the state of the one seed
        (2, 8, None, True, 2, (4, 4)),
        (2, 8, None, False, 2, (1, 1)),
    ],
)
def test_states_of_all_waves_stay_and_one_wave_runs(num_seeds, num_devices, seeds_per_device, on_cpu, parts, expected):
    assert memory.placement(num_seeds, num_devices, seeds_per_device, on_cpu, parts) == expected


def test_the_total_counts_states_and_what_runs():
    plan = Plan(ONE, num_seeds=5, resident=6, at_once=2, snapshots=0, limit=None)
    assert plan.total == 6 * 1100 + 2 * 10
    assert plan._replace(snapshots=5).total == (6 + 5) * 1100 + 2 * 10


def test_compiling_is_the_peak_of_a_small_run_and_copies_that_of_a_large_one():
    plan = Plan(ONE, num_seeds=1, resident=2, at_once=2, snapshots=1, limit=None, program=500, compiling=2000)
    assert plan.total == 2 * 1100 + 2000
    assert plan._replace(compiling=1000).total == 2 * 1100 + 1100 + 2 * 10 + 500


@pytest.fixture
def known(monkeypatch):
    """An algorithm whose replay takes 20 bytes for a sequence, and 12 bytes whatever its capacity is."""

    def seed_bytes(algorithm):
        return SeedBytes(20 * algorithm.sizes.capacity + 12, parameters=100, batches=10)

    monkeypatch.setattr(memory, "seed_bytes", seed_bytes)
    monkeypatch.setattr(memory, "PROGRAM", 0)
    monkeypatch.setattr(memory, "COMPILING", 0)

    def algorithm(capacity, parts=1):
        return Parts(SizesOf(capacity, 8, 4, parts))

    return algorithm


def test_checkpoints_count_where_they_share_the_memory(known):
    for platform, snapshots in (("cpu", 3), ("gpu", 0)):
        assert memory.check(known(50), 3, [device(platform)], checkpoints=True, limit=10**9).snapshots == snapshots


def test_sharing_a_seed_is_left_out_where_only_its_copies_do_not_fit(known):
    devices = [device("cpu")] * 2
    one, both = (memory.check(known(50, parts), 1, devices, limit=10**9).total for parts in (1, 2))
    assert both == 2 * one
    with pytest.raises(ConfigError, match=r"^devices.count=2: would take .* are free; use devices.count=1, so that"):
        memory.check(known(50, 2), 1, devices, limit=both - 1)
    memory.check(known(50, 2), 1, devices[:1], limit=both - 1)


def test_what_the_program_chose_itself_it_chooses_otherwise(known):
    devices = [device("cpu")] * 2
    one, both = (memory.check(known(50, parts), 1, devices, limit=10**9).total for parts in (1, 2))
    roomy = math.ceil(both / memory.ROOMY)
    assert memory.check(known(50, 2), 1, devices, limit=roomy, may=May(fewer_devices=True)).num_devices == 2
    plan = memory.check(known(50, 2), 1, devices, limit=both - 1, may=May(fewer_devices=True))
    assert (plan.num_devices, plan.total) == (1, one)
    # Without room to spare where nothing smaller can be chosen.
    assert memory.check(known(50, 2), 1, devices, limit=one, may=May(fewer_devices=True)).num_devices == 1
    with pytest.raises(ConfigError, match="would take"):
        memory.check(known(50, 2), 1, devices, limit=one - 1, may=May(fewer_devices=True))


def test_a_replay_that_nobody_asked_for_is_made_smaller(known):
    devices, may = [device("cpu")] * 2, May(fewer_devices=True, smaller_replay=True)
    fits = memory.check(known(400), 1, devices[:1], limit=10**9).total
    plan = memory.check(known(1000, 2), 1, devices, limit=math.ceil((fits + 20) / memory.ROOMY), may=may)
    assert (plan.capacity, plan.num_devices, plan.total) == (400, 1, fits)
    assert memory.describe(plan)[1] == (
        "memory: chose devices.count=1 replay.capacity=400, since by default (1000 sequences on 2 device(s), "
        "39.3 KiB) the run would not fit"
    )
    with pytest.raises(ConfigError, match="would take"):  # too small to learn from
        memory.check(known(1000), 1, devices, limit=memory.SMALLEST * 20, may=may)
    with pytest.raises(ConfigError, match="would take"):  # somebody has asked for it
        memory.check(known(1000), 1, devices, limit=fits, may=May(fewer_devices=True))


def test_a_smaller_replay_still_holds_what_an_iteration_collects(known):
    """The multiple of 50 below what fits would be less."""
    limit = math.ceil((memory.check(known(245), 1, [device()], limit=10**9).total + 20) / memory.ROOMY)
    for num_envs, capacity in ((4, 200), (230, 230)):
        algorithm = Parts(known(1000).sizes._replace(num_envs=num_envs))
        assert memory.check(algorithm, 1, [device()], limit=limit, may=May(smaller_replay=True)).capacity == capacity


def test_a_resumed_run_keeps_its_replay(known):
    with pytest.raises(ConfigError, match=r"^resume: would take .* are free; a run keeps its replay"):
        memory.check(known(1000), 1, [device("cpu")], limit=5000, resumed=True)


def test_a_checkpoint_is_written_without_a_copy_where_that_does_not_fit(known):
    states = memory.check(known(50), 3, [device("cpu")], limit=10**9).total
    tight = memory.check(known(50), 3, [device("cpu")], checkpoints=True, limit=states)
    assert (tight.copies, tight.snapshots, tight.total) == (False, 0, states)
    roomy = memory.check(known(50), 3, [device("cpu")], checkpoints=True, limit=3 * states)
    assert (roomy.copies, roomy.snapshots) == (True, 3)


def test_devices_that_share_a_seed_spread_a_large_replay(known, monkeypatch):
    devices = [device("cpu")] * 2
    whole = memory.check(known(50, 2), 1, devices, limit=10**9)
    monkeypatch.setattr(memory, "SPREAD_FROM", 1000)
    spread = memory.check(known(50, 2), 1, devices, limit=10**9)
    assert (whole.replay_devices, spread.replay_devices) == (1, 2)
    assert whole.total - spread.total == whole.one.replay
    assert memory.check(known(51, 2), 1, devices, limit=10**9).replay_devices == 1  # cannot be halved
    assert memory.check(known(50, 2), 2, devices, limit=10**9).replay_devices == 1  # a device for every seed


def test_what_fits_is_described(known):
    plan = memory.check(known(50), 3, [device()], limit=2**30)
    first, second = memory.describe(plan, every_minutes=10)
    assert second == "checkpoints: 3.258 KiB every 10 minutes, written in the background"
    waiting = memory.describe(plan._replace(copies=False), every_minutes=0)[1]
    assert waiting.endswith("after every epoch, written while training waits, since a copy does not fit into memory")
    assert first == (
        "memory: 3.287 KiB of 1 GiB there are; a seed takes 1012 B for the replay, 100 B for parameters and about 10 B "
        "for batches while it runs (3 seed(s), 3 state(s) in memory, 3 at once)"
    )


def test_nothing_is_refused_where_nobody_knows_the_limit(known):
    plan = memory.check(known(50), 10**6, [device()])
    assert plan.limit is None
    assert "there are" not in memory.describe(plan)[0]


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize("checkpoints", [False, True])
def test_a_refusal_names_the_largest_number_of_seeds_that_fits(known, platform, checkpoints):
    settings = {"devices": [device(platform)] * 2, "checkpoints": checkpoints}
    fits_ten = memory.check(known(50), 10, settings["devices"], limit=10**9).total
    with pytest.raises(ConfigError) as refused:
        memory.check(known(50), 40, **settings, limit=fits_ten)
    message = str(refused.value)
    assert "\n" not in message
    assert message.startswith("replay.capacity=50 num_seeds=40: would take")
    assert message.endswith("num_seeds=10")


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize("checkpoints", [False, True])
def test_a_refusal_names_the_largest_capacity_that_fits(known, platform, checkpoints):
    settings = {"devices": [device(platform)] * 2, "checkpoints": checkpoints}
    limit = memory.check(known(1000), 3, settings["devices"], limit=10**9).total
    with pytest.raises(ConfigError) as refused:
        memory.check(known(5000), 3, **settings, limit=limit)
    capacity = int(re.findall(r"use at most replay.capacity=(\d+)", str(refused.value))[0])
    assert 995 <= capacity <= 1000
    memory.check(known(capacity), 3, **settings, limit=limit)
    with pytest.raises(ConfigError):
        memory.check(known(capacity + 10), 3, **settings, limit=limit)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_more_seeds_at_once_than_there_are_is_what_the_refusal_names(known, platform):
    two = [device(platform)] * 2
    limit = memory.check(known(1000), 4, two, seeds_per_device=2, limit=10**9).total
    with pytest.raises(
        ConfigError, match=r"^devices.seeds_per_device=9: would take .*; use devices.seeds_per_device=2,"
    ):
        memory.check(known(1000), 4, two, seeds_per_device=9, limit=limit)
    with pytest.raises(ConfigError, match=r"; use devices.seeds_per_device=2, as there are no more than 4 seed"):
        memory.check(known(1000), 4, two, seeds_per_device=9, limit=limit, may=memory.May(True, True))
    with pytest.raises(ConfigError, match=r"^replay.capacity=5000 num_seeds=4: would take"):
        memory.check(known(5000), 4, two, seeds_per_device=9, limit=limit)


def test_no_replay_is_named_that_a_minibatch_does_not_fit_into(known):
    with pytest.raises(
        ConfigError, match=r"214 B are free; make replay.batch_size, rollout.num_envs, rollout.length or "
    ):
        memory.check(known(50), 1, [device()], limit=214)
    with pytest.raises(ConfigError, match=r"314 B are free; use at most replay.capacity=9$"):
        memory.check(known(50), 1, [device()], limit=314)


def test_an_accelerator_says_what_it_has():
    assert free.available_bytes(device(stats={"bytes_limit": 100, "bytes_in_use": 30})) == 70
    assert free.available_bytes(device(stats={"bytes_limit": 100})) == 100
    assert free.available_bytes(device()) is None


def test_this_machine_has_some():
    found = free.available_bytes(jax.devices("cpu")[0])
    assert found is None or 2**20 < found < 2**50


@pytest.mark.parametrize(
    ("group", "files", "expected"),
    [
        ("0::/job/task", {"job/memory.max": "1000\n", "job/memory.stat": "anon 300\nfile 600"}, [700]),
        ("0::/job", {"job/memory.max": "1000", "job/memory.stat": "anon 300\nfile 600\nshmem 100"}, [600]),
        ("0::/job/task", {"job/memory.max": "max\n", "job/memory.stat": "anon 300"}, []),
        ("0::/elsewhere", {"memory.max": "1000", "memory.stat": "anon 1"}, [999]),
        ("4:cpu,memory:/job", {"memory/job/memory.limit_in_bytes": "500", "memory/job/memory.stat": "rss 1"}, [500]),
        ("4:cpuset:/job", {"memory.max": "1000"}, []),
    ],
)
def test_limits_of_control_groups_are_found(tmp_path, group, files, expected):
    for name, text in files.items():
        (tmp_path / "sys" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys" / name).write_text(text)
    (tmp_path / "own").write_text(f"{group}\n")
    assert free._free_in_control_groups(tmp_path / "sys", tmp_path / "own") == expected


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert free._free_in_control_groups(tmp_path, tmp_path / "missing") == []


def test_limits_of_the_process_count(tmp_path, monkeypatch):
    (tmp_path / "status").write_text("Name:\tpython\nVmSize:\t 300 kB\nVmData:\t 100 kB\n")
    limits = {resource.RLIMIT_DATA: 2**20, resource.RLIMIT_AS: resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limits[kind], limits[kind]))
    assert free._free_in_process(tmp_path / "status") == [2**20 - 100 * 1024]
    assert free._free_in_process(tmp_path / "missing") == []
