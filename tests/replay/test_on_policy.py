"""Whole passes over the newest sequences."""

import jax
import numpy as np
import pytest

from qmix_jax.replay.on_policy import passes


@pytest.mark.parametrize("batch_size", [1, 3, 12])
def test_a_pass_takes_every_sequence_once(batch_size):
    per_pass = 12 // batch_size
    found = np.asarray(passes(jax.random.key(0), 12, batch_size, 3 * per_pass))
    assert found.shape == (3 * per_pass, batch_size)
    orders = found.reshape(3, 12)
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(np.arange(12), (3, 1)))
    assert len({tuple(order) for order in orders.tolist()}) == 3, "every pass has an order of its own"


def test_another_key_gives_another_order():
    one, same, other = (np.asarray(passes(jax.random.key(k), 12, 3, 4)) for k in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
