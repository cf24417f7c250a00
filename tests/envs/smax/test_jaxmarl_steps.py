"""Each transition as JaxMARL's, from JaxMARL's own state: what collisions do to the last bits does not add up."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmix_jax.envs.jaxmarl import make_smax as make_jaxmarls
from qmix_jax.envs.smax import environment, make_smax
from qmix_jax.envs.smax.battle import push_apart, touching_distances
from qmix_jax.envs.smax.rules import Rules
from qmix_jax.envs.smax.scenarios import JAXMARL_SCENARIOS
from qmix_jax.envs.smax.units import numbers_of, stats_of

LENGTH = 200
QUICK = ("3m",)


def beside(name: str):
    """A module of this folder."""
    spec = importlib.util.spec_from_file_location(f"smax_{name}", Path(__file__).parent / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RECORD, PARITY = beside("record_jaxmarl"), beside("test_jaxmarl_parity")


def watch(name: str) -> dict[str, np.ndarray]:
    """What JaxMARL does in ``LENGTH`` transitions of random and as many of scripted play, ended episodes restarted."""
    env = make_jaxmarls(name)

    def transition(scripted, carry, key):
        act_key, env_key, reset_key = jax.random.split(key, 3)
        env_state, step = carry
        action = RECORD.choose(act_key, step.avail_actions, scripted)
        after, seen, outcome = env.step(env_key, env_state, action)
        told = {
            **RECORD.describe(env_state),
            **{f"end_{field}": value for field, value in RECORD.describe(after).items()},
            **seen._asdict(),
            **outcome._asdict(),
        }
        fresh = env.reset(reset_key)
        carry = jax.tree.map(lambda new, old: jnp.where(outcome.last, new, old), fresh, (after, seen))
        return carry, {**told, "key": jax.random.key_data(env_key), "action": action}

    @jax.jit
    def play(key, scripted):
        carry = env.reset(key)
        return jax.lax.scan(lambda *given: transition(scripted, *given), carry, jax.random.split(key, LENGTH))[1]

    with jax.numpy_rank_promotion("allow"):
        played = [jax.device_get(play(jax.random.key(int(scripted)), scripted)) for scripted in (False, True)]
    return {field: np.concatenate([one[field] for one in played]) for field in played[0]}


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in sorted(JAXMARL_SCENARIOS)]
)
def test_same_state_in_same_state_out(name):
    """Positions to 1e-5 of the map's units, all else as close, in each of 400 transitions."""
    seen = watch(name)
    settings = make_smax(name).step.args[0]
    units, allies = len(settings.types), settings.rules.num_allies

    def transition(state, key, action):
        draws = PARITY.draws_of(key, settings.rules.ticks, units, units - allies)
        return environment.play(settings, draws, state, action)

    keys = jax.random.wrap_key_data(jnp.asarray(seen["key"]))
    found = jax.jit(jax.vmap(transition))(PARITY.start_of(seen), keys, jnp.asarray(seen["action"], jnp.int32))
    state, step, outcome = jax.device_get(found)
    expected = jax.device_get(PARITY.start_of(seen, "end_"))
    assert seen["reward"].any()
    assert seen["last"].any()
    for field in ("position", "health", "cooldown"):
        ours, theirs = getattr(state.battle, field), getattr(expected.battle, field)
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0, err_msg=field)
    np.testing.assert_allclose(state.mind.goal, expected.mind.goal, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(state.mind.last, expected.mind.last)
    np.testing.assert_array_equal(step.avail_actions, seen["avail_actions"])
    for field in ("obs", "state"):
        np.testing.assert_allclose(getattr(step, field), seen[field], atol=1e-5, rtol=0, err_msg=field)
    for field in ("reward", "discount", "last", "won"):
        np.testing.assert_allclose(getattr(outcome, field), seen[field], atol=1e-6, err_msg=field)


def pushed(position: np.ndarray, alive: np.ndarray, touching: np.ndarray) -> np.ndarray:
    """:func:`push_apart` pair by pair, in float64."""
    way = position[:, None, :].astype(np.float64) - position[:, :, None]
    distance = np.sqrt((way**2).sum(axis=0))
    pairs = alive[:, None] & alive[None, :] & (distance < touching) & ~np.eye(len(alive), dtype=bool)
    overlap = np.where(pairs, touching / (distance + 1e-6) - 1, 0)
    return position - (way * overlap[None, :, :]).sum(axis=2) / 2


@pytest.mark.parametrize("units", [6, 16, 57])
def test_overlaps_are_summed_pair_by_pair_but_for_rounding(units):
    rng = np.random.default_rng(units)
    stats = stats_of(numbers_of(list(rng.choice(["marine", "stalker", "zealot"], units))))
    touching = touching_distances(Rules(num_allies=units // 2), stats)
    count = 2000
    corners = rng.uniform(4, 28, (count, 2, 1))
    position = (corners + rng.uniform(-3, 3, (count, 2, units))).astype(np.float32)
    alive = rng.random((count, units)) < 0.8
    wanted = np.stack([pushed(*case, np.asarray(touching)) for case in zip(position, alive, strict=True)])
    assert (np.abs(wanted - position).max(axis=(1, 2)) > 0.1).mean() > 0.3
    ours = jax.vmap(push_apart, in_axes=(0, 0, None))(jnp.asarray(position), jnp.asarray(alive), jnp.asarray(touching))
    np.testing.assert_allclose(ours, wanted, atol=1e-5, rtol=0)
    with jax.enable_x64(True):
        exact = jax.vmap(push_apart, in_axes=(0, 0, None))(
            jnp.asarray(position, jnp.float64), jnp.asarray(alive), jnp.asarray(touching, jnp.float64)
        )
    np.testing.assert_allclose(exact, wanted, atol=1e-12, rtol=0)
