"""Jumanji's games as they are adapted: what agents see, what ends an episode, what is won."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmix_jax.envs.base import Env, Episode
from qmix_jax.envs.build import make_env
from qmix_jax.errors import ConfigError

TARGET = "qmix_jax.envs.jumanji.environment.make_jumanji"
SMALL = {
    "LevelBasedForaging-v0": {"grid_size": 5, "num_food": 1},
    "RobotWarehouse-v0": {"shelf_rows": 1, "num_agents": 2, "column_height": 2, "request_queue_size": 2},
    "Connector-v3": {"grid_size": 5, "num_agents": 3},
    "Cleaner-v0": {"num_rows": 5, "num_cols": 5, "num_agents": 2},
}


@functools.cache
def game(id: str, **settings) -> Env:
    env = make_env({"_target_": TARGET, "id": id, **SMALL[id], **settings})
    return env._replace(reset=jax.jit(env.reset), step=jax.jit(env.step))


def first_actions(step) -> jax.Array:
    return step.avail_actions.argmax(axis=-1).astype(jnp.int32)


@pytest.mark.parametrize("id", SMALL)
def test_every_game_has_the_sizes_that_it_declares_and_a_time_limit_that_is_no_end(id):
    for time_limit, discount in (("bootstrap", 1.0), ("terminal", 0.0)):
        env = game(id, time_limit=time_limit, episode_limit=7)
        assert env.episode_limit == 7
        state, step = env.reset(jax.random.key(0))
        state, step, outcome = env.step(jax.random.key(1), state, first_actions(step))
        assert step.obs.shape == (env.num_agents, env.obs_size)
        assert step.avail_actions.shape == (env.num_agents, env.num_actions)
        assert step.state.shape == (env.state_size,)
        assert (bool(outcome.last), float(outcome.discount)) == (False, 1.0)
        _, _, outcome = env.step(jax.random.key(2), state.replace(step_count=jnp.int32(6)), first_actions(step))
        assert (bool(outcome.last), float(outcome.discount), bool(outcome.won)) == (True, discount, False)


def test_all_food_eaten_is_an_end_and_a_win():
    env = game("LevelBasedForaging-v0")
    state, step = env.reset(jax.random.key(0))
    eaten = state.replace(food_items=state.food_items.replace(eaten=jnp.ones(1, bool)))
    _, _, outcome = env.step(jax.random.key(1), eaten, first_actions(step))
    assert (bool(outcome.last), float(outcome.discount), bool(outcome.won)) == (True, 0.0, True)


def test_the_team_of_foragers_is_paid_the_share_of_the_food_that_they_eat_together():
    """Both stand beside the only food and load it: the reward of all food is 1, split between them."""
    env = game("LevelBasedForaging-v0")
    state, _ = env.reset(jax.random.key(0))
    row, column = state.food_items.position[0]
    beside = jnp.array([[row - 1, column], [row + 1, column]])
    state = state.replace(agents=state.agents.replace(position=beside))
    _, _, outcome = env.step(jax.random.key(1), state, jnp.array([5, 5]))
    np.testing.assert_allclose(outcome.reward, 1.0, rtol=1e-6)
    assert outcome.won


def test_the_planes_of_connector_are_those_of_a_slow_count():
    env = game("Connector-v3")
    state, step = env.reset(jax.random.key(3))
    for time in range(3):
        state, step, _ = env.step(jax.random.key(time), state, first_actions(step))
    board = np.asarray(state.grid)
    planes = np.asarray(step.obs).reshape(3, 6, 5, 5)
    expected = np.zeros_like(planes)
    for row, column in np.argwhere(board > 0):
        what, owner = (board[row, column] - 1) % 3, (board[row, column] - 1) // 3
        for agent in range(3):
            expected[agent, what + 3 * (agent != owner), row, column] = 1
    np.testing.assert_array_equal(planes, expected)
    for agent, (row, column) in enumerate(np.asarray(state.agents.position)):
        assert planes[agent, 1, row, column] == 1, "its own head"
    np.testing.assert_array_equal(np.asarray(step.state).reshape(3, 5, 5), planes[0, :3] + planes[0, 3:])


def test_the_planes_of_cleaner_and_its_end():
    env = game("Cleaner-v0")
    state, step = env.reset(jax.random.key(0))
    state, step, outcome = env.step(jax.random.key(1), state, first_actions(step))
    planes = np.asarray(step.obs).reshape(2, 4, 5, 5)
    grid, places = np.asarray(state.grid), np.asarray(state.agents_locations)
    for agent in range(2):
        np.testing.assert_array_equal(planes[agent, :2], [grid == 0, grid == 2])
        assert planes[agent, 2].sum() == planes[agent, 2, *places[agent]] == 1
        assert planes[agent, 3].sum() == planes[agent, 3, *places[1 - agent]] == 1
    assert step.state.reshape(3, 5, 5)[2].sum() == 2
    clean = state.replace(grid=jnp.where(state.grid == 0, 1, state.grid).astype(state.grid.dtype))
    _, _, outcome = env.step(jax.random.key(1), clean, first_actions(step))
    assert (bool(outcome.last), float(outcome.discount), bool(outcome.won)) == (True, 0.0, True)


def test_random_numbers_come_from_the_key_of_the_step():
    """Rollouts use a start more than once; the game's own key would repeat all that follows."""
    env = game("RobotWarehouse-v0")
    state, step = env.reset(jax.random.key(0))
    keys = [env.step(jax.random.key(seed), state, first_actions(step))[0].key for seed in (1, 2)]
    assert not np.array_equal(*map(jax.random.key_data, keys))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"id": "Connector-v2"}, "env.id=Connector-v2: unknown; did you mean 'Connector-v3'"),
        ({"num_agent": 3}, "env.num_agent=3: unknown; did you mean 'env.num_agents'"),
        ({"num_agents": "two"}, "env.num_agents=two: must be a whole number"),
        ({"episode_limit": 0}, "env.episode_limit=0: must be at least 1"),
        ({"reward": "all"}, "env.reward=all: unknown"),
    ],
)
def test_wrong_settings_are_one_line(settings, words):
    with pytest.raises(ConfigError, match=words):
        make_env({"_target_": TARGET, **settings})


def test_a_package_that_is_missing_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "jumanji.environments.routing.lbf.env", None)
    with pytest.raises(ConfigError, match=r"env.id=LevelBasedForaging-v0: .*pip install 'qmix_jax\[jumanji\]'$"):
        make_env({"_target_": TARGET})


def test_an_episode_is_drawn(tmp_path):
    env = game("LevelBasedForaging-v0")
    state, step = env.reset(jax.random.key(0))
    after, _, outcome = env.step(jax.random.key(1), state, first_actions(step))
    path = tmp_path / "episode.gif"
    episode = Episode([state, after], [jax.random.key(1)], [first_actions(step)], [float(outcome.reward)])
    assert env.render is not None
    env.render(episode, path)
    assert path.read_bytes()[:3] == b"GIF"
