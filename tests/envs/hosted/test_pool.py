"""Worker processes: what they play, what becomes of those that die or hang, and that none is left."""

import itertools
import math
import os
import signal
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import psutil
import pytest

from qmix_jax.acting.hosted_rollout import HostedActor
from qmix_jax.acting.preferences import NONE, Preferences
from qmix_jax.envs.build import make_env
from qmix_jax.envs.hosted import pool
from qmix_jax.envs.hosted.group import episode_seed
from qmix_jax.envs.hosted.team import EnvError
from qmix_jax.networks.agents import RecurrentAgent

PETTINGZOO = "qmix_jax.envs.hosted.pettingzoo.make_pettingzoo"


@pytest.fixture(autouse=True)
def pastures(monkeypatch, trials_here):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield
    sys.modules.pop("pastures", None)


def actor_in(num_envs=4, preferences=NONE, **settings):
    settings = {"_target_": PETTINGZOO, "name": "pastures:pasture", "workers": 2} | settings
    env = make_env(settings)
    agent = RecurrentAgent(num_agents=env.num_agents, obs_size=env.obs_size, num_actions=env.num_actions, hidden_size=4)
    obs, action = np.zeros((1, env.num_agents, env.obs_size), np.float32), np.zeros((1, env.num_agents), np.int32)
    params = agent.init(jax.random.key(0), agent.initial_hidden(1), obs, action)
    return env, HostedActor(env, agent, num_envs, preferences=preferences), params


@pytest.fixture(scope="module")
def played():
    """Sequences of 8 slots with episodes of 4 steps, with and without automatic reset, and greedy episodes."""
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        env, actor, params = actor_in(length=3, how="terminated")
        level = np.float32(1)
        batches = {auto: actor.collect(params, level, 5, 8, auto) for auto in (True, False)}
        again, _ = actor.collect(params, level, 5, 8, True)
        other, _ = actor.collect(params, level, 6, 8, True)
        greedy = actor.greedy_episodes(params, 0, 10)
        others, other_actor, _ = actor_in(num_envs=5, length=3, how="terminated")
        greedy_of_five = other_actor.greedy_episodes(params, 0, 10)
    finally:
        sys.path.pop(0)
    env.hosted.close()
    others.hosted.close()
    return env, batches, again, other, greedy, greedy_of_five


def test_an_episode_fills_one_slot_more_than_it_has_transitions(played):
    slots, stats = played[1][True]
    np.testing.assert_array_equal(slots.mask[0], [1, 1, 1, 0, 1, 1, 1, 0])
    np.testing.assert_array_equal(slots.first[0], [1, 0, 0, 0, 1, 0, 0, 0])
    np.testing.assert_array_equal(slots.discount[0], [1, 1, 0, 0, 1, 1, 0, 0])
    expected = np.where(slots.mask > 0, (slots.action * slots.step.avail_actions[..., 1]).sum(axis=-1), 0)
    np.testing.assert_allclose(slots.reward, expected)
    assert (stats.env_steps, stats.episodes, stats.episode_length) == (24, 8, 24)
    assert math.isclose(stats.episode_return, slots.reward.sum())
    taken = np.take_along_axis(slots.step.avail_actions, slots.action[..., None], axis=-1)[..., 0]
    assert taken[:, :-1][slots.mask[:, :-1] > 0].all(), "only available actions"


def test_without_automatic_reset_the_rest_is_padding(played):
    slots, stats = played[1][False]
    np.testing.assert_array_equal(slots.mask[0], [1, 1, 1, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(slots.first[0], [1, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(slots.step.obs[0, 3], slots.step.obs[0, 7])
    assert (stats.env_steps, stats.episodes) == (12, 4)


def test_the_seed_decides_everything(played):
    _, batches, again, other, *_ = played
    jax.tree.map(np.testing.assert_array_equal, batches[True][0], again)
    assert not np.array_equal(other.step.obs, again.step.obs)
    assert len(np.unique(again.step.obs[:, 0, 0, 0])) > 1, "environments have different episodes"


def test_greedy_episodes_do_not_depend_on_how_many_are_played_side_by_side(played):
    *_, greedy, greedy_of_five = played
    assert greedy.episode_length.tolist() == [3] * 10
    np.testing.assert_allclose(greedy.episode_return, greedy_of_five.episode_return)


def test_own_rewards_come_from_the_workers_one_for_each_agent(played):
    env, actor, params = actor_in(length=3, how="terminated", reward="individual")
    assert env.individual_reward
    slots, stats = actor.collect(params, np.float32(1), 5, 8, True)
    greedy = actor.greedy_episodes(params, 0, 10)
    env.hosted.close()
    slots_of_the_team, stats_of_the_team = played[1][True]
    assert slots.reward.shape == (*slots.mask.shape, 3)
    expected = np.where(slots.mask[..., None] > 0, slots.action * slots.step.avail_actions[..., 1], 0)
    np.testing.assert_array_equal(slots.reward, expected)
    np.testing.assert_allclose(slots.reward.sum(axis=-1), slots_of_the_team.reward)
    jax.tree.map(np.testing.assert_array_equal, slots._replace(reward=0), slots_of_the_team._replace(reward=0))
    jax.tree.map(np.testing.assert_allclose, stats, stats_of_the_team)
    np.testing.assert_allclose(greedy.episode_return, played[4].episode_return)


@pytest.fixture(scope="module")
def continued():
    """Five sequences of 4 slots that continue, each after 2 slots of the one before, and one after greedy episodes."""
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        env, actor, params = actor_in(length=5, how="terminated")
        parts = [actor.collect_on(params, np.float32(0.5), seed, 4, 2) for seed in range(5)]
        actor.greedy_episodes(params, 0, 4)
        anew = actor.collect_on(params, np.float32(0.5), 9, 4, 2)
        actor.greedy_episodes(params, 0, 4)
        replayed = [actor.collect_on(params, np.float32(0.5), seed, 4, 0) for seed in (10, 11)]
    finally:
        sys.path.pop(0)
    env.hosted.close()
    return actor, params, parts, anew, replayed


def test_sequences_that_continue_are_one_stream(continued):
    *_, parts, _, _ = continued
    slots = jax.tree.map(lambda *x: np.concatenate([y[:, 2:5] for y in x], axis=1), *(part[0] for part in parts))
    np.testing.assert_array_equal(slots.mask[0], [1, 1, 1, 1, 1, 0] * 2 + [1, 1, 1])
    np.testing.assert_array_equal(slots.first[0], [1, 0, 0, 0, 0, 0] * 2 + [1, 0, 0])
    time = slots.step.obs[:, :, 2, 0] - slots.step.obs[:, :1, 2, 0]
    np.testing.assert_array_equal(time[0, :6], range(6))
    for before, after in itertools.pairwise(parts):
        old, new = before[0], after[0]
        jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[:, 3:5], y[:, :2]), old, new)
        np.testing.assert_array_equal(old.step.obs[:, 5], new.step.obs[:, 2], "the last slot is the next one's first")
    assert not parts[0][0].mask[:, :2].any(), "nothing was before the first"
    stats = jax.tree.map(lambda *x: sum(x), *(part[1] for part in parts))
    assert (stats.env_steps, stats.episodes, stats.episode_length) == (13 * 4, 2 * 4, 5 * 2 * 4)
    assert math.isclose(stats.episode_return, slots.reward[:, :12].sum(), rel_tol=1e-6)


def test_what_agents_remembered_is_what_unrolling_from_the_beginning_gives(continued):
    actor, params, parts, *_ = continued
    hidden, action = parts[0][2].hidden, parts[0][2].last_action
    seen = parts[0][0]
    for part in parts[1:]:
        for slot in range(3):
            obs, avail = seen.step.obs[:, slot], seen.step.avail_actions[:, slot]
            hidden, _ = actor._choose_greedily(params, hidden, obs, avail, action, seen.first[:, slot])
            action = seen.action[:, slot]
        played = seen.mask[:, 2] > 0  # what follows an episode's last slot begins with no memory
        seen = part[0]
        np.testing.assert_allclose(np.asarray(hidden)[played], part[2].hidden[played], rtol=1e-5)
        np.testing.assert_array_equal(action[played], part[2].last_action[played])
        hidden, action = part[2][:2]


def test_episodes_begin_anew_after_an_evaluation(continued):
    *_, parts, anew, replayed = continued
    assert not parts[-1][0].first[:, -1].any()
    slots = anew[0]
    assert slots.first[:, 2].all()
    assert not slots.mask[:, :2].any()
    assert not np.asarray(anew[2].hidden).any()
    assert anew[1].episodes == 0
    old, new = (each[0] for each in replayed)
    assert old.mask.shape == (4, 4), "without a window"
    np.testing.assert_array_equal(old.step.obs[:, -1], new.step.obs[:, 0])


def test_episodes_begin_anew_after_a_failure(tmp_path):
    env, actor, params = actor_in(name="pastures:dying", file=str(tmp_path / "once"), after=3)
    before = actor.collect_on(params, np.float32(1), 0, 3, 1)
    after = actor.collect_on(params, np.float32(1), 1, 3, 1)
    env.hosted.close()
    assert (tmp_path / "once").exists()
    assert before[0].first[:, 1].all()
    assert after[0].first[:, 1].all()
    assert not after[0].mask[:, 0].any()


def test_a_team_holds_its_preference(played):
    env, actor, params = actor_in(length=3, how="terminated", preferences=Preferences(0.5, 1.0, 1.0, steps=1000))
    slots, _ = actor.collect(jax.tree.map(np.zeros_like, params), np.float32(0), 7, 40, True)
    env.hosted.close()
    episode = np.cumsum(slots.first, axis=1) - 1
    chosen = [[{} for _ in range(10)] for _ in range(4)]
    for place, moment in np.argwhere(slots.mask > 0):
        choices = chosen[place][episode[place, moment]]
        for avail, action in zip(slots.step.avail_actions[place, moment], slots.action[place, moment], strict=True):
            assert choices.setdefault(tuple(avail), action) == action, "the same for all agents and steps"
    first = {avail: np.argmax(avail) for choices in chosen[0] for avail in choices}
    assert all(choices.items() <= first.items() for choices in [*chosen[0], *chosen[1]]), "no preference"
    for place in (2, 3):
        preferring = [choices for choices in chosen[place] if not choices.items() <= first.items()]
        assert 1 < len(preferring) < 10, "some episodes, not all"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("kill", "was ended by SIGKILL; it said last: baa, the wolf"),
        ("stop", "has not answered for 2 seconds"),
        ("exit", "step 4: SystemExit: the licence is lost"),
        ("end", "ended with status 3"),
    ],
)
def test_a_worker_that_dies_or_stops_is_started_again(how, words, tmp_path, capfd, workers):
    env, actor, params = actor_in(name="pastures:dying", file=str(tmp_path / "done"), how=how, timeout=2.0)
    slots, stats = actor.collect(params, np.float32(1), 0, 11, False)
    assert stats.episodes == 4
    assert slots.mask.sum() == 24
    said = capfd.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert words in said[0]
    assert "workers restarted (1 of env.restarts=3)" in said[0]
    assert len(workers()) == 2
    env.hosted.close()
    assert not workers()


def test_a_seed_that_fails_is_not_played_again(capfd):
    env, actor, params = actor_in(name="pastures:unlucky", bad=episode_seed(3, 0), restarts=1)
    _, stats = actor.collect(params, np.float32(1), 3, 7, False)
    env.hosted.close()
    assert stats.episodes == 4
    assert "environment 0, step 0: RuntimeError: a bad day; workers restarted (1 of" in capfd.readouterr().err


def gone(pids):
    end = time.monotonic() + 10
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("session", [False, True])
def test_programs_that_a_worker_has_started_end_with_it(session, tmp_path, workers):
    file = tmp_path / "numbers"
    env, actor, params = actor_in(name="pastures:helped", file=str(file), session=session)
    actor.collect(params, np.float32(1), 0, 3, False)
    programs = [int(number) for number in file.read_text().split()]
    assert len(programs) == 4, "one for each environment"
    assert all(map(psutil.pid_exists, programs))
    workers()[0].kill()
    workers()[0].kill()
    assert gone(programs)
    env.hosted.close()


def test_environments_may_have_processes_of_their_own():
    env, actor, params = actor_in(name="pastures:parallel", restarts=0)
    assert actor.collect(params, np.float32(1), 0, 3, False)[1].env_steps == 8
    env.hosted.close()


def test_environments_that_take_longer_to_make_than_a_step_may_are_waited_for(tmp_path):
    env, actor, params = actor_in(name="pastures:slow", timeout=1.0, restarts=0)
    assert actor.collect(params, np.float32(1), 0, 3, False)[1].env_steps == 8
    env.hosted.close()


@pytest.mark.slow
def test_a_worker_that_never_starts_is_given_up(monkeypatch, capfd, workers):
    monkeypatch.setattr(pool, "STARTING", 30.0)
    env, actor, params = actor_in()

    def stop_the_first() -> None:
        while not (found := workers()):
            time.sleep(0.01)
        found[0].send_signal(signal.SIGSTOP)

    stopper = threading.Thread(target=stop_the_first)
    stopper.start()
    _, stats = actor.collect(params, np.float32(1), 0, 5, False)
    stopper.join()
    assert stats.episodes == 4
    assert "environment workers cannot be started: " in capfd.readouterr().err
    assert len(workers()) == 2
    env.hosted.close()


def test_after_too_many_failures_it_is_an_error(tmp_path, workers):
    _, actor, params = actor_in(name="pastures:dying", file=str(tmp_path / "no_such_folder" / "f"), restarts=0)
    with pytest.raises(EnvError, match=r"^environment \d, step 4: FileNotFoundError: .* \(after 0 restarts"):
        actor.collect(params, np.float32(1), 0, 11, False)
    assert not workers()


def test_workers_end_with_the_process_that_started_them_and_leave_no_files(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import os, signal\n"
        "from qmix_jax.envs.build import make_env\n"
        f"settings = {{'name': 'pastures:helped', 'file': {str(tmp_path / 'numbers')!r}, 'session': True}}\n"
        f"env = make_env({{'_target_': {PETTINGZOO!r}, **settings, 'workers': 2}})\n"
        "pool = env.hosted.pool(2)\n"
        "pool.reset(0)\n"
        "print(*(process.pid for process in pool._vector.processes), pool._words.name, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = os.pathsep.join(
        [str(Path(__file__).parent), str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]
    )
    process = psutil.Popen([sys.executable, str(program)], env={**os.environ, "PYTHONPATH": path}, stdout=-1, text=True)
    with process:
        *pids, folder = process.stdout.read().split()
    assert len(pids) == 2
    pids += (tmp_path / "numbers").read_text().split()
    assert len(pids) == 4, "a program of each worker in a session of its own"
    end = time.monotonic() + 10
    while any(map(alive, map(int, pids))) or Path(folder).exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"
