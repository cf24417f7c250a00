"""Noise included, random play leads to the same returns and lengths as in JaxMARL (experiments: 4096 episodes)."""

import importlib.util
from pathlib import Path

import jax
import numpy as np

SCRIPT = Path(__file__).parents[3] / "experiments" / "smax" / "distributions.py"


def test_random_play_on_3m_is_distributed_as_in_jaxmarl():
    spec = importlib.util.spec_from_file_location("distributions", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    with jax.numpy_rank_promotion("allow"):
        sides = [
            script.episodes_of(make("3m"), 256, seed)
            for seed, make in enumerate((script.make_smax, script.make_jaxmarls))
        ]
    assert min(script.p_values(*sides).values()) > 0.01
    # The tests would see a difference.
    ours = sides[0]
    other = ours._replace(
        total=ours.total + np.float32(0.05), length=ours.length + 2, won=ours.won | (ours.total > 0.2)
    )
    assert max(script.p_values(ours, other).values()) < 0.01
