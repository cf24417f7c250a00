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


def last_bits_changed(state: SmaxState) -> SmaxState:
    """The same start but for the last bit of half of the coordinates."""
    position = np.asarray(state.battle.position)
    changed = np.random.default_rng(0).random(position.shape) < 0.5
    position = np.where(changed, np.nextafter(position, np.float32(np.inf)), position)
    return state._replace(battle=state.battle._replace(position=jnp.asarray(position)))


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CASES])
def test_it_plays_as_jaxmarl_does(name):
    """To 1e-5, or where the crowd amplifies rounding more than that: to 8 times what one bit of the start does."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        case = dict(file)
    start, actions = start_of(case), jnp.asarray(case["action"], jnp.int32)
    keys = jax.random.wrap_key_data(jnp.asarray(case["key"]))
    state, step, outcomes = jax.device_get(stretch(name)(start, keys, actions))
    beside = jax.device_get(stretch(name)(last_bits_changed(start), keys, actions)[0])
    expected = jax.device_get(start_of(case, "end_"))
    tolerance = 1e-5 + 8 * np.abs(state.battle.position - beside.battle.position).max(axis=(1, 2))
    same = tolerance < 1e-3
    assert same.mean() > 0.6
    assert case["reward"].any()
    assert not (expected.battle.health > 0).all()

    def close(ours: np.ndarray, theirs: np.ndarray, within: np.ndarray, what: str) -> None:
        difference = np.abs(ours.astype(np.float64) - theirs).reshape(len(ours), -1).max(axis=1)
        assert (difference <= within).all(), (what, difference.max())

    close(state.battle.position, expected.battle.position, tolerance, "position")
    close(state.mind.goal, expected.mind.goal, tolerance, "goal")
    for field in ("health", "cooldown"):
        ours, theirs = getattr(state.battle, field), getattr(expected.battle, field)
        np.testing.assert_allclose(ours[same], theirs[same], atol=1e-5, err_msg=field)
    np.testing.assert_array_equal(state.types, expected.types)
    np.testing.assert_array_equal(state.mind.last[same], expected.mind.last[same])
    np.testing.assert_array_equal(step.avail_actions[same], case["avail"][same])
    for field in ("obs", "state"):
        # Of products with hundreds of features.
        close(project(getattr(step, field)), case[field], np.where(same, 10 * tolerance, np.inf), field)
    for field in ("reward", "discount", "last", "won"):
        np.testing.assert_allclose(getattr(outcomes, field)[same], case[field][same], atol=1e-6, err_msg=field)


def test_every_scenario_of_jaxmarl_was_recorded():
    from qmix_jax.envs.smax.scenarios import JAXMARL_SCENARIOS

    assert {*JAXMARL_SCENARIOS, *SETTINGS} == set(CASES)
