"""Slots, resets and statistics in the counting environment; greedy evaluation compared with a plain loop."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_env import Kind, expected_avail, expected_reward, expected_win, make_toy

from qmix_jax.acting.explore import masked_argmax
from qmix_jax.acting.greedy_episodes import greedy_episodes, summarize
from qmix_jax.acting.rollout import STARTS, RolloutStats, collect
from qmix_jax.envs.base import Env
from qmix_jax.networks.agents import NO_ACTION, RecurrentAgent, last_actions, unroll
from qmix_jax.types import Outcome, Slot, TimeStep

KINDS = (Kind(3, True), Kind(2, False), Kind(1, True))
ENV = make_toy(KINDS)
AGENT = RecurrentAgent(obs_size=ENV.obs_size, num_agents=ENV.num_agents, num_actions=ENV.num_actions, hidden_size=4)
NUM_ENVS, LENGTH = 16, 9


class Rollout(NamedTuple):
    slots: Slot
    stats: RolloutStats


@pytest.fixture(scope="module")
def params() -> dict:
    """Random parameters of an agent whose hidden state outweighs its observation."""
    numbers = np.random.default_rng(0)
    arguments = jnp.zeros((1, 2, 4)), jnp.zeros((1, 2, 3)), jnp.zeros((1, 2), jnp.int32)
    shapes = jax.eval_shape(AGENT.init, jax.random.key(0), *arguments)
    scales = {"obs_kernel": 0.2, "last_action_kernel": 4.0, "gru_hidden_kernel": 3.0, "q_bias": 0.2}
    return {
        "params": {
            name: (scales.get(name, 1.0) * numbers.normal(size=x.shape)).astype(x.dtype)
            for name, x in shapes["params"].items()
        }
    }


@pytest.fixture(scope="module")
def play(params):
    """Sequences for given ``auto_reset``, epsilon and key."""
    program = jax.jit(functools.partial(collect, ENV, AGENT), static_argnums=(3, 4, 5))

    @functools.cache
    def rollout(auto_reset: bool, epsilon: float, seed: int = 1) -> Rollout:
        collected = program(params, jax.random.key(seed), np.float32(epsilon), NUM_ENVS, LENGTH, auto_reset)
        return Rollout(*jax.tree.map(np.asarray, collected))

    return rollout


def moment(slots: Slot, env: int, t: int) -> tuple[int, int]:
    """Time within the episode and kind of episode, read from the state."""
    time, kind = slots.step.state[env, t].astype(int)
    return int(time), int(kind)


def episodes(slots: Slot, env: int) -> list[tuple[int, int]]:
    """Start and kind of each episode in a sequence, given the lengths of the kinds."""
    found, t = [], 0
    while t < LENGTH:
        found.append((t, moment(slots, env, t)[1]))
        t += KINDS[found[-1][1]].length + 1
    return found


def test_the_rollouts_have_every_kind_of_episode(play):
    kinds = [kind for env in range(NUM_ENVS) for _, kind in episodes(play(True, 0.5).slots, env)]
    assert set(kinds) == {0, 1, 2}
    assert {episodes(play(False, 0.5).slots, env)[0][1] for env in range(NUM_ENVS)} == {0, 1, 2}


def test_an_episode_of_l_transitions_fills_l_plus_one_slots(play):
    slots = play(True, 0.5).slots
    for env in range(NUM_ENVS):
        for start, number in episodes(slots, env):
            kind = KINDS[number]
            for t in range(start, min(start + kind.length + 1, LENGTH)):
                time = t - start
                assert moment(slots, env, t) == (time, number)
                assert slots.first[env, t] == (time == 0)
                acted = time < kind.length and t < LENGTH - 1
                assert slots.mask[env, t] == acted
                if acted:
                    assert slots.reward[env, t] == pytest.approx(expected_reward(time, slots.action[env, t]))
                    ends_here = time == kind.length - 1
                    assert slots.discount[env, t] == (0.0 if ends_here and kind.terminal else 1.0)


def test_the_last_slot_of_an_episode_is_the_true_final_observation(play):
    slots = play(True, 0.5).slots
    for env in range(NUM_ENVS):
        for start, number in episodes(slots, env):
            end = start + KINDS[number].length
            if end < LENGTH:
                assert slots.step.obs[env, end].tolist() == [[end - start, number, agent] for agent in range(2)]
                assert not slots.mask[env, end]
                assert not slots.first[env, end]


@pytest.mark.parametrize("auto_reset", [True, False])
def test_the_last_slot_of_a_sequence_only_holds_an_observation(play, auto_reset):
    slots = play(auto_reset, 0.5).slots
    assert (slots.mask[:, -1] == 0).all()
    assert (slots.reward[:, -1] == 0).all()
    # Some sequences are cut in mid-episode: their last slot holds the observation at the cut.
    times = [moment(slots, env, LENGTH - 1)[0] for env in range(NUM_ENVS)]
    assert not auto_reset or len(set(times)) > 1


def test_without_resets_padding_follows_the_only_episode(play):
    slots = play(False, 0.5).slots
    for env in range(NUM_ENVS):
        length = KINDS[moment(slots, env, 0)[1]].length
        assert slots.mask[env].tolist() == [1.0] * length + [0.0] * (LENGTH - length)
        assert slots.first[env].tolist() == [True] + [False] * (LENGTH - 1)
        assert (slots.reward[env, length:] == 0).all()
        assert moment(slots, env, length)[0] == length


@pytest.mark.parametrize("auto_reset", [True, False])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0])
def test_agents_play_available_actions_only(play, auto_reset, epsilon):
    slots = play(auto_reset, epsilon).slots
    counted = slots.mask > 0
    times = slots.step.state[..., 0].astype(int)
    expected = np.array([[expected_avail(time) for time in row] for row in times])
    np.testing.assert_array_equal(slots.step.avail_actions, expected)
    chosen = np.take_along_axis(expected, slots.action[..., None], axis=-1)[..., 0]
    assert chosen[counted].all()
    assert slots.reward[counted].min() > 0  # the environment penalises unavailable actions


def test_greedy_actions_match_the_learner_s_in_the_stored_slots(play, params):
    """Hidden states, resets and last actions are the same when acting and when learning."""
    slots = jax.tree.map(lambda x: np.swapaxes(x, 0, 1), play(True, 0.0).slots)
    unrolled = jax.jit(functools.partial(unroll, AGENT))
    counted = slots.mask > 0

    def greedy(last_action, first) -> np.ndarray:
        q = unrolled(params, slots.step.obs, last_action, first)
        return np.asarray(masked_argmax(q, slots.step.avail_actions))[counted]

    last_action = np.asarray(last_actions(slots.action, slots.first))
    np.testing.assert_array_equal(slots.action[counted], greedy(last_action, slots.first))
    # A different hidden state would have changed the actions.
    assert (slots.action[counted] != greedy(np.full_like(last_action, NO_ACTION), slots.first)).any()
    assert (slots.action[counted] != greedy(last_action, np.ones_like(slots.first))).any()
    assert (slots.action[counted] != greedy(last_action, np.zeros_like(slots.first))).any()


@pytest.mark.parametrize("auto_reset", [True, False])
def test_statistics_count_finished_episodes(play, auto_reset):
    slots, stats = play(auto_reset, 0.5)
    count, returns, lengths, wins = 0, 0.0, 0, 0
    for env in range(NUM_ENVS):
        for start, number in episodes(slots, env)[: None if auto_reset else 1]:
            kind = KINDS[number]
            end = start + kind.length
            if end < LENGTH:
                count, lengths = count + 1, lengths + kind.length
                returns += slots.reward[env, start:end].sum()
                wins += expected_win(kind, slots.action[env, end - 1])
    assert stats.env_steps == slots.mask.sum()
    assert (stats.episodes, stats.episode_length, stats.wins) == (count, lengths, wins)
    assert stats.episode_return == pytest.approx(returns)
    assert 0 < wins < count


def test_environments_and_keys_give_different_rollouts(play):
    slots = play(False, 1.0).slots
    longest = slots.action[slots.step.state[:, 0, 1] == 0][:, : KINDS[0].length]
    assert len(np.unique(longest, axis=0)) > 1
    assert (play(False, 1.0, seed=2).slots.action != slots.action).any()


EPISODES = 12


@pytest.fixture(scope="module")
def greedy(params):
    return jax.jit(functools.partial(greedy_episodes, ENV, AGENT), static_argnums=2)(
        params, jax.random.key(5), EPISODES
    )


def test_evaluation_counts_the_first_episode_of_each_environment_only(greedy, params):
    """Compared with a plain loop over episodes; long and short episodes count once each."""
    act, step, reset = jax.jit(AGENT.apply), jax.jit(ENV.step), jax.jit(ENV.reset)
    reset_key, _ = jax.random.split(jax.random.key(5))
    kinds = set()
    for env, key in enumerate(jax.random.split(reset_key, EPISODES)):
        env_state, seen = reset(key)
        hidden, last_action = np.zeros((1, 2, 4), np.float32), np.full((1, 2), -1, np.int32)
        total, length, over = 0.0, 0, False
        while not over:
            hidden, q = act(params, hidden, np.asarray(seen.obs)[None], last_action)
            action = np.where(seen.avail_actions, q[0], -np.inf).argmax(axis=-1).astype(np.int32)
            last_action = action[None]
            env_state, seen, outcome = step(key, env_state, action)
            total, length, over = total + float(outcome.reward), length + 1, bool(outcome.last)
        assert greedy.episode_length[env] == length
        assert greedy.episode_return[env] == pytest.approx(total)
        assert greedy.won[env] == bool(outcome.won)
        kinds.add(int(env_state.kind))
    assert kinds == {0, 1, 2}


def test_evaluation_plays_available_actions_only(greedy):
    assert greedy.episode_return.min() > 0


def test_the_summary_is_the_mean_over_episodes(greedy):
    summary = summarize(ENV, greedy)
    assert summary.episode_return == pytest.approx(np.mean(greedy.episode_return))
    assert summary.episode_length == pytest.approx(np.mean(greedy.episode_length))
    assert summary.win_rate == pytest.approx(np.mean(greedy.won))
    assert np.isnan(summarize(ENV._replace(has_win_rate=False), greedy).win_rate)


def test_start_states_repeat_only_after_all_are_used():
    def see(number: jax.Array) -> TimeStep:
        return TimeStep(obs=number.reshape(1, 1), avail_actions=jnp.ones((1, 2), bool), state=number.reshape(1))

    def reset(key):
        number = jax.random.uniform(key)
        return number, see(number)

    def step(key, number, action):
        ended = Outcome(reward=number, discount=jnp.zeros(()), last=jnp.ones((), bool), won=jnp.zeros((), bool))
        return -number, see(-number), ended

    env = Env("one step", 1, 2, 1, 1, 1, reset, step)
    agent = RecurrentAgent(obs_size=1, num_agents=1, num_actions=2, hidden_size=2)
    params = agent.init(jax.random.key(0), jnp.zeros((1, 1, 2)), jnp.zeros((1, 1, 1)), jnp.zeros((1, 1), jnp.int32))
    program = jax.jit(functools.partial(collect, env, agent), static_argnums=(3, 4, 5))
    slots, stats = program(params, jax.random.key(1), np.float32(1.0), 3, 2 * STARTS + 4, True)
    assert stats.episodes == 3 * (STARTS + 2)
    starts = np.asarray(slots.step.state)[:, ::2, 0]
    assert np.asarray(slots.first)[:, ::2].all()
    assert len(set(starts[:, :STARTS].ravel().tolist())) == 3 * STARTS
    np.testing.assert_array_equal(starts[:, STARTS:], starts[:, :2])
