"""The hash that a step's random numbers come from: uniform, and as good as independent over places and keys."""

import jax
import numpy as np
import pytest
from scipy import stats

from qmix_jax.envs.smax.chance import uniform

COUNT, KEYS = 64, 4096


@pytest.fixture(scope="module", params=["split", "counted"])
def drawn(request) -> np.ndarray:
    """Numbers [keys, places], of keys as a run has them and of keys that differ in a few bits only."""
    split = jax.random.split(jax.random.key(0), KEYS)
    counted = jax.vmap(jax.random.key)(np.arange(KEYS))
    return np.asarray(jax.vmap(lambda key: uniform(key, COUNT))(split if request.param == "split" else counted))


def test_numbers_are_uniform(drawn):
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert float(stats.kstest(drawn.ravel(), "uniform").pvalue) > 0.001
    each_place = [float(stats.kstest(column, "uniform").pvalue) for column in drawn.T]
    assert min(each_place) > 0.001 / COUNT


@pytest.mark.parametrize("apart", [1, 2, 7, 31])
def test_numbers_at_other_places_and_of_other_keys_say_nothing(drawn, apart):
    by_place = np.corrcoef(drawn[:, apart:].ravel(), drawn[:, :-apart].ravel())[0, 1]
    by_key = np.corrcoef(drawn[apart:].ravel(), drawn[:-apart].ravel())[0, 1]
    assert abs(by_place) < 4 / np.sqrt(drawn.size)
    assert abs(by_key) < 4 / np.sqrt(drawn.size)


def test_bits_are_even_and_no_two_places_are_tied_together(drawn):
    bits = (drawn.ravel() * 2**24).astype(np.uint32)[:, None] >> np.arange(24) & 1
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 4 * 0.5 / np.sqrt(drawn.size)
    between = np.corrcoef(drawn.T) - np.eye(COUNT)
    assert np.abs(between).max() < 5 / np.sqrt(KEYS)


def test_a_key_of_four_words_will_do():
    first, second = (np.asarray(uniform(key, COUNT)) for key in jax.random.split(jax.random.key(0, impl="rbg")))
    assert len(np.unique(np.concatenate([first, second]))) > 2 * COUNT - 2
