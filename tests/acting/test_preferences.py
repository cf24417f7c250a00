"""Preferences of teams: whose, how large, how long they are held, and that nothing else is changed by them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_env import Kind, make_toy

from qmix_jax.acting.continuing import begin, collect_on
from qmix_jax.acting.preferences import NONE, Drawn, Preferences, held, preferred
from qmix_jax.acting.rollout import collect, draw_all, number_of_starts
from qmix_jax.networks.agents import RecurrentAgent

ENV = make_toy((Kind(3, True), Kind(11, False), Kind(4, True)))
AGENT = RecurrentAgent(obs_size=ENV.obs_size, num_agents=ENV.num_agents, num_actions=ENV.num_actions, hidden_size=4)
SHARED = Preferences(share=0.5, smallest=0.5, largest=2.0, steps=3)
NUM_ENVS, LENGTH = 6, 25
KEY = jax.random.key(3)


def parameters(size: float):
    """Random ones; with size 0 all actions have the same value, so that a preference decides."""
    arguments = AGENT.initial_hidden(1), jnp.zeros((1, 2, ENV.obs_size)), jnp.zeros((1, 2), jnp.int32)
    shapes = jax.eval_shape(AGENT.init, KEY, *arguments)
    numbers = np.random.default_rng(0)
    return jax.tree.map(lambda x: (size * numbers.normal(size=x.shape)).astype(x.dtype), shapes)


@functools.cache
def played(preferences: Preferences, size: float, epsilon: float):
    run = jax.jit(
        lambda params: collect(
            ENV, AGENT, params, KEY, jnp.float32(epsilon), NUM_ENVS, LENGTH, True, preferences=preferences
        )[0]
    )
    return jax.tree.map(np.asarray, run(parameters(size)))


def followed(drawn, first, preference):
    """What is preferred at each step ``[B, T-1, A]``, by a loop."""
    found = []
    for t in range(drawn.renewed.shape[0]):
        preference = np.where((first[:, t] | drawn.renewed[t])[:, None], drawn.preference[t], preference)
        found.append(preference)
    return np.stack(found, axis=1)


def best(preference, avail_actions):
    """The actions that everybody takes whose own values are all alike."""
    return np.where(avail_actions, preference[:, :, None], -np.inf).argmax(axis=-1)


def test_a_share_of_the_environments_has_them_half_of_the_time():
    drawn = jax.tree.map(np.asarray, SHARED.draw(KEY, 4000, 6, 3))
    assert (drawn.preference[:, :3] == 0).all()
    having = (drawn.preference[:, 3:] != 0).all(axis=-1)
    assert (having == (drawn.preference[:, 3:] != 0).any(axis=-1)).all(), "all actions, or none"
    np.testing.assert_allclose(having.mean(axis=0), 0.5, atol=0.04)
    np.testing.assert_allclose(drawn.renewed.mean(axis=0), 1 / 3, atol=0.04)


def test_they_become_rarer_until_there_are_none():
    at = [float(SHARED.at(jnp.int32(steps), jnp.float32(1000)).chance) for steps in (0, 250, 1000, 1200)]
    np.testing.assert_allclose(at, [0.5, 0.375, 0, 0])
    drawn = SHARED._replace(chance=jnp.float32(0.1)).draw(KEY, 4000, 6, 3)
    np.testing.assert_allclose((drawn.preference[:, 3:, 0] != 0).mean(), 0.1, atol=0.02)
    assert NONE.at(jnp.int32(5), jnp.float32(1000)) is NONE


def test_they_are_gumbel_numbers_times_a_size_whose_logarithm_is_uniform():
    drawn = np.asarray(Preferences(1.0, 0.5, 2.0).draw(KEY, 20_000, 1, 3).preference)[:, 0]
    drawn = drawn[(drawn != 0).all(axis=-1)]
    # Differences of Gumbel numbers are logistic: of variance pi^2 / 3. The mean square size is (2^2 - 0.5^2) / ln 16.
    expected = np.pi**2 / 3 * (4 - 0.25) / np.log(16)
    np.testing.assert_allclose(np.square(drawn[:, 1:] - drawn[:, :1]).mean(axis=0), expected, rtol=0.06)


@pytest.mark.parametrize("share", [0.0, 0.01])
def test_without_a_share_nothing_is_drawn(share):
    none = SHARED._replace(share=share)
    assert none.draw(KEY, 2, 6, 3) is None
    assert none.none_yet(6, 3) is None
    assert held(None, None, np.ones(6, bool)) is None
    assert draw_all(ENV, KEY, NUM_ENVS, LENGTH, 1, none).preference is None


def test_a_preference_lasts_until_it_is_renewed_or_the_episode_is_over():
    old, new = np.zeros((3, 2), np.float32), np.ones((3, 2), np.float32)
    now = held(old, Drawn(new, np.array([False, True, False])), np.array([False, False, True]))
    np.testing.assert_array_equal(now, [[0, 0], [1, 1], [1, 1]])


def test_a_team_shares_its_preference():
    q, preference = np.zeros((2, 3, 4), np.float32), np.arange(8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_array_equal(preferred(q, preference), np.repeat(preference[:, None], 3, axis=1))
    assert preferred(q, None) is q


def test_a_team_does_what_it_prefers():
    slots = played(SHARED, 0.0, 0.0)
    drawn = draw_all(ENV, KEY, NUM_ENVS, LENGTH, number_of_starts(LENGTH), SHARED).preference
    preference = followed(jax.tree.map(np.asarray, drawn), slots.first, np.zeros((NUM_ENVS, ENV.num_actions)))
    acted = slots.mask[:, :-1] > 0
    expected = best(preference, slots.step.avail_actions[:, :-1])
    np.testing.assert_array_equal(slots.action[:, :-1][acted], expected[acted])
    assert len(np.unique(slots.action[3:, :-1][acted[3:]])) == ENV.num_actions


@pytest.mark.parametrize("epsilon", [0.0, 0.5])
def test_environments_without_a_preference_are_played_as_before(epsilon):
    without, with_them = played(NONE, 1.0, epsilon), played(SHARED, 1.0, epsilon)
    jax.tree.map(np.testing.assert_array_equal, *(jax.tree.map(lambda x: x[:3], s) for s in (without, with_them)))
    assert not np.array_equal(without.action[3:], with_them.action[3:])


def test_sequences_that_continue_keep_the_preference():
    length, iterations = 4, 8
    keys = jax.random.split(KEY, iterations)

    @jax.jit
    def run(params):
        carry = begin(ENV, AGENT, jax.random.split(KEY, NUM_ENVS), 0, SHARED)

        def iteration(carry, key):
            carry, slots, *_ = collect_on(ENV, AGENT, params, key, jnp.float32(0), carry, length, preferences=SHARED)
            return carry, slots

        return jax.lax.scan(iteration, carry, keys)[1]

    slots = jax.tree.map(np.asarray, run(parameters(0.0)))
    preference, crossed = np.zeros((NUM_ENVS, ENV.num_actions)), 0
    for i in range(iterations):
        drawn = draw_all(ENV, keys[i], NUM_ENVS, length, number_of_starts(length), SHARED).preference
        drawn = jax.tree.map(np.asarray, drawn)
        crossed += (~slots.first[i][:, 0] & ~drawn.renewed[0] & (preference != 0).any(axis=-1)).sum()
        each = followed(drawn, slots.first[i], preference)
        acted = slots.mask[i][:, :-1] > 0
        expected = best(each, slots.step.avail_actions[i][:, :-1])
        np.testing.assert_array_equal(slots.action[i][:, :-1][acted], expected[acted])
        preference = each[:, -1]
    assert crossed > 2
