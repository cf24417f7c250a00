"""Packing and unpacking of slots."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmix_jax import make_algorithm
from qmix_jax.algorithms import loop as qmix
from qmix_jax.replay import packing as storage
from qmix_jax.replay.packing import Storage, pack, unpack
from qmix_jax.types import Slot, TimeStep


def slots(num_actions: int, state_from_obs: bool) -> Slot:
    """``[5, 6]`` random slots of two agents."""
    numbers = np.random.default_rng(num_actions)

    def flag(*shape: int) -> np.ndarray:
        return numbers.random((5, 6, *shape)) < 0.5

    obs = numbers.normal(size=(5, 6, 2, 3)).astype(np.float32)
    state = obs.reshape(5, 6, 6) if state_from_obs else numbers.normal(size=(5, 6, 4)).astype(np.float32)
    return Slot(
        step=TimeStep(obs=obs, avail_actions=flag(2, num_actions), state=state),
        action=numbers.integers(num_actions, size=(5, 6, 2)).astype(np.int32),
        reward=numbers.normal(size=(5, 6)).astype(np.float32),
        discount=numbers.random((5, 6)).astype(np.float32),
        mask=flag().astype(np.float32),
        first=flag(),
    )


@pytest.mark.parametrize("state_from_obs", [True, False])
@pytest.mark.parametrize("num_actions", [1, 7, 8, 9, 33, 256, 257])
def test_packing_is_exact(num_actions, state_from_obs):
    kept = Storage(num_actions, state_from_obs)
    before = slots(num_actions, state_from_obs)
    after = jax.jit(lambda slot: unpack(kept, pack(kept, slot)))(before)
    jax.tree.map(np.testing.assert_array_equal, after, before)
    assert [x.dtype for x in jax.tree.leaves(after)] == [x.dtype for x in jax.tree.leaves(before)]


@pytest.mark.parametrize(("dtype", "error"), [(jnp.bfloat16, 2**-8), (jnp.float16, 2**-11)])
def test_only_observations_and_states_lose_precision(dtype, error):
    kept, before = Storage(7, dtype=dtype), slots(7, state_from_obs=False)
    after = unpack(kept, pack(kept, before))
    np.testing.assert_allclose(after.step.obs, before.step.obs, rtol=error)
    np.testing.assert_allclose(after.step.state, before.step.state, rtol=error)
    exact = before.step._replace(obs=after.step.obs, state=after.step.state)
    jax.tree.map(np.testing.assert_array_equal, after, before._replace(step=exact))


def test_values_too_large_for_float16_stay_finite():
    slot = slots(7, state_from_obs=False)
    slot = slot._replace(step=slot.step._replace(obs=slot.step.obs * 1e9))
    assert np.abs(pack(Storage(7, dtype=jnp.float16), slot).obs).max() == 65504
    assert np.isfinite(pack(Storage(7, dtype=jnp.bfloat16), slot).obs.astype(jnp.float32)).all()


def test_bytes_of_a_slot():
    def count(kept: Storage) -> int:
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(pack(kept, slots(7, True)))) // 30

    assert count(Storage(7)) == 4 * (6 + 6) + 2 + 2 + 4 + 4 + 1
    assert count(Storage(7, state_from_obs=True)) == 4 * 6 + 2 + 2 + 4 + 4 + 1
    assert count(Storage(7, state_from_obs=True, dtype=jnp.bfloat16)) == 2 * 6 + 2 + 2 + 4 + 4 + 1


@pytest.mark.parametrize("task", ["simple_spread", "simple_speaker_listener"])
def test_a_state_is_omitted_only_if_it_is_the_observations(task):
    env = make_algorithm(["env=mpe", f"env.task={task}"])[0].env
    step = jax.eval_shape(env.reset, jax.random.key(0))[1]
    assert env.state_from_obs == (step.state.size == step.obs.size) == (task == "simple_spread")
    if env.state_from_obs:
        step = jax.jit(env.reset)(jax.random.key(0))[1]
        np.testing.assert_array_equal(step.state, step.obs.reshape(-1))


def test_the_setting_reaches_the_replay():
    for name, dtype in storage.OBS_DTYPES.items():
        algorithm, _ = make_algorithm(["env=two_step", f"replay.obs_dtype={name}"])
        state = jax.eval_shape(lambda key, algorithm=algorithm: qmix.init(algorithm, key), jax.random.key(0))
        assert state.replay.slots.obs.dtype == state.replay.slots.state.dtype == dtype
