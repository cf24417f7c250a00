"""The ring of sequences: adding and sampling."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from qmix_jax.replay import sequences as replay
from qmix_jax.types import Slot, TimeStep

LENGTH, AGENTS, ACTIONS, OBS, STATE = 4, 2, 3, 2, 1

add = jax.jit(replay.add, donate_argnums=0)
sample = jax.jit(replay.sample, static_argnames=("batch_size", "replacement"))
prioritised = jax.jit(replay.sample_prioritised, static_argnames=("batch_size", "replacement"))


def sequences(*numbers: int) -> Slot:
    """``[B, T]`` slots that encode their sequence and time: ``100 * number + t``."""
    tag = 100.0 * jnp.array(numbers, jnp.float32)[:, None] + jnp.arange(LENGTH, dtype=jnp.float32)[None]

    def filled(*shape: int):
        return jnp.broadcast_to(tag.reshape(*tag.shape, *(1 for _ in shape)), (*tag.shape, *shape))

    return Slot(
        step=TimeStep(obs=filled(AGENTS, OBS), avail_actions=filled(AGENTS, ACTIONS) > 0, state=filled(STATE)),
        action=filled(AGENTS).astype(jnp.int32),
        reward=tag,
        discount=tag,
        mask=tag,
        first=tag % 100 == 0,
    )


def empty(capacity: int) -> replay.Replay:
    return replay.init(jax.tree.map(lambda x: x[0, 0], sequences(0)), capacity, LENGTH)


def numbers_in(memory: replay.Replay) -> list[int]:
    return (np.asarray(memory.slots.reward[: int(memory.size), 0]) // 100).astype(int).tolist()


@pytest.mark.parametrize("added", [1, 2, 3, 5])
def test_a_full_ring_holds_the_newest_sequences(added):
    capacity, memory, given = 5, empty(5), []
    for start in range(1, 4 * added * capacity, added):
        new = list(range(start, start + added))
        memory, given = add(memory, sequences(*new)), given + new
        assert sorted(numbers_in(memory)) == given[-capacity:]
        assert int(memory.size) == min(len(given), capacity)
        assert int(memory.cursor) == len(given) % capacity


def test_a_stored_sequence_is_complete():
    memory = empty(3)
    for number in range(1, 6):
        memory = add(memory, sequences(number))
    order = numbers_in(memory)
    assert sorted(order) == [3, 4, 5]
    jax.tree.map(np.testing.assert_array_equal, memory.slots, sequences(*order))


def test_only_stored_sequences_are_sampled():
    memory = add(empty(8), sequences(1, 2, 3))
    batch = sample(memory, jax.random.key(0), batch_size=400).slots
    assert set((np.asarray(batch.reward[0]) // 100).astype(int)) == {1, 2, 3}


def test_a_minibatch_is_time_first_and_keeps_sequences_together():
    memory = add(empty(8), sequences(1, 2, 3))
    batch = sample(memory, jax.random.key(1), batch_size=6).slots
    assert batch.reward.shape == (LENGTH, 6)
    assert batch.step.obs.shape == (LENGTH, 6, AGENTS, OBS)
    drawn = (np.asarray(batch.reward[0]) // 100).astype(int)
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, np.swapaxes(y, 0, 1)), batch, sequences(*drawn))


def test_sampling_is_uniform_with_replacement():
    memory = empty(5)
    for start in (1, 4):  # wraps around
        memory = add(memory, sequences(start, start + 1, start + 2))
    drawn = (np.asarray(sample(memory, jax.random.key(2), batch_size=5000).slots.reward[0]) // 100).astype(int)
    counts = collections.Counter(drawn.tolist())
    assert set(counts) == {2, 3, 4, 5, 6}
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 0.001


def test_another_key_draws_another_minibatch():
    memory = add(empty(8), sequences(*range(8)))
    one, same, other = (sample(memory, jax.random.key(k), batch_size=16).slots.reward for k in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_jit_and_donation_do_not_change_values():
    plain, donated = empty(5), empty(5)
    for start in range(1, 12, 3):
        new = sequences(start, start + 1, start + 2)
        plain, donated = replay.add(plain, new), add(donated, new)
    jax.tree.map(np.testing.assert_array_equal, plain, donated)


def test_without_replacement_sequences_are_distinct_and_uniform():
    memory = add(empty(8), sequences(1, 2, 3, 4, 5))
    draw = jax.jit(jax.vmap(lambda key: replay.sample(memory, key, 3, replacement=False).places))
    places = np.asarray(draw(jax.random.split(jax.random.key(0), 4000)))
    assert all(len(set(row)) == 3 for row in places.tolist())
    counts = collections.Counter(places.ravel().tolist())
    assert set(counts) == set(range(5))
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 0.001


def with_priorities(*priorities: float) -> replay.Replay:
    memory = add(empty(8), sequences(*range(len(priorities))))
    return memory._replace(priority=memory.priority.at[: len(priorities)].set(jnp.array(priorities)))


PRIORITIES = np.array([0.1, 1.0, 3.0, 0.5, 2.0])


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_prioritised_frequencies_and_weights_are_exact(alpha):
    memory, beta = with_priorities(*PRIORITIES), 0.4
    batch = prioritised(memory, jax.random.key(3), 20_000, jnp.float32(alpha), jnp.float32(beta))
    probability = PRIORITIES**alpha / (PRIORITIES**alpha).sum()
    counts = np.bincount(batch.places, minlength=5)
    assert len(counts) == 5
    assert scipy.stats.chisquare(counts, 20_000 * probability).pvalue > 0.001
    weights = (5 * probability) ** -beta
    np.testing.assert_allclose(batch.weights, (weights / weights.max())[np.asarray(batch.places)], rtol=1e-5)
    drawn = (np.asarray(batch.slots.reward[0]) // 100).astype(int)
    np.testing.assert_array_equal(drawn, batch.places)


def test_prioritised_without_replacement_draws_one_by_one():
    memory = with_priorities(*PRIORITIES)
    alpha, beta = jnp.float32(1.0), jnp.float32(0.4)
    draw = jax.jit(jax.vmap(lambda key: replay.sample_prioritised(memory, key, 2, alpha, beta, False).places))
    places = np.asarray(draw(jax.random.split(jax.random.key(0), 20_000)))
    p = PRIORITIES / PRIORITIES.sum()
    expected = np.array([[0.0 if i == j else p[i] * p[j] / (1 - p[i]) for j in range(5)] for i in range(5)])
    counts = np.zeros((5, 5))
    np.add.at(counts, tuple(places.T), 1)
    assert (counts.diagonal() == 0).all()
    different = ~np.eye(5, dtype=bool)
    assert scipy.stats.chisquare(counts[different], 20_000 * expected[different]).pvalue > 0.001


def test_new_sequences_get_the_largest_priority_so_far():
    memory = add(empty(4), sequences(1, 2))
    np.testing.assert_array_equal(memory.priority, [1, 1, 0, 0])
    changed = replay.update_priorities(
        replay.Priorities(memory.priority, memory.max_priority), jnp.array([0, 1]), jnp.array([5.0, 0.0])
    )
    np.testing.assert_allclose(changed.priority, [5, replay.SMALLEST_PRIORITY, 0, 0], rtol=1e-5)
    memory = add(memory._replace(**changed._asdict()), sequences(3))
    assert memory.priority[2] == memory.max_priority == memory.priority[0] == pytest.approx(5.0)
    after = replay.Priorities(memory.priority, memory.max_priority)
    after = replay.update_priorities(after, jnp.array([0]), jnp.array([2.0]))
    assert after.max_priority == pytest.approx(5.0)
