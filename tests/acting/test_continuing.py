"""Sequences that continue, in the counting environment: one after the other they are one long stream.

``LENGTH`` is shorter than the longest episode, so episodes go across sequences, and ends of episodes fall on all places
of a sequence, its last slot too.
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_env import Kind, expected_reward, make_toy

from qmix_jax.acting.continuing import begin, collect_on
from qmix_jax.acting.explore import masked_argmax
from qmix_jax.acting.rollout import RolloutStats
from qmix_jax.learning.targets import Sequence, td_lambda
from qmix_jax.learning.values import action_values
from qmix_jax.networks.agents import NO_ACTION, AnyAgent, FeedForwardAgent, LSTMAgent, RecurrentAgent
from qmix_jax.networks.separate import SeparateAgents
from qmix_jax.types import Slot, Start

KINDS = (Kind(3, True), Kind(11, False), Kind(4, True))
ENV = make_toy(KINDS)
NUM_ENVS, LENGTH, WINDOW, ITERATIONS = 6, 5, 3, 8
SIZES = {"obs_size": ENV.obs_size, "num_agents": ENV.num_agents, "num_actions": ENV.num_actions, "hidden_size": 4}
AGENT = RecurrentAgent(**SIZES)
SEPARATE = SeparateAgents(RecurrentAgent(**(SIZES | {"num_agents": 1})), ENV.num_agents)
AGENTS = [AGENT, LSTMAgent(**SIZES), FeedForwardAgent(**SIZES), SEPARATE]


class Iteration(NamedTuple):
    slots: Slot
    start: Start
    stats: RolloutStats


@functools.cache
def params_of(agent: AnyAgent):
    """Random parameters with which the past matters as much as the present."""
    arguments = agent.initial_hidden(1), jnp.zeros((1, 2, ENV.obs_size)), jnp.zeros((1, 2), jnp.int32)
    shapes = jax.eval_shape(agent.init, jax.random.key(0), *arguments)
    numbers = np.random.default_rng(0)
    scale = {"obs_kernel": 0.2, "last_action_kernel": 3.0, "gru_hidden_kernel": 2.0}
    return {
        "params": {
            name: (scale.get(name, 1.0) * numbers.normal(size=x.shape)).astype(x.dtype)
            for name, x in shapes["params"].items()
        }
    }


@functools.cache
def play(agent: AnyAgent, window: int, epsilon: float = 0.5) -> list[Iteration]:
    @jax.jit
    def run(params):
        keys = jax.random.split(jax.random.key(7), NUM_ENVS)
        carry = begin(ENV, agent, keys, window)

        def iteration(carry, key):
            carry, *played = collect_on(ENV, agent, params, key, jnp.float32(epsilon), carry, LENGTH)
            return carry, Iteration(*played)

        return jax.lax.scan(iteration, carry, jax.random.split(jax.random.key(1), ITERATIONS))[1]

    played = jax.tree.map(np.asarray, run(params_of(agent)))
    return [jax.tree.map(lambda x, i=i: x[i], played) for i in range(ITERATIONS)]


def stream(iterations: list[Iteration], window: int) -> Slot:
    """All slots in their order; the last one of a sequence is the next's first."""
    parts = [jax.tree.map(lambda x: x[:, window : window + LENGTH - 1], i.slots) for i in iterations[:-1]]
    parts.append(jax.tree.map(lambda x: x[:, window:], iterations[-1].slots))
    return jax.tree.map(lambda *x: np.concatenate(x, axis=1), *parts)


def time_first(slots: Slot) -> Slot:
    return jax.tree.map(lambda x: np.swapaxes(x, 0, 1), slots)


@pytest.mark.parametrize("window", [0, WINDOW])
def test_episodes_go_on_across_sequences(window):
    slots = stream(play(AGENT, window), window)
    seen, cut_at_an_end = set(), False
    for env in range(NUM_ENVS):
        time, kind = 0, int(slots.step.state[env, 0, 1])
        for t in range(slots.mask.shape[1] - 1):
            assert slots.step.state[env, t].tolist() == [time, kind]
            assert slots.first[env, t] == (time == 0)
            over = time == KINDS[kind].length
            assert slots.mask[env, t] == (not over)
            if over:
                seen.add(kind)
                cut_at_an_end |= t % (LENGTH - 1) == 0
                time, kind = 0, int(slots.step.state[env, t + 1, 1])
                continue
            assert slots.reward[env, t] == pytest.approx(expected_reward(time, slots.action[env, t]))
            ends = time == KINDS[kind].length - 1 and KINDS[kind].terminal
            assert slots.discount[env, t] == (not ends)
            time += 1
    assert seen == {0, 1, 2}
    assert cut_at_an_end


@pytest.mark.parametrize("window", [0, WINDOW])
def test_a_sequence_begins_in_the_last_slot_of_the_one_before(window):
    played = play(AGENT, window)
    for before, after in itertools.pairwise(played):
        for name in ("obs", "avail_actions", "state"):
            last, first = (getattr(x.slots.step, name) for x in (before, after))
            np.testing.assert_array_equal(last[:, -1], first[:, window])
        assert (before.slots.mask[:, -1] == 0).all()
    assert (played[0].slots.mask[:, :window] == 0).all(), "nothing is before the first sequence"


def test_the_window_is_the_end_of_the_sequence_before():
    played = play(AGENT, WINDOW)
    for before, after in itertools.pairwise(played):
        jax.tree.map(
            lambda old, new: np.testing.assert_array_equal(old[:, LENGTH - 1 : -1], new[:, :WINDOW]),
            before.slots,
            after.slots,
        )
    jax.tree.map(np.testing.assert_array_equal, stream(played, WINDOW), stream(play(AGENT, 0), 0))


def test_statistics_count_episodes_that_began_in_earlier_sequences():
    played = play(AGENT, 0)
    slots = stream(played, 0)
    count, returns, lengths = 0, 0.0, 0
    for env in range(NUM_ENVS):
        start = 0
        for t in np.flatnonzero(slots.mask[env, :-1] == 0):
            count, lengths = count + 1, lengths + t - start
            returns, start = returns + slots.reward[env, start:t].sum(), t + 1
    # An end that only the last slot shows is counted as well.
    for env in range(NUM_ENVS):
        time, kind = slots.step.state[env, -1].astype(int)
        if time == KINDS[kind].length:
            count, lengths = count + 1, lengths + time
            returns += slots.reward[env, -1 - time : -1].sum()
    summed = jax.tree.map(lambda *x: sum(x), *[iteration.stats for iteration in played])
    assert summed.env_steps == slots.mask.sum()
    assert (summed.episodes, summed.episode_length) == (count, lengths)
    assert summed.episode_return == pytest.approx(returns)
    assert lengths > 11 * 4, "long episodes among them"


def values(agent: AnyAgent, slots: Slot, start: Start | None) -> np.ndarray:
    return np.asarray(jax.jit(functools.partial(action_values, agent))(params_of(agent), time_first(slots), start))


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: type(agent).__name__)
@pytest.mark.parametrize("burn_in", [0, WINDOW])
def test_values_from_the_stored_start_are_those_of_one_long_unroll(agent, burn_in):
    played = play(agent, WINDOW)
    whole = values(agent, stream(played, WINDOW), None)
    for number, iteration in list(enumerate(played))[1:]:
        first = number * (LENGTH - 1) - WINDOW + burn_in
        slots = jax.tree.map(lambda x: x[:, burn_in:], iteration.slots)
        before = time_first(jax.tree.map(lambda x: x[:, :burn_in], iteration.slots)) if burn_in else None
        found = values(agent, slots, iteration.start._replace(burn_in=before))
        np.testing.assert_allclose(found, whole[first : first + len(found)], rtol=2e-5, atol=2e-5)
    if agent is AGENT:  # what was remembered matters
        forgotten = Start(agent.initial_hidden(NUM_ENVS), np.full_like(iteration.start.last_action, NO_ACTION))
        assert np.abs(values(agent, slots, forgotten) - found).max() > 0.01
        other = iteration.start._replace(last_action=forgotten.last_action)
        assert np.abs(values(agent, slots, other) - values(agent, slots, iteration.start)).max() > 0.01


def test_burn_in_slots_have_no_gradient():
    iteration = play(AGENT, WINDOW)[-1]
    slots = time_first(jax.tree.map(lambda x: x[:, WINDOW:], iteration.slots))
    before = time_first(jax.tree.map(lambda x: x[:, :WINDOW], iteration.slots))

    def total(params, start):
        return (action_values(AGENT, params, slots, start) ** 2).sum()

    @jax.jit
    def gradients(params):
        burnt_in = iteration.start._replace(burn_in=before)
        after = Start(*_after(params, burnt_in))
        return jax.grad(total)(params, burnt_in), jax.grad(total)(params, after)

    def _after(params, start):
        """The hidden state and last actions after the window, by the values of an unroll that ends there."""
        carry, last = start.hidden, start.last_action
        for t in range(WINDOW):
            first = before.first[t][:, None]
            carry = jnp.where(first[..., None], 0.0, carry)
            carry, _ = AGENT.apply(params, carry, before.step.obs[t], jnp.where(first, NO_ACTION, last))
            last = before.action[t]
        return carry, last

    one, other = gradients(params_of(AGENT))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4), one, other)


def test_greedy_actions_match_the_learner_s_in_the_stored_slots():
    for iteration in play(AGENT, WINDOW, 0.0):
        q = values(AGENT, iteration.slots, iteration.start)
        slots = time_first(iteration.slots)
        counted = slots.mask > 0
        greedy = np.asarray(masked_argmax(q, slots.step.avail_actions))
        np.testing.assert_array_equal(slots.action[counted], greedy[counted])


def test_a_sequence_that_its_length_ends_bootstraps_from_its_last_slot():
    """By hand, backwards: a return restarts from the value where the sequence was cut, or an episode timed out."""
    gamma, lambda_ = 0.9, 0.7
    cut = 0
    for iteration in play(AGENT, 0):
        slots = time_first(iteration.slots)
        value = values(AGENT, iteration.slots, iteration.start).max(axis=-1).sum(axis=-1)
        sequence = Sequence(slots.reward, slots.discount, slots.mask, value, value)
        y = np.asarray(td_lambda(sequence, jnp.float32(gamma), jnp.float32(lambda_)))
        for env in range(NUM_ENVS):
            following = value[-1, env]
            for t in reversed(range(LENGTH)):
                if slots.mask[t, env]:
                    bootstrap = (1 - lambda_) * value[t + 1, env] + lambda_ * following
                    following = slots.reward[t, env] + gamma * slots.discount[t, env] * bootstrap
                else:
                    following = value[t, env]
                assert y[t, env] == pytest.approx(following, rel=1e-4)
            time, kind = slots.step.state[-1, env].astype(int)
            if time < KINDS[kind].length and slots.mask[-2, env]:
                cut += 1
                expected = slots.reward[-2, env] + gamma * value[-1, env]
                assert y[-2, env] == pytest.approx(expected, rel=1e-4)
    assert cut > NUM_ENVS
