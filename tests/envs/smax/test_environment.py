"""Scenarios, actions, rewards and drawings of our SMAX."""

import functools
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmix_jax.envs.base import Episode
from qmix_jax.envs.build import make_env
from qmix_jax.envs.contract import check_contract
from qmix_jax.envs.smax import chance, drawing, enemy, environment, make_smax, observations, slots
from qmix_jax.envs.smax.rules import MOVES, NOBODY, STOP, Battle, Rules
from qmix_jax.envs.smax.scenarios import JAXMARL_SCENARIOS, SCENARIOS, find_scenario
from qmix_jax.envs.smax.units import JAXMARL_TYPES, SMAC_TABLE, TABLE, UNIT_TYPES, numbers_of, stats_of
from qmix_jax.errors import ConfigError

TARGET = "qmix_jax.envs.smax.make_smax"
# A medivac, a baneling, a colossus and a spine crawler: every kind of rule in one small program.
MIXED = {"allies": {"medivac": 1, "marine": 2, "colossus": 1}, "enemies": {"baneling": 2, "spine_crawler": 1}}


def test_the_first_types_and_all_their_numbers_are_jaxmarls():
    from jaxmarl.environments.smax import SMAX

    theirs = SMAX()
    assert theirs.unit_type_names == [unit.name for unit in UNIT_TYPES[:JAXMARL_TYPES]]
    ours = {"health": "health", "damage": "attacks", "cooldown": "weapon_cooldowns", "reach": "attack_ranges"}
    ours |= {"speed": "velocities", "radius": "radiuses", "sight": "sight_ranges"}
    for field, name in ours.items():
        np.testing.assert_array_equal(getattr(TABLE, field)[:JAXMARL_TYPES], getattr(theirs, f"unit_type_{name}"))


def test_the_scenarios_that_jaxmarl_has_are_the_same():
    from jaxmarl.environments.smax.smax_env import MAP_NAME_TO_SCENARIO

    assert MAP_NAME_TO_SCENARIO.keys() == JAXMARL_SCENARIOS.keys()
    for name, theirs in MAP_NAME_TO_SCENARIO.items():
        ours = JAXMARL_SCENARIOS[name]
        assert (len(ours.allies), len(ours.enemies), ours.random) == (
            theirs.num_allies,
            theirs.num_enemies,
            theirs.smacv2_unit_type_generation,
        )
        np.testing.assert_array_equal(numbers_of(ours.allies + ours.enemies), theirs.unit_types)


@pytest.mark.parametrize(
    ("name", "allies", "enemies", "limit"),
    [("MMM2", 10, 12, 180), ("2c_vs_64zg", 2, 64, 400), ("bane_vs_bane", 24, 24, 200), ("1c3s5z", 9, 9, 180)],
)
def test_the_other_maps_have_smacs_numbers(name, allies, enemies, limit):
    scenario = SCENARIOS[name]
    assert (len(scenario.allies), len(scenario.enemies), scenario.max_steps) == (allies, enemies, limit)
    assert make_smax(name).episode_limit == limit + 1


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_can_be_traced_and_its_first_step_has_the_same_kinds(name):
    env = make_smax(name)
    state, step = jax.eval_shape(env.reset, jax.random.key(0))
    action = jax.ShapeDtypeStruct((env.num_agents,), jnp.int32)
    later_state, later, _ = jax.eval_shape(env.step, jax.random.key(0), state, action)
    kinds = [
        [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(tree)] for tree in (state, later_state)
    ]
    assert kinds[0] == kinds[1]
    assert later.obs.shape == step.obs.shape == (env.num_agents, env.obs_size)


def test_actions_name_enemies_in_order_and_allies_backwards():
    rules, stats = Rules(num_allies=2), stats_of(numbers_of(["marine"] * 5))
    np.testing.assert_array_equal(slots.targets(rules, stats, 0, jnp.asarray([5, 7])), [2, 4])
    np.testing.assert_array_equal(slots.targets(rules, stats, 1, jnp.asarray([5, 6, 2])), [1, 0, NOBODY])
    pairs = np.arange(25).reshape(5, 5)
    np.testing.assert_array_equal(slots.by_slot(rules, stats, 0, pairs)[0], [[2, 3, 4], [7, 8, 9]])
    np.testing.assert_array_equal(slots.by_slot(rules, stats, 1, pairs)[0], [[11, 10], [16, 15], [21, 20]])


def test_a_healers_actions_name_its_own_side():
    rules = Rules(num_allies=3, heals=True, flies=True)
    stats = stats_of(numbers_of(["medivac", "marine", "marine", "marine", "medivac"]))
    assert slots.num_slots(rules, stats, 0) == 3
    np.testing.assert_array_equal(slots.targets(rules, stats, 0, jnp.asarray([6, 6, 5])), [1, 4, 3])
    # The second enemy counts its side backwards: itself, then the first.
    np.testing.assert_array_equal(slots.targets(rules, stats, 1, jnp.asarray([6, 6])), [1, 3])
    pairs = np.arange(25).reshape(5, 5)
    np.testing.assert_array_equal(slots.by_slot(rules, stats, 0, pairs)[0], [[0, 1, 2], [8, 9, 0], [13, 14, 0]])
    np.testing.assert_array_equal(slots.by_slot(rules, stats, 1, pairs)[0], [[17, 16, 15], [24, 23, 0]])


def test_a_medivac_can_name_living_patients_in_range():
    rules = Rules(num_allies=4, heals=True, flies=True)
    types = numbers_of(["medivac", "marine", "marine", "medivac", "marine", "zealot"])
    stats = stats_of(types)
    position = np.float32([[10, 12, 18, 11, 13, 11], [10, 10, 10, 10, 10, 10]])
    battle = Battle(position, stats.health, np.zeros(6), np.full(6, 50.0), np.full(6, NOBODY))
    avail = np.asarray(observations.available(rules, stats, battle))
    assert avail[:, :MOVES].all()
    np.testing.assert_array_equal(avail[0, MOVES:], [False, True, False, False])
    # The marine sees both enemies in range, and has no fourth slot to use.
    np.testing.assert_array_equal(avail[1, MOVES:], [True, True, False, False])
    dead = battle._replace(health=stats.health * np.float32([1, 0, 1, 1, 1, 1]))
    avail = np.asarray(observations.available(rules, stats, dead))
    assert not avail[0, MOVES:].any()
    np.testing.assert_array_equal(np.flatnonzero(avail[1]), [STOP])


def decide(names, allies, positions, **changes):
    rules = Rules(num_allies=allies, heals="medivac" in names, flies="medivac" in names)
    stats, units = stats_of(numbers_of(names)), len(names)
    battle = Battle(np.float32(positions).T, stats.health, np.zeros(units), np.zeros(units), np.full(units, NOBODY))
    mind = enemy.first_mind(units - allies)
    health = changes.pop("health", {})
    for unit, value in health.items():
        battle = battle._replace(health=np.where(np.arange(units) == unit, np.float32(value), battle.health))
    last = changes.pop("last", None)
    mind = mind if last is None else mind._replace(last=jnp.asarray(last))
    draws = jnp.zeros((2, units - allies))
    return enemy.decide(rules, stats, battle, mind, draws, changes.get("shoot", True), False)


def test_the_enemy_shoots_the_closest_and_then_the_same_one():
    places = [[10, 10], [12, 10], [14, 10]]
    action, mind = decide(["marine"] * 3, 2, places)
    # Its first slot is the last ally.
    assert (action[0], mind.last[0]) == (MOVES, 0)
    action, mind = decide(["marine"] * 3, 2, places, last=[1])
    assert (action[0], mind.last[0]) == (MOVES + 1, 1)
    action, mind = decide(["marine"] * 3, 2, [[1, 10], [12, 10], [14, 10]], last=[1])
    assert (action[0], mind.last[0]) == (MOVES, 0)


def test_the_enemy_walks_to_whom_it_sees_else_across_the_map():
    action, mind = decide(["marine"] * 2, 1, [[14, 8], [14, 14.5]])
    assert (action[0], mind.last[0]) == (2, NOBODY)
    action, mind = decide(["marine"] * 2, 1, [[8, 16], [24, 15]])
    assert action[0] == 3
    np.testing.assert_array_equal(mind.goal[:, 0], [8, 17])
    assert decide(["marine"] * 2, 1, [[12, 14], [14, 14]], shoot=False)[0][0] == 3


def test_the_enemys_medivac_heals_who_is_hurt_and_follows_who_is_not():
    names, places = ["marine", "medivac", "marine"], [[2, 2], [20, 20], [23, 20]]
    action, _ = decide(names, 1, places, health={2: 30})
    assert action[0] == MOVES
    assert decide(names, 1, places)[0][0] == 1


@pytest.mark.parametrize("draw", [0.0, 0.3, 0.6, 0.999])
def test_a_slot_is_picked_among_the_masked_ones_only(draw):
    mask = jnp.asarray([[False, True, False, True, True]])
    assert mask[0, int(enemy.pick_slot(mask, jnp.asarray([draw]))[0])]


def test_all_slots_are_picked_alike():
    mask = jnp.tile(jnp.asarray([False, True, False, True, True])[None], (3000, 1))
    picked = np.bincount(enemy.pick_slot(mask, jax.random.uniform(jax.random.key(0), (3000,))), minlength=5)
    assert picked[[0, 2]].sum() == 0
    assert (np.abs(picked[[1, 3, 4]] - 1000) < 120).all()


def test_random_teams_are_alike_and_stand_on_the_map():
    keys = jax.random.split(jax.random.key(0), 256)
    types = np.asarray(jax.vmap(lambda key: chance.random_types(key, 10))(keys))
    np.testing.assert_array_equal(types[:, :5], types[:, 5:])
    assert set(np.unique(types)) == set(range(JAXMARL_TYPES))
    places = np.asarray(jax.vmap(lambda key: chance.positions(key, SCENARIOS["smacv2_5_units"]))(keys))
    assert places.min() >= -2
    assert places.max() <= 34
    mirrored = np.isclose(places[:, 0, :5], 32 - places[:, 0, 5:]).all(axis=1)
    middle = (np.abs(places - 16) <= 2).all(axis=1)
    inside, outside = middle[:, :5].all(axis=1) & ~mirrored, middle[:, 5:].all(axis=1) & ~mirrored
    assert (mirrored | inside | outside).all()
    np.testing.assert_allclose([mirrored.mean(), inside.mean(), outside.mean()], [0.5, 0.25, 0.25], atol=0.1)


BATTLES = {
    "mixed": {**MIXED, "max_steps": 20},
    "mixed in smac's physics": {
        "allies": {"medivac": 1, "stalker": 1, "colossus": 1, "marine": 1},
        "enemies": {"baneling": 1, "spine_crawler": 1, "zergling": 1, "zealot": 1},
        "max_steps": 20,
        "physics": "smac",
    },
    "2s_vs_1sc": {"scenario": "2s_vs_1sc", "max_steps": 20, "physics": "smac"},
    "MMM": {"scenario": "MMM", "max_steps": 20, "physics": "smac"},
    "corridor": {"scenario": "corridor", "max_steps": 20},
    "2c_vs_64zg": {"scenario": "2c_vs_64zg", "max_steps": 20, "physics": "smac"},
}


@functools.cache
def programs(name):
    env = make_smax(**BATTLES[name])
    return env, jax.jit(env.reset), jax.jit(env.step)


def slow_from_third(names):
    return [pytest.param(n, marks=pytest.mark.slow) if at > 1 else n for at, n in enumerate(names)]


@pytest.mark.parametrize("name", slow_from_third(BATTLES))
@given(st.integers(0, 2**31), st.lists(st.integers(0, 10**6), min_size=22, max_size=22))
@settings(max_examples=10)
def test_whatever_is_played_the_battle_stays_sane(name, seed, choices):
    env, reset, step = programs(name)
    rules = env.step.args[0].rules
    table, most = (SMAC_TABLE, 20) if rules.smac else (TABLE, 2)
    state, seen = reset(jax.random.key(seed))
    health, shield = (np.asarray(column)[np.asarray(state.types)] for column in (table.health, table.shield))
    for number, choice in enumerate(choices):
        assert seen.avail_actions.any(axis=1).all()
        # Any action at all, available or not.
        action = np.random.default_rng(choice).integers(0, env.num_actions, env.num_agents)
        before = state
        state, seen, outcome = jax.device_get(step(jax.random.key(choice), state, jnp.asarray(action, jnp.int32)))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state, seen, outcome)))
        assert ((state.battle.health >= 0) & (state.battle.health <= health)).all()
        assert ((state.battle.energy >= 0) & (state.battle.energy <= 200)).all()
        if rules.shields:
            assert ((state.battle.shield >= 0) & (state.battle.shield <= shield)).all()
            assert (state.battle.shield[state.battle.health == 0] == 0).all()
        dead = np.asarray(before.battle.health) == 0
        assert (state.battle.health[dead] == 0).all()
        np.testing.assert_array_equal(state.battle.position[:, dead], np.asarray(before.battle.position)[:, dead])
        assert 0 <= outcome.reward <= most + 1e-5
        assert not seen.avail_actions[dead[: env.num_agents], MOVES:].any()
        if number >= env.episode_limit - 1:
            assert outcome.last


CHECKED = [("2m_vs_1z", "smax"), ("2s_vs_1sc", "smac")]
CHECKED += [(name, physics) for name in SCENARIOS for physics in ("smax", "smac") if (name, physics) not in CHECKED]


@pytest.mark.parametrize(
    ("name", "physics"), [*CHECKED[:2], *(pytest.param(*c, marks=pytest.mark.slow) for c in CHECKED[2:])]
)
def test_the_contract_is_kept(name, physics):
    """Over a few transitions: long enough for fights where the sides begin near, short enough for every scenario."""
    env = make_smax(name, physics=physics, max_steps=6)
    twin = make_smax(name, physics=physics, max_steps=6)
    found = check_contract(env, twin, episodes=2, time_limit="terminal")
    assert [finding for finding in found if finding.result not in ("ok", "warning")] == []


def test_a_battle_is_drawn(tmp_path):
    from PIL import Image

    env, reset, step = programs("mixed")
    state, seen = reset(jax.random.key(0))
    states, actions, rewards = [state], [], []
    for number in range(3):
        actions.append(jnp.argmax(seen.avail_actions[:, ::-1], axis=1))
        state, seen, outcome = step(jax.random.key(number), state, env.num_actions - 1 - actions[-1])
        states.append(state)
        rewards.append(float(outcome.reward))
    env.render(Episode(states, [], actions, rewards), tmp_path / "episode.gif")
    with Image.open(tmp_path / "episode.gif") as picture:
        assert getattr(picture, "n_frames", 1) > 3
        assert picture.size == (600, 600)
    with pytest.raises(ConfigError, match=r"episode.jpg"):
        env.render(Episode(states, [], actions, rewards), tmp_path / "episode.jpg")


def battle_at(*places: tuple[float, float], health: float = 45.0) -> SimpleNamespace:
    position = np.array(places, np.float32).T
    return SimpleNamespace(battle=SimpleNamespace(position=position, health=np.full(len(places), health)))


def test_the_picture_shows_where_units_are():
    left, bottom, width = drawing.view_of(
        [battle_at((10.0, 16.0), (14.0, 16.0)), battle_at((10.0, 17.0), (22.0, 16.0))]
    )
    assert width == 12 + 2 * drawing.AROUND
    assert (left, bottom) == pytest.approx((10 - drawing.AROUND, 16.5 - width / 2))
    left, bottom, width = drawing.view_of([battle_at((0.0, 31.0), (1.0, 31.0))])
    assert (left, width) == pytest.approx((-drawing.MARGIN, drawing.LEAST_WIDTH))
    assert bottom + width == pytest.approx(32 + drawing.MARGIN)
    assert drawing.view_of([battle_at((0.0, 0.0), (32.0, 32.0))]) == pytest.approx(drawing.WHOLE_MAP)
    assert drawing.view_of([battle_at((3.0, 3.0), health=0.0)]) == drawing.WHOLE_MAP


def test_own_scenarios():
    env = make_smax(allies={"zealot": 2}, enemies={"zergling": 5}, physics="smac")
    assert (env.name, env.num_agents, env.num_actions, env.episode_limit) == ("smax-own-smac", 2, MOVES + 5, 100)
    env = make_env({"_target_": TARGET, "allies": {"marine": 5, "medivac": 1}, "enemies": {"marine": 7}})
    assert (env.name, env.num_agents, env.num_actions) == ("smax-own", 6, MOVES + 7)
    assert find_scenario("3m", {"marine": 2, "baneling": 1}, {"zealot": 1}).allies == ("marine", "marine", "baneling")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"scenario": "MMM3"}, "env.scenario=MMM3: unknown; did you mean 'MMM'?"),
        ({"allies": {"marin": 5}, "enemies": {"marine": 5}}, "env.allies=marin: unknown; did you mean 'marine'?"),
        ({"allies": {"marine": 5}}, "env.enemies=null: missing"),
        ({"enemies": {"marine": 5}}, "env.allies=null: missing"),
        ({"allies": {"marine": 5}, "enemies": {"zealot": -1}}, "env.enemies.zealot=-1: must be at least 0"),
        ({"allies": {"marine": 5}, "enemies": {"zealot": 1.5}}, "env.enemies.zealot=1.5: must be a whole number"),
        ({"allies": {"marine": 0}, "enemies": {"zealot": 1}}, "must have at least one unit"),
        ({"allies": 5, "enemies": {"zealot": 1}}, "env.allies=5: must be numbers of units by type"),
        ({"max_steps": 0}, "env.max_steps=0: must be at least 1"),
        ({"max_steps": "long"}, "env.max_steps=long: must be a whole number"),
        ({"attack_mode": "far"}, "env.attack_mode=far"),
        ({"observation_type": "cone"}, "did you mean 'conic'"),
        ({"scenaro": "3m"}, "env.scenaro=3m: unknown; did you mean 'env.scenario'"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(wrong, words):
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        make_env({"_target_": TARGET, **wrong})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("healths", "played", "expected"),
    [
        ([45, 45, 45, 45], 0, (0.0, 1.0, False, False)),
        ([45, 45, 0, 22.5], 0, (0.75, 1.0, False, False)),
        ([0, 9, 0, 0], 0, (2.0, 0.0, True, True)),
        ([0, 0, 0, 0], 0, (1.0, 0.0, True, False)),
        ([0, 0, 45, 45], 0, (0.0, 0.0, True, False)),
        ([45, 45, 45, 45], 101, (0.0, 0.0, True, False)),
        ([45, 45, 45, 45], 100, (0.0, 1.0, False, False)),
    ],
)
def test_rewards_and_ends(healths, played, expected):
    env = make_smax(allies={"marine": 2}, enemies={"marine": 2})
    stats = stats_of(numbers_of(["marine"] * 4))
    battles = [
        Battle(np.zeros((2, 4)), jnp.asarray(health, jnp.float32), None, None, None) for health in ([45] * 4, healths)
    ]
    outcome = environment._outcome(env.step.args[0], stats, *battles, jnp.asarray(played))
    np.testing.assert_allclose([outcome.reward, outcome.discount, outcome.last, outcome.won], expected, atol=1e-6)


@pytest.mark.parametrize(("ticks", "mode", "numbers"), [(8, "closest", 9), (8, "random", 12), (9, "closest", 57)])
def test_a_step_draws_no_more_random_numbers_than_it_uses(ticks, mode, numbers, monkeypatch):
    """One for each unit that can attack once, else one a tick; one or two for each enemy."""
    env = make_smax("3m", world_steps_per_env_step=ticks, attack_mode=mode)
    state, _ = jax.eval_shape(env.reset, jax.random.key(0))
    drawn = []
    uniform = chance.uniform
    monkeypatch.setattr(chance, "uniform", lambda key, count: drawn.append(count) or uniform(key, count))
    jax.eval_shape(env.step, jax.random.key(0), state, jnp.zeros(3, jnp.int32))
    assert drawn == [numbers]


def test_the_nearest_is_the_first_of_the_least_distances():
    rng = np.random.default_rng(0)
    distance = rng.integers(0, 6, (500, 9)).astype(np.float32) / 3
    mask = rng.random((500, 9)) < 0.5
    found = np.asarray(enemy._nearest(jnp.asarray(mask), jnp.asarray(distance)))
    wanted = np.argmin(np.where(mask, distance, np.inf), axis=1)
    np.testing.assert_array_equal(found[mask.any(axis=1)], wanted[mask.any(axis=1)])
    assert found.min() >= 0
    assert found.max() < 9
