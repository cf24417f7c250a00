"""``env.physics=smac``: every rule with numbers worked out by hand."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmix_jax.envs.smax import drawing, enemy, environment, make_smax, observations
from qmix_jax.envs.smax.battle import simulate
from qmix_jax.envs.smax.rules import DIRECTIONS, MOVES, NOBODY, STOP, TICK, Battle, Orders, Rules
from qmix_jax.envs.smax.units import NUMBERS, SMAC_TABLE, numbers_of, stats_of
from qmix_jax.errors import ConfigError

ALLIES, UNITS, TICKS = 4, 8, 8
RULES = Rules(
    num_allies=ALLIES,
    walls_cause_death=False,
    heals=True,
    flies=True,
    beams=True,
    blasts=True,
    smac=True,
    shields=True,
    regenerates=True,
    strikes=2,
)
REGAINED = 0.38 * TICK
"""Health that a zerg unit regains in a tick."""


@functools.cache
def compiled():
    def program(types, battle, orders, noise):
        return simulate(RULES, stats_of(types, SMAC_TABLE), battle, orders, noise)

    return jax.jit(program)


def fight(units: dict, targets: dict | None = None, move: dict | None = None, **state) -> Battle:
    """What becomes of ``units``, {number: (type, x, y)}, in one transition; ``state`` sets fields, {number: value}."""
    types, position = np.zeros(UNITS, np.int32), np.ones((2, UNITS), np.float32)
    values = {name: np.zeros(UNITS, np.float32) for name in ("health", "cooldown", "energy", "shield", "shield_wait")}
    for number, (name, x, y) in units.items():
        types[number], position[:, number] = NUMBERS[name], (x, y)
        values["health"][number] = SMAC_TABLE.health[NUMBERS[name]]
        values["shield"][number] = SMAC_TABLE.shield[NUMBERS[name]]
    for name, given in state.items():
        for number, value in given.items():
            values[name][number] = value
    target, direction = np.full(UNITS, NOBODY, np.int32), np.full(UNITS, STOP)
    for number, other in (targets or {}).items():
        target[number] = other
    for number, way in (move or {}).items():
        direction[number] = way
    battle = Battle(position=position, patient=np.full(UNITS, NOBODY, np.int32), **values)
    orders = Orders(DIRECTIONS[:, direction], target)
    return jax.device_get(compiled()(types, battle, orders, np.zeros((TICKS, UNITS), np.float32)))


@pytest.mark.parametrize(
    ("attacker", "target", "shield", "left"),
    [
        ("marine", "marine", None, 45 - 6),
        ("marine", "marauder", None, 125 - (6 - 1)),  # armor 1
        ("marauder", "marine", None, 45 - 10),
        ("marauder", "marauder", None, 125 - (10 + 10 - 1)),  # 10 more to armored units
        ("zealot", "marauder", None, 125 - 2 * (8 - 1)),  # armor is taken off both strikes
        ("stalker", "zealot", (50, 50 - 13), 100),  # a shield has no armor
        ("marauder", "stalker", (80, 80 - 20), 80),
        ("marauder", "stalker", (5, 0), 80 - (20 - 5 - 1)),  # drained, and armor off the rest
        ("zealot", "stalker", (10, 0), 80 - (8 - 2 - 1)),  # one strike and a quarter for the shield
        ("zealot", "stalker", (0, 0), 80 - 2 * (8 - 1)),
        ("zealot", "stalker", (16, 0), 80),  # armor takes nothing off a strike that is used up
        ("colossus", "marine", None, 45 - 2 * (10 + 5)),  # 5 more to light units
        ("spine_crawler", "colossus", (0, 0), 200 - (25 + 5 - 1)),
        ("stalker", "medivac", None, 150 - (13 + 5 - 1)),
    ],
)
def test_damage(attacker, target, shield, left):
    changes = {} if shield is None else {"shield": {4: shield[0]}}
    # Nearer than any weapon reaches, and not overlapping.
    apart = SMAC_TABLE.radius[NUMBERS[attacker]] + SMAC_TABLE.radius[NUMBERS[target]] + 0.05
    after = fight({0: (attacker, 10, 10), 4: (target, 10 + apart, 10)}, {0: 4}, **changes)
    assert after.health[4] == left
    assert after.shield[4] == (0 if shield is None else shield[1])


def test_the_strikes_of_a_tick_drain_a_shield_one_after_the_other():
    units = {0: ("marine", 10, 10), 1: ("marine", 10, 11), 2: ("marine", 10, 12), 4: ("stalker", 14, 11)}
    after = fight(units, {0: 4, 1: 4, 2: 4}, shield={4: 8})
    # 6 absorbed; 2 absorbed and 4 - 1 through; 6 - 1 through.
    assert (after.shield[4], after.health[4]) == (0, 80 - 3 - 5)


def test_a_shield_waits_10_seconds_after_a_hit_and_then_gains_2_a_second():
    units = {0: ("marine", 10, 10), 4: ("zealot", 14, 10), 5: ("stalker", 25, 25), 6: ("stalker", 28, 25)}
    after = fight(units, {0: 4}, shield={5: 20, 6: 79.9}, shield_wait={5: 4 * TICK})
    assert (after.shield[4], after.health[4]) == (50 - 6, 100)
    assert after.shield_wait[4] == 10 - 7 * TICK
    # Full ticks of waiting: 3. Ticks of recovery: 5.
    assert after.shield[5] == 20 + 5 * TICK * 2
    assert after.shield[6] == 80


def test_zerg_units_regain_health_and_others_do_not():
    units = {0: ("marine", 10, 10), 4: ("zergling", 25, 25), 5: ("hydralisk", 25, 28), 6: ("zergling", 28, 25)}
    after = fight(units, health={0: 20, 4: 20, 5: 80, 6: 0})
    np.testing.assert_allclose(after.health[[0, 4, 5, 6]], [20, 20 + 8 * REGAINED, 80, 0], atol=1e-5)


@pytest.mark.parametrize(("x", "health"), [(15.7, 39), (15.9, 39), (18, 45)])
def test_the_range_is_from_edge_to_edge(x, health):
    """5 + 2 * 0.375; and who is out of range closes in: in 8 ticks by 1.575 at most."""
    after = fight({0: ("marine", 10, 10), 4: ("marine", x, 10)}, {0: 4})
    assert after.health[4] == health


def test_an_attacker_closes_in_until_its_target_is_in_range():
    after = fight({0: ("marine", 10, 10), 4: ("spine_crawler", 16.5, 10)}, {0: 4})
    # In range at 5 + 0.375 + 0.5, which takes 4 ticks of 3.15 / 16: it fires in the fifth.
    np.testing.assert_allclose(after.position[:, 0], [10 + 4 * 3.15 / 16, 10], atol=1e-5)
    assert after.cooldown[0] == pytest.approx(0.61 - 3 * TICK)
    assert after.health[4] == pytest.approx(300 - (6 - 2) + 4 * REGAINED)


def test_an_attacker_closes_in_on_a_slant_and_not_on_the_dead_or_a_plane_it_cannot_hit():
    after = fight({0: ("zealot", 10, 10), 4: ("marine", 13, 14)}, {0: 4})
    np.testing.assert_allclose(after.position[:, 0], [10 + 0.6 * 3.15 / 2, 10 + 0.8 * 3.15 / 2], atol=1e-4)
    after = fight({0: ("zealot", 10, 10), 4: ("marine", 13, 14)}, {0: 4}, health={4: 0})
    np.testing.assert_array_equal(after.position[:, 0], [10, 10])
    after = fight({0: ("zealot", 10, 10), 4: ("medivac", 13, 14)}, {0: 4})
    np.testing.assert_array_equal(after.position[:, 0], [10, 10])


def test_a_medivac_follows_its_patient_and_heals_no_shield():
    units = {0: ("medivac", 10, 10), 1: ("marine", 17, 10), 2: ("zealot", 10, 13)}
    after = fight(units, {0: 1}, health={1: 20}, energy={0: 50})
    np.testing.assert_allclose(after.position[:, 0], [10 + 3.5 / 2, 10], atol=1e-5)
    after = fight(units, {0: 2}, health={2: 50}, shield={2: 10}, shield_wait={2: 9}, energy={0: 50})
    assert (after.health[2], after.shield[2]) == (54.5, 10)


def test_a_baneling_bursts_at_an_edge_and_armor_counts():
    """Light ones take 15 more. The zealot: 10 of 35 for the shield, armor 1. The marine touches the blast."""
    units = {0: ("zealot", 11.1, 10), 1: ("marine", 10, 12.5), 2: ("marine", 10, 7.3), 4: ("baneling", 10, 10)}
    units[3] = ("marauder", 8, 10)
    after = fight(units, {4: 0}, shield={0: 10})
    np.testing.assert_array_equal(after.health[:5], [100 - 24, 45 - 35, 45, 125 - 19, 0])
    assert after.shield[0] == 0


def test_the_edge_of_the_map_does_not_kill():
    after = fight({0: ("marine", 0.5, 10)}, move={0: 3})
    np.testing.assert_array_equal(after.position[:, 0], [0, 10])
    assert after.health[0] == 45
    assert not make_smax("3m", physics="smac").step.args[0].rules.walls_cause_death


LIMITS = {"3m": 60, "8m": 120, "25m": 150, "5m_vs_6m": 70, "8m_vs_9m": 120, "10m_vs_11m": 150, "27m_vs_30m": 180}
LIMITS |= {"2s3z": 120, "3s5z": 150, "3s5z_vs_3s6z": 170, "3s_vs_5z": 250, "6h_vs_8z": 150, "MMM2": 180}


@pytest.mark.parametrize(("name", "limit"), LIMITS.items())
def test_limits_are_smacs(name, limit):
    """SMAC's map table; it counts a transition before it compares."""
    env = make_smax(name, physics="smac")
    assert (env.name, env.episode_limit) == (f"smax-{name}-smac", limit)
    assert make_smax(name, physics="smac", max_steps=7).episode_limit == 7


def outcome(allies: dict, enemies: dict, before: list, after: list, played: int = 0, shields: tuple = (None, None)):
    env = make_smax(allies=allies, enemies=enemies, physics="smac")
    settings = env.step.args[0]
    battles = [
        Battle(np.zeros((2, len(health))), jnp.asarray(health, jnp.float32), None, None, None, shield)
        for health, shield in zip((before, after), shields, strict=True)
    ]
    stats = environment._stats(settings, None)
    return environment._outcome(settings, stats, *battles, jnp.asarray(played))


@pytest.mark.parametrize(
    ("before", "after", "points", "won"),
    [
        ([45] * 4, [45, 45, 45, 36], 9, False),
        ([45] * 4, [45, 0, 0, 36], 45 + 10 + 9, False),
        ([45, 45, 0, 20], [45, 45, 0, 0], 20 + 10 + 200, True),
        ([45] * 4, [45, 45, 0, 0], 90 + 20 + 200, True),  # all there is: 20
        ([45] * 4, [0, 0, 0, 0], 90 + 20, False),
        ([45, 45, 30, 30], [45, 45, 40, 36], 0, False),  # healed
        ([45, 45, 30, 30], [45, 45, 40, 0], 30 - 10 + 10, False),
    ],
)
def test_the_reward_is_smacs(before, after, points, won):
    found = outcome({"marine": 2}, {"marine": 2}, before, after)
    assert found.reward == pytest.approx(points * 20 / (2 * 45 + 2 * 10 + 200), abs=1e-5)
    assert found.won == won
    assert found.last == (after[0] == 0 or won)


def test_shields_count_as_health_in_the_reward():
    shields = tuple(jnp.asarray([80.0, shield]) for shield in (50, 30))
    found = outcome({"stalker": 1}, {"zealot": 1}, [80, 100], [80, 90], shields=shields)
    assert found.reward == pytest.approx((20 + 10) * 20 / (150 + 10 + 200), abs=1e-5)
    assert make_smax(allies={"stalker": 1}, enemies={"zealot": 1}, physics="smac").max_return is None
    assert make_smax("3m", physics="smac").max_return == 20


@pytest.mark.parametrize(
    ("health", "played", "expected"),
    [
        ([150, 45, 150, 45], 59, (1, False, False)),
        ([150, 45, 150, 45], 100, (0, True, False)),
        ([150, 0, 150, 45], 1, (0, True, False)),
        ([150, 45, 150, 0], 1, (0, True, True)),
        ([150, 0, 150, 0], 1, (0, True, False)),
    ],
)
def test_a_side_of_nothing_but_medivacs_has_lost(health, played, expected):
    teams = {"medivac": 1, "marine": 1}
    found = outcome(teams, teams, [150, 45, 150, 45], health, played)
    assert (found.discount, found.last, found.won) == expected


def of(names: list, allies: int, x: list) -> tuple:
    stats, units = stats_of(numbers_of(names), SMAC_TABLE), len(names)
    position = np.stack([np.float32(x), np.full(units, 10, np.float32)])
    rules = Rules(num_allies=allies, smac=True, shields=True, strikes=2)
    zeros = np.zeros(units, np.float32)
    battle = Battle(position, stats.health, zeros, zeros, np.full(units, NOBODY), stats.shield * 0.5, zeros)
    return rules, stats, battle


def test_agents_name_whom_they_have_within_6_whatever_their_weapon():
    rules, stats, battle = of(["zealot", "colossus", "marine", "marine", "marine"], 2, [10, 11, 15.9, 16.1, 17.1])
    avail = np.asarray(observations.available(rules, stats, battle))
    np.testing.assert_array_equal(avail[:, MOVES:], [[True, False, False], [True, True, False]])


@pytest.mark.parametrize(
    ("name", "x", "shoots"), [("zealot", 15.9, True), ("zealot", 16.1, False), ("spine_crawler", 17.7, True)]
)
def test_the_enemy_names_whom_it_can_hit_and_whom_it_has_within_6(name, x, shoots):
    rules, stats, battle = of(["marine", name], 1, [10, x])
    draws = jnp.zeros((2, 1))
    action, _ = enemy.decide(rules, stats, battle, enemy.first_mind(1), draws, True, False)
    assert (action[0] == MOVES) == shoots


def test_shields_are_seen():
    rules, stats, battle = of(["stalker", "marine", "zealot"], 2, [10, 11, 14])
    one_hot = np.eye(3, dtype=np.float32)
    own = observations.own_features(rules, stats, battle, one_hot)
    np.testing.assert_allclose(own[:, 4], [0.5, 0, 0.5])
    last = np.full(3, STOP)
    told = observations.unit_features(rules, stats, battle, one_hot, np.zeros((2, 3), np.float32), last, True)
    np.testing.assert_allclose(told[:, 5], [0.5, 0, 0.5])
    np.testing.assert_array_equal(told[:, 6:], one_hot)
    state = observations.global_state(rules, stats, battle, np.asarray([0, 1, 2]), own)
    np.testing.assert_allclose(state[-3:], [0, 0.5, 1])
    assert make_smax("3s_vs_3z", physics="smac").obs_size == make_smax("3s_vs_3z").obs_size + 6


def test_shields_are_drawn():
    from matplotlib.figure import Figure

    env = make_smax(allies={"stalker": 1}, enemies={"zealot": 1, "zergling": 1}, physics="smac")
    state = jax.device_get(env.reset(jax.random.key(0))[0])
    battle = state.battle._replace(shield=np.float32([40, 0, 0]))
    after = state._replace(battle=battle._replace(shield=np.float32([20, 0, 0])))
    axes = Figure().add_axes((0, 0, 1, 1))
    drawing.draw(axes, env.step.args[0].rules, state._replace(battle=battle), after, 0.5)
    bars = [line for line in axes.lines if line.get_color() == drawing.SHIELD_COLOUR]
    assert len(bars) == 1
    # 30 of 80, over the stalker's width of 1.25.
    assert np.ptp(bars[0].get_xdata()) == pytest.approx(1.25 * 30 / 80, abs=1e-5)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"physics": "smack"}, "env.physics=smack: unknown; did you mean 'smac'?"),
        ({"physics": "smac", "won_battle_bonus": 3.0}, "env.won_battle_bonus=3.0: must be 1.0 with env.physics=smac"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(wrong, words):
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        make_smax("3m", **wrong)
    assert "\n" not in str(caught.value)
