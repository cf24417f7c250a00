"""Walls: who is stopped by them, and how the enemy finds its way around."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmix_jax.envs.smax import drawing, make_smax, terrain
from qmix_jax.envs.smax.rules import Rules, Terrain
from qmix_jax.envs.smax.scenarios import JAXMARL_SCENARIOS, SCENARIOS
from qmix_jax.envs.smax.terrain import CHOKE, CLIFF
from qmix_jax.envs.smax.units import numbers_of, stats_of

WALL = Terrain(walls=((10.0, 10.0, 12.0, 20.0),), waypoints=((11.0, 8.0), (11.0, 22.0)))


def test_a_unit_in_a_wall_is_put_back_the_shortest_way():
    names = ["zergling"] * 5 + ["colossus", "medivac", "zergling"]
    place = np.float32([[9.8, 12.1, 11, 11, 9.6, 11, 11, 11], [15, 15, 9.9, 20.2, 15, 15, 15, 15]])
    alive = np.asarray([True] * 7 + [False])
    kept = terrain.keep_out(WALL, stats_of(numbers_of(names)), jnp.asarray(place), alive)
    expected = [[9.625, 12.375, 11, 11, 9.6, 11, 11, 11], [15, 15, 9.625, 20.375, 15, 15, 15, 15]]
    np.testing.assert_allclose(kept, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("start", "end", "margin", "expected"),
    [
        ((5, 15), (20, 15), 0.3, True),
        ((5, 15), (9, 15), 0.3, False),
        ((5, 15), (9.8, 15), 0.3, True),
        ((5, 9.8), (20, 9.8), 0.3, True),
        ((5, 9.6), (20, 9.6), 0.3, False),
        ((11, 5), (11, 9), 0.3, False),
        ((11, 25), (11, 5), 0.3, True),
        ((5, 15), (11, 5), 0.0, False),
        ((5, 15), (20, 15), -1.0, False),
    ],
)
def test_lines_that_cross_a_wall(start, end, margin, expected):
    place = (np.float32(point)[:, None] for point in (start, end))
    assert terrain.crosses(WALL, *place, jnp.asarray([margin]))[0] == expected


def test_crossing_agrees_with_many_points_on_the_line():
    rng = np.random.default_rng(0)
    start, end = rng.uniform(0, 32, (2, 2, 300)).astype(np.float32)
    margin = np.full(300, 0.4, np.float32)
    parts = np.linspace(0, 1, 2001, dtype=np.float32)[:, None, None]
    points = start[None] * (1 - parts) + end[None] * parts
    left, bottom, right, top = np.asarray(CLIFF.walls, np.float32).T[..., None, None]
    x, y = points[:, 0], points[:, 1]
    inside = (x > left - 0.4) & (x < right + 0.4) & (y > bottom - 0.4) & (y < top + 0.4)
    # Lines that only graze a corner are between two points.
    differs = inside.any(axis=(0, 1)) != np.asarray(terrain.crosses(CLIFF, start, end, margin))
    assert differs.sum() <= 1
    assert inside.any(axis=(0, 1)).sum() > 50


def walk(name, land, start, goal, steps=60):
    """Where a unit gets by walking like the enemy, a transition at a time."""
    stats, rules = stats_of(numbers_of([name])), Rules(num_allies=0, terrain=land)
    moves = np.float32([[0, 1, 0, -1], [1, 0, -1, 0]])

    def transition(place, _):
        move = terrain.heading(rules, stats, slice(None), place, jnp.float32(goal)[:, None] - place)
        step = jnp.asarray(moves)[:, move] * (stats.speed / 16)[None, :]

        def tick(_, place):
            return terrain.keep_out(land, stats, place + step, jnp.asarray([True]))

        place = jax.lax.fori_loop(0, 8, tick, place)
        return place, place[:, 0]

    return np.asarray(jax.jit(lambda place: jax.lax.scan(transition, place, None, length=steps)[1])(start))


@pytest.mark.parametrize(
    ("name", "land", "start", "goal"),
    [
        ("zergling", CHOKE, (24, 27), (9, 9)),
        ("zealot", CHOKE, (9, 7), (24, 24)),
        ("zergling", CLIFF, (16, 9), (16, 22)),
        ("zergling", CLIFF, (12, 14.6), (13, 20)),
        ("zergling", CLIFF, (29, 10), (20, 25)),
    ],
)
def test_a_unit_finds_its_way_and_never_stands_in_a_wall(name, land, start, goal):
    way = walk(name, land, jnp.float32(start)[:, None], goal)
    assert np.abs(way - np.float32(goal)).max(axis=1).min() < 2.1
    radius = float(stats_of(numbers_of([name])).radius[0])
    for left, bottom, right, top in land.walls:
        deep = np.minimum.reduce([way[:, 0] - left, right - way[:, 0], way[:, 1] - bottom, top - way[:, 1]]) + radius
        assert deep.max() < 1e-3


def test_a_colossus_walks_straight_over_the_cliff():
    way = walk("colossus", CLIFF, jnp.float32([[16], [20]]), (16, 10), steps=8)
    np.testing.assert_allclose(way[:, 0], 16, atol=1e-5)
    assert way[-1, 1] < 11


def test_only_maps_that_jaxmarl_lacks_have_walls():
    assert not any(scenario.terrain.walls for scenario in JAXMARL_SCENARIOS.values())
    assert {name for name, scenario in SCENARIOS.items() if scenario.terrain.walls} == {"corridor", "2c_vs_64zg"}
    assert make_smax("corridor", terrain=False).step.args[0].rules.terrain == Terrain()


@pytest.mark.parametrize("name", ["corridor", "2c_vs_64zg"])
def test_nobody_starts_in_a_wall(name):
    scenario = SCENARIOS[name]
    for place, spread in zip((scenario.allies_at, scenario.enemies_at), scenario.spread, strict=True):
        for left, bottom, right, top in scenario.terrain.walls:
            apart = max(left - place[0], place[0] - right, bottom - place[1], place[1] - top)
            assert apart > spread + 0.5


def test_walls_are_drawn():
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    env = make_smax("corridor")
    state = jax.device_get(env.reset(jax.random.key(0))[0])
    axes = Figure().add_axes((0, 0, 1, 1))
    drawing.draw(axes, env.step.args[0].rules, state, state, 0.0)
    drawn = [patch.get_bbox().extents for patch in axes.patches if isinstance(patch, Rectangle) and patch.get_fill()]
    np.testing.assert_allclose(drawn, np.clip(CHOKE.walls, 0, 32))
