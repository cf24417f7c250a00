"""Our SMAX plays as JaxMARL's did when ``record_jaxmarl.py`` watched it, with the same random numbers."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmix_jax.envs.smax import environment, make_smax
from qmix_jax.envs.smax.battle import Battle
from qmix_jax.envs.smax.enemy import Mind
from qmix_jax.envs.smax.environment import Draws, Settings, SmaxState

GOLDEN = Path(__file__).parents[2] / "golden" / "smax"
VARIED = {
    "attack_mode": "random",
    "observation_type": "conic",
    "see_enemy_actions": False,
    "walls_cause_death": False,
    "won_battle_bonus": 3.0,
    "max_steps": 30,
    "time_limit": "bootstrap",
    "world_steps_per_env_step": 4,
}
SETTINGS = {
    "varied": {"scenario": "3s5z_vs_3s6z", **VARIED},
    "peaceful": {"scenario": "5m_vs_6m", "enemy_shoots": False, "see_enemy_actions": False},
}
CASES = sorted(path.stem for path in GOLDEN.glob("*.npz"))
QUICK = {"3m", "varied", "5m_vs_6m", "smacv2_5_units"}


def draws_of(key: jax.Array, ticks: int, units: int, enemies: int) -> Draws:
    """The random numbers that JaxMARL draws with this key."""
    key, enemy_key = jax.random.split(key)
    walk_key, attack_key = jnp.moveaxis(jax.vmap(jax.random.split)(jax.random.split(enemy_key, enemies)), 1, 0)
    uniform = jax.vmap(jax.random.uniform)

    def tick(key: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        key, tick_key = jax.random.split(key)
        return key, uniform(jax.random.split(tick_key, units))

    _, cooldown = jax.lax.scan(tick, key, None, length=ticks)
    return Draws(cooldown=cooldown, enemy=jnp.stack([uniform(walk_key), uniform(attack_key)]))


def start_of(case: dict[str, np.ndarray], prefix: str = "") -> SmaxState:
    """Our state [W] where a stretch starts, or ends."""
    given = {name: jnp.asarray(case[prefix + name]) for name in ("position", "health", "cooldown", "goal", "chosen")}
    shape = given["health"].shape
    return SmaxState(
        battle=Battle(
            position=jnp.swapaxes(given["position"], -1, -2),
            health=given["health"],
            cooldown=given["cooldown"],
            energy=jnp.zeros(shape),
            patient=jnp.full(shape, -1, jnp.int32),
        ),
        types=jnp.asarray(case[prefix + "types"], jnp.int32),
        last_action=jnp.asarray(case[prefix + "last_action"], jnp.int32),
        mind=Mind(goal=jnp.swapaxes(given["goal"], -1, -2), last=given["chosen"].astype(jnp.int32)),
        played=jnp.asarray(case[prefix + "played"], jnp.int32),
    )


def project(values: np.ndarray) -> np.ndarray:
    vectors = np.random.default_rng(values.shape[-1]).uniform(-1, 1, (values.shape[-1], 4))
    return values @ vectors.astype(np.float32)


@functools.cache
def stretch(name: str):
    """Plays stretches with JaxMARL's random numbers."""
    settings: Settings = make_smax(**SETTINGS.get(name, {"scenario": name})).step.args[0]
    units, ticks = len(settings.types), settings.rules.ticks

    def play(state: SmaxState, keys: jax.Array, actions: jax.Array):
        draws = jax.vmap(lambda key: draws_of(key, ticks, units, units - settings.rules.num_allies))(keys)

        def transition(state, random):
            state, _, outcome = environment.play(settings, random[0], state, random[1])
            return state, outcome

        state, outcomes = jax.lax.scan(transition, state, (draws, actions))
        return state, environment.see(settings, state), outcomes

    return jax.jit(jax.vmap(play))


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CASES])
def test_it_plays_as_jaxmarl_does(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        case = dict(file)
    keys = jax.random.wrap_key_data(jnp.asarray(case["key"]))
    state, step, outcomes = jax.device_get(stretch(name)(start_of(case), keys, jnp.asarray(case["action"], jnp.int32)))
    expected = jax.device_get(start_of(case, "end_"))
    alive = expected.battle.health > 0
    assert not alive.all()
    np.testing.assert_array_equal(state.battle.health, expected.battle.health)
    for field in ("position", "cooldown"):
        np.testing.assert_allclose(getattr(state.battle, field), getattr(expected.battle, field), atol=1e-5)
    np.testing.assert_array_equal(state.types, expected.types)
    np.testing.assert_array_equal(state.mind.last, expected.mind.last)
    np.testing.assert_allclose(state.mind.goal, expected.mind.goal, atol=1e-5)
    np.testing.assert_array_equal(step.avail_actions, case["avail"])
    for field in ("obs", "state"):
        # Of products with hundreds of features, each within 1e-5.
        np.testing.assert_allclose(project(getattr(step, field)), case[field], atol=1e-4, err_msg=field)
    for field in ("reward", "discount", "last", "won"):
        np.testing.assert_allclose(getattr(outcomes, field), case[field], atol=1e-6, err_msg=field)
    assert case["reward"].any()


def test_every_scenario_of_jaxmarl_was_recorded():
    from qmix_jax.envs.smax.scenarios import JAXMARL_SCENARIOS

    assert {*JAXMARL_SCENARIOS, *SETTINGS} == set(CASES)
