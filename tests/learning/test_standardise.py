"""Running mean and variance, compared with NumPy over all unmasked numbers."""

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qmix_jax.learning import standardise


@given(seed=st.integers(0, 2**31 - 1), sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_statistics_cover_all_unmasked_numbers(seed, sizes):
    numbers = np.random.default_rng(seed)
    with jax.enable_x64(True):
        statistics, counted = standardise.init(), []
        for size in sizes:
            x, mask = numbers.normal(3.0, 2.0, size=size), numbers.integers(0, 2, size=size).astype(float)
            counted.extend(x[mask > 0])
            statistics = standardise.update(statistics, np.where(mask > 0, x, 1e6), mask)
        # The initial statistics weigh 1e-4, with mean 0 and variance 1.
        total = len(counted) + 1e-4
        mean = np.sum(counted) / total
        variance = (np.sum((np.array(counted) - mean) ** 2) + 1e-4 * (1 + mean**2)) / total
        np.testing.assert_allclose(statistics, [mean, variance, total], rtol=1e-6)
        y = numbers.normal(size=3)
        np.testing.assert_allclose(
            standardise.restore(statistics, standardise.standardise(statistics, y)), y, rtol=1e-9
        )
        np.testing.assert_allclose(standardise.standardise(statistics, y), (y - mean) / np.sqrt(variance), rtol=1e-5)
