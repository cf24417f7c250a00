"""The simulation, with numbers worked out by hand. All of these battles run through one compiled program."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmix_jax.envs.smax import battle as simulation
from qmix_jax.envs.smax.battle import simulate
from qmix_jax.envs.smax.environment import COOLDOWN_NOISE
from qmix_jax.envs.smax.rules import DIRECTIONS, NOBODY, TICK, Battle, Orders, Rules
from qmix_jax.envs.smax.scenarios import find_scenario, rules_of
from qmix_jax.envs.smax.units import NUMBERS, TABLE, stats_of

ALLIES, UNITS, TICKS = 4, 8, 8
RULES = Rules(num_allies=ALLIES, ticks=TICKS, heals=True, flies=True, beams=True, blasts=True, stands=True)
NORTH, EAST, SOUTH, WEST, STOP = range(5)


@functools.cache
def compiled():
    return jax.jit(lambda types, battle, orders, noise: simulate(RULES, stats_of(types), battle, orders, noise))


def fight(units: dict, moves: dict | None = None, targets: dict | None = None, noise: float = 0.0, **state) -> Battle:
    """What becomes of ``units``, {number: (type, x, y)}, in one transition; ``noise`` is added to cooldowns.

    ``state`` sets health, cooldown, energy or patient of some of them, {number: value}. Others than these are dead.
    """
    types, position = np.zeros(UNITS, np.int32), np.ones((2, UNITS), np.float32)
    values = {name: np.zeros(UNITS, np.float32) for name in ("health", "cooldown", "energy")}
    values["patient"] = np.full(UNITS, NOBODY, np.int32)
    for number, (name, x, y) in units.items():
        types[number], position[:, number] = NUMBERS[name], (x, y)
        values["health"][number] = TABLE.health[NUMBERS[name]]
    for name, given in state.items():
        for number, value in given.items():
            values[name][number] = value
    move, target = np.full(UNITS, STOP), np.full(UNITS, NOBODY, np.int32)
    for number, direction in (moves or {}).items():
        move[number] = direction
    for number, other in (targets or {}).items():
        target[number] = other
    noise = np.full((TICKS, UNITS), noise, np.float32)
    battle = Battle(position=position, **values)
    return jax.device_get(compiled()(types, battle, Orders(DIRECTIONS[:, move], target), noise))


def test_a_unit_walks_at_its_speed():
    after = fight({0: ("marine", 10, 10), 4: ("zergling", 20, 20)}, {0: NORTH, 4: WEST})
    np.testing.assert_allclose(after.position[:, 0], [10, 10 + 3.15 / 2], atol=1e-5)
    np.testing.assert_allclose(after.position[:, 4], [20 - 4.13 / 2, 20], atol=1e-5)


def test_a_spine_crawler_stays():
    after = fight({0: ("marine", 4, 4), 4: ("spine_crawler", 20, 20)}, {4: WEST})
    np.testing.assert_array_equal(after.position[:, 4], [20, 20])


def test_the_fastest_attacker_attacks_once_in_eight_ticks():
    """So that a transition needs one random number for each unit."""
    after = fight({0: ("zergling", 10, 10), 4: ("zealot", 11, 10)}, targets={0: 4}, noise=COOLDOWN_NOISE[0])
    assert TABLE.cooldown[NUMBERS["zergling"]] == TABLE.cooldown.min()
    assert after.health[4] == 150 - 5
    assert after.cooldown[0] == pytest.approx(0, abs=1e-6)


def test_a_shot_takes_the_damage_and_starts_the_cooldown():
    after = fight({0: ("marine", 10, 10), 4: ("stalker", 14, 10)}, targets={0: 4})
    assert after.health[4] == 160 - 9
    # Fired in the first tick, seven ticks ago.
    assert after.cooldown[0] == pytest.approx(0.61 - 7 * TICK)
    assert after.health[0] == 45


@pytest.mark.parametrize(("x", "health"), [(14.99, 36), (15.01, 45)])
def test_the_range_is_from_centre_to_centre(x, health):
    assert fight({0: ("marine", 10, 10), 4: ("marine", x, 10)}, targets={0: 4}).health[4] == health


def test_a_cooldown_is_waited_for_and_stops_at_0():
    units = {0: ("marine", 10, 10), 1: ("marine", 10, 12), 4: ("stalker", 14, 11)}
    after = fight(units, targets={0: 4}, cooldown={0: 3.5 * TICK, 1: 2 * TICK})
    assert after.health[4] == 151
    # Fired in the fifth tick.
    assert after.cooldown[0] == pytest.approx(0.61 - 3 * TICK)
    assert after.cooldown[1] == 0


def test_all_shoot_at_once_so_both_can_die():
    after = fight({0: ("marine", 10, 10), 4: ("marine", 12, 10)}, targets={0: 4, 4: 0}, health={0: 9, 4: 9})
    assert (after.health[0], after.health[4]) == (0, 0)


def test_the_dead_do_nothing_and_stay():
    after = fight(
        {0: ("marine", 10, 10), 4: ("marine", 12, 10)}, {1: EAST}, targets={0: 4}, health={0: 0}, cooldown={0: 0}
    )
    assert after.health[4] == 45
    np.testing.assert_array_equal(after.position[:, 1], [1, 1])


def test_the_wall_kills():
    after = fight({0: ("marine", 0.1, 10), 4: ("marine", 20, 10)}, {0: WEST})
    assert after.health[0] == 0
    assert after.position[0, 0] == 0


def test_nobody_pushes_a_spine_crawler():
    """A marine walks against it from the west, and stays where it touches it."""
    after = fight({0: ("marine", 19.5, 20), 4: ("spine_crawler", 20, 20)}, {0: EAST})
    np.testing.assert_array_equal(after.position[:, 4], [20, 20])
    np.testing.assert_allclose(after.position[:, 0], [20 - 0.875, 20], atol=1e-3)
    assert rules_of(find_scenario("2s_vs_1sc"), smac=False).stands
    assert not rules_of(find_scenario("MMM2"), smac=True).stands


def test_units_that_overlap_are_pushed_apart():
    touching = np.full((2, 2), 1.0, np.float32)
    position = jnp.asarray([[10.0, 10.5], [10.0, 10.0]])
    pushed = simulation.push_apart(position, jnp.asarray([True, True]), touching)
    # Half of the distance times (1 / 0.5 - 1), both ways.
    np.testing.assert_allclose(pushed, [[9.75, 10.75], [10, 10]], atol=1e-4)
    pushed = simulation.push_apart(position, jnp.asarray([True, False]), touching)
    np.testing.assert_array_equal(pushed, position)


@pytest.mark.parametrize("units", [5, 30])
def test_a_crowd_is_pushed_apart_pair_by_pair(units):
    """The same by a loop in double precision, for few units and for many."""
    rng = np.random.default_rng(units)
    place, alive = rng.normal(16, 0.3 * units**0.5, (2, units)).astype(np.float32), rng.random(units) < 0.8
    radius = rng.uniform(0.3, 1, units).astype(np.float32)
    touching = np.where(np.eye(units, dtype=bool), 0, radius[:, None] + radius[None, :]).astype(np.float32)
    expected = place.astype(np.float64)
    for one, other in np.ndindex(units, units):
        away = place[:, one].astype(np.float64) - place[:, other]
        distance = np.hypot(*away)
        if one != other and alive[one] and alive[other] and distance < touching[one, other]:
            expected[:, one] += away / (distance + 1e-6) * (touching[one, other] - distance) / 2
    pushed = simulation.push_apart(jnp.asarray(place), jnp.asarray(alive), touching)
    np.testing.assert_allclose(pushed, expected, atol=1e-5)
    assert np.abs(expected - place).max() > 0.2


def test_a_medivac_heals_for_energy():
    units = {0: ("medivac", 10, 10), 1: ("marine", 12, 10), 4: ("marine", 25, 25)}
    after = fight(units, targets={0: 1}, health={1: 20}, energy={0: 50})
    assert after.health[1] == pytest.approx(20 + 9 / 2)
    assert after.energy[0] == pytest.approx(50 - 4.5 / 3 + 0.5625 / 2)
    assert after.patient[0] == 1


def test_a_medivac_gives_no_more_than_is_missing():
    units = {0: ("medivac", 10, 10), 1: ("marine", 12, 10), 4: ("marine", 25, 25)}
    after = fight(units, targets={0: 1}, health={1: 44}, energy={0: 50})
    assert after.health[1] == 45
    assert after.energy[0] == pytest.approx(50 - 1 / 3 + 0.5625 / 2, abs=1e-5)


def test_a_medivac_needs_energy_to_begin_but_goes_on_with_less():
    units = {0: ("medivac", 10, 10), 1: ("marine", 12, 10), 4: ("marine", 25, 25)}
    begin = fight(units, targets={0: 1}, health={1: 20}, energy={0: 4})
    assert (begin.health[1], begin.patient[0]) == (20, NOBODY)
    goes_on = fight(units, targets={0: 1}, health={1: 20}, energy={0: 4}, patient={0: 1})
    assert goes_on.health[1] == pytest.approx(24.5)


@pytest.mark.parametrize(("name", "x"), [("stalker", 12), ("medivac", 12), ("marine", 14.1)])
def test_what_is_not_healed(name, x):
    """What is no living being, what flies, and who is too far away."""
    units = {0: ("medivac", 10, 10), 1: (name, x, 10), 4: ("marine", 25, 25)}
    assert fight(units, targets={0: 1}, health={1: 20}, energy={0: 50}).health[1] == 20


def test_a_medivac_neither_heals_nor_hurts_the_enemy():
    units = {0: ("medivac", 10, 10), 4: ("marine", 12, 10)}
    assert fight(units, targets={0: 4}, health={4: 20}, energy={0: 50}).health[4] == 20


def test_who_dies_in_a_tick_is_not_healed():
    units = {0: ("medivac", 10, 10), 1: ("marine", 12, 10), 4: ("marine", 14, 10)}
    assert fight(units, targets={0: 1, 4: 1}, health={1: 9}, energy={0: 50}).health[1] == 0


@pytest.mark.parametrize(("name", "damage"), [("marine", 9), ("stalker", 13), ("zealot", 0), ("marauder", 0)])
def test_who_can_hit_a_plane(name, damage):
    after = fight({0: (name, 10, 10), 4: ("medivac", 11.5, 10)}, targets={0: 4})
    assert after.health[4] == 150 - damage


def test_planes_and_ground_units_pass_over_each_other():
    after = fight({0: ("marine", 10, 10), 4: ("medivac", 10.2, 10), 5: ("medivac", 20, 10), 6: ("medivac", 20.5, 10)})
    np.testing.assert_array_equal(after.position[:, [0, 4]], np.float32([[10, 10.2], [10, 10]]))
    assert after.position[0, 6] - after.position[0, 5] == pytest.approx(1.5, abs=1e-3)


def test_a_colossus_hits_what_stands_beside_its_target():
    """The beam goes 1.4 to both sides, and touches bodies (0.375) that far from it; it spares allies and planes."""
    units = {
        0: ("colossus", 10, 10),
        1: ("marine", 15, 11),
        4: ("zergling", 15, 10),
        5: ("zergling", 15, 11.7),
        6: ("zergling", 15, 8.2),
        7: ("zergling", 15.6, 10),
    }
    after = fight(units, targets={0: 4})
    np.testing.assert_array_equal(after.health[4:], [15, 15, 35, 35])
    assert after.health[1] == 45


def test_the_beam_turns_with_the_line_of_fire():
    units = {
        0: ("colossus", 10, 10),
        4: ("zergling", 10, 15),
        5: ("zergling", 11.2, 15),
        6: ("medivac", 9, 15),
        7: ("zergling", 10, 16.2),
    }
    np.testing.assert_array_equal(fight(units, targets={0: 4}).health[4:], [15, 15, 150, 35])


def test_a_baneling_dies_in_its_splash():
    """2.2 and the radius of whom it hits, 0.375, around itself, and only rivals on the ground."""
    units = {
        0: ("zealot", 11, 10),
        1: ("marine", 10, 12.5),
        2: ("marine", 10, 7.3),
        3: ("medivac", 10, 11.5),
        4: ("baneling", 10, 10),
        5: ("zergling", 8.9, 10),
    }
    after = fight(units, targets={4: 0})
    np.testing.assert_array_equal(after.health[:6], [150 - 35, 10, 45, 150, 0, 35])


def test_a_baneling_out_of_range_waits():
    after = fight({0: ("zealot", 14, 10), 4: ("baneling", 10, 10)}, targets={4: 0})
    assert (after.health[0], after.health[4]) == (150, 30)


def test_a_spine_crawler_hits():
    after = fight({0: ("stalker", 10, 10), 4: ("spine_crawler", 16.9, 10)}, targets={4: 0})
    assert after.health[0] == 135
