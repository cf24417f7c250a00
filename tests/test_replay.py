"""The ring of sequences: what it holds, and what comes out."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from qmix_jax import replay
from qmix_jax.types import Slot, TimeStep

LENGTH, AGENTS, ACTIONS, OBS, STATE = 4, 2, 3, 2, 1

add = jax.jit(replay.add, donate_argnums=0)
sample = jax.jit(replay.sample, static_argnames="batch_size")


def sequences(*numbers: int) -> Slot:
    """``[B, T]`` slots that tell which sequence they belong to and where: ``100 * number + t``."""
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


def test_a_stored_sequence_is_whole():
    memory = empty(3)
    for number in range(1, 6):
        memory = add(memory, sequences(number))
    order = numbers_in(memory)
    assert sorted(order) == [3, 4, 5]
    jax.tree.map(np.testing.assert_array_equal, memory.slots, sequences(*order))


def test_only_filled_places_are_sampled():
    memory = add(empty(8), sequences(1, 2, 3))
    batch = sample(memory, jax.random.key(0), batch_size=400)
    assert set((np.asarray(batch.reward[0]) // 100).astype(int)) == {1, 2, 3}


def test_a_minibatch_is_time_first_and_keeps_sequences_together():
    memory = add(empty(8), sequences(1, 2, 3))
    batch = sample(memory, jax.random.key(1), batch_size=6)
    assert batch.reward.shape == (LENGTH, 6)
    assert batch.step.obs.shape == (LENGTH, 6, AGENTS, OBS)
    drawn = (np.asarray(batch.reward[0]) // 100).astype(int)
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, np.swapaxes(y, 0, 1)), batch, sequences(*drawn))


def test_sampling_is_uniform_with_replacement():
    memory = empty(5)
    for start in (1, 4):  # wraps around
        memory = add(memory, sequences(start, start + 1, start + 2))
    drawn = (np.asarray(sample(memory, jax.random.key(2), batch_size=5000).reward[0]) // 100).astype(int)
    counts = collections.Counter(drawn.tolist())
    assert set(counts) == {2, 3, 4, 5, 6}
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 0.001


def test_another_key_draws_another_minibatch():
    memory = add(empty(8), sequences(*range(8)))
    one, same, other = (sample(memory, jax.random.key(k), batch_size=16).reward for k in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_jit_and_donation_change_no_values():
    plain, donated = empty(5), empty(5)
    for start in range(1, 12, 3):
        new = sequences(start, start + 1, start + 2)
        plain, donated = replay.add(plain, new), add(donated, new)
    jax.tree.map(np.testing.assert_array_equal, plain, donated)
