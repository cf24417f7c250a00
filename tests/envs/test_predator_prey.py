"""Predator-prey: cases worked out by hand, a plain Python version for random grids, and drawing."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmix_jax.envs.base import Episode
from qmix_jax.envs.build import make_env
from qmix_jax.envs.predator_prey import drawing as pictures
from qmix_jax.envs.predator_prey import environment
from qmix_jax.envs.predator_prey.drawing import captures
from qmix_jax.envs.predator_prey.environment import PredatorPreyState
from qmix_jax.envs.predator_prey.hunt import CATCH, DOWN, GONE, LEFT, RIGHT, STAY, UP, Draws, Hunt
from qmix_jax.errors import ConfigError

TARGET = "qmix_jax.envs.predator_prey.make_predator_prey"
SMALL = {"size": 4, "num_agents": 3, "num_prey": 2, "sight": 1, "max_steps": 5, "penalty": -1.5}
MOVES = {RIGHT: (0, 1), DOWN: (1, 0), LEFT: (0, -1), UP: (-1, 0)}


def made(**changes):
    return make_env({"_target_": TARGET, **SMALL, **changes})


@functools.cache
def player(**changes):
    """The transition of a game with all randomness given, compiled; and its settings."""
    (settings,) = made(**changes).step.args
    return jax.jit(functools.partial(environment.play, settings)), settings


def cell(row: int, column: int, size: int = 4) -> int:
    return row * size + column


def play(agents, prey, action, *, move=None, rest=None, order=None, prey_order=None, played=0, **changes):
    """One transition from cells (row, column); the first agent and the first prey move first by default.

    Teams are filled up to three agents and two prey with such that have left.
    """
    shown = len(agents), len(prey)
    action = [*action, *[STAY] * (3 - len(agents))]
    agents, prey = [*agents, *[None] * (3 - len(agents))], [*prey, *[None] * (2 - len(prey))]
    step, settings = player(num_agents=len(agents), num_prey=len(prey), **changes)
    size = settings.rules.size
    hunt = Hunt(
        *(jnp.array([GONE if at is None else cell(*at, size) for at in who], jnp.int32) for who in (agents, prey))
    )

    def numbers(values, who):
        given = np.linspace(0, 0.9, len(who)) if values is None else [*values, *[0.99] * (len(who) - len(values))]
        return jnp.asarray(given, jnp.float32)

    draws = Draws(
        agents=numbers(order, agents),
        prey=numbers(prey_order, prey),
        move=numbers([0.0] * len(prey) if move is None else move, prey),
        rest=numbers([0.99] * len(prey) if rest is None else rest, prey),
    )
    state = PredatorPreyState(hunt=hunt, played=jnp.int32(played))
    state, step, outcome = step(draws, state, jnp.array(action, jnp.int32))

    def places(cells):
        return [None if at == GONE else divmod(int(at), size) for at in cells]

    return places(state.hunt.agents)[: shown[0]], places(state.hunt.prey)[: shown[1]], step, outcome


# Movement


def test_agents_move_in_the_four_directions_and_not_off_the_grid():
    agents, _, _, outcome = play([(1, 1), (2, 2), (0, 3)], [(3, 0), (3, 3)], [RIGHT, UP, RIGHT])
    assert agents == [(1, 2), (2, 2), (0, 3)]  # the first agent was quicker than the second
    assert outcome.reward == 0
    agents, _, _, _ = play([(1, 1), (2, 2), (0, 0)], [(3, 0), (3, 3)], [LEFT, DOWN, UP])
    assert agents == [(1, 0), (3, 2), (0, 0)]


@pytest.mark.parametrize(("order", "expected"), [([0, 1], [(0, 1), (0, 2)]), ([1, 0], [(0, 0), (0, 1)])])
def test_who_moves_first_gets_the_cell(order, expected):
    agents, _, _, _ = play([(0, 0), (0, 2)], [(3, 3)], [RIGHT, LEFT], order=order)
    assert agents == expected


@pytest.mark.parametrize(("order", "expected"), [([0, 1], [(0, 0), (0, 2)]), ([1, 0], [(0, 1), (0, 2)])])
def test_an_agent_can_follow_one_that_has_already_moved(order, expected):
    agents, _, _, _ = play([(0, 0), (0, 1)], [(3, 3)], [RIGHT, RIGHT], order=order)
    assert agents == expected


def test_agents_cannot_walk_into_prey_but_into_the_cells_of_those_who_left():
    agents, _, _, _ = play([(0, 0), (2, 0), None], [(0, 1), None], [RIGHT, UP, STAY])
    assert agents == [(0, 0), (1, 0), None]


@pytest.mark.parametrize(("draw", "expected"), [(0.0, (1, 2)), (0.3, (2, 1)), (0.6, (1, 0)), (0.99, (0, 1))])
def test_prey_moves_to_each_of_its_free_neighbours(draw, expected):
    """Right, down, left, up: a quarter of the draws each."""
    _, prey, _, _ = play([(3, 3)], [(1, 1)], [STAY], move=[draw])
    assert prey == [expected]


def test_prey_avoids_walls_agents_and_other_prey_and_stays_if_it_must():
    _, prey, _, _ = play([(0, 1)], [(0, 0)], [STAY], move=[0.99])
    assert prey == [(1, 0)]
    _, prey, _, outcome = play([(0, 1)], [(0, 0), (1, 0)], [STAY], move=[0.5, 0.0])
    assert prey == [(0, 0), (1, 1)]  # enclosed at its turn; the other one then goes to the right
    assert outcome.reward == 0


def test_prey_sees_where_agents_are_after_they_moved():
    _, prey, _, _ = play([(1, 3)], [(1, 1)], [LEFT], move=[0.0])
    assert prey == [(2, 1)]


@pytest.mark.parametrize(("draw", "expected"), [(0.2, (1, 1)), (0.4, (1, 2))])
def test_prey_rests_with_the_given_probability(draw, expected):
    assert play([(3, 3)], [(1, 1)], [STAY], rest=[draw], prey_rest=0.3)[1] == [expected]


# Captures and penalties


def test_two_that_catch_the_same_prey_capture_it_and_leave():
    agents, prey, step, outcome = play([(1, 0), (1, 2), (3, 3)], [(1, 1), (3, 0)], [CATCH, CATCH, STAY], move=[0, 0.99])
    assert agents == [None, None, (3, 3)]
    assert prey == [None, (2, 0)]
    assert tuple(outcome) == (10, 1, False, False)
    np.testing.assert_array_equal(step.avail_actions[:2], [[False] * 4 + [True, False]] * 2)
    assert not step.obs[:2].any()


def test_one_alone_pays_the_penalty_and_the_prey_moves_on():
    agents, prey, _, outcome = play([(1, 0), (1, 2)], [(1, 1)], [CATCH, STAY])
    assert (agents, prey) == ([(1, 0), (1, 2)], [(2, 1)])
    assert outcome.reward == -1.5


def test_one_alone_beside_two_prey_pays_twice():
    assert play([(1, 1)], [(1, 0), (1, 2)], [CATCH])[3].reward == -3


def test_three_can_capture_together_and_all_leave():
    agents, prey, _, outcome = play([(1, 0), (1, 2), (0, 1)], [(1, 1), (3, 3)], [CATCH] * 3)
    assert agents == [None] * 3
    assert prey[0] is None
    assert (outcome.reward, outcome.discount, outcome.last, outcome.won) == (10, 0, True, True)


@pytest.mark.parametrize(("prey_order", "reward", "left"), [([0, 1], 10, [None] * 2), ([1, 0], 8.5, [None] * 2)])
def test_those_who_left_pay_for_no_other_prey(prey_order, reward, left):
    """The second agent is beside both prey: alone with the second one, which costs nothing once it has left."""
    agents, _, _, outcome = play([(1, 0), (1, 2)], [(1, 1), (1, 3)], [CATCH, CATCH], prey_order=prey_order)
    assert (agents, outcome.reward) == (left, reward)


def test_with_captors_that_stay_each_prey_counts():
    agents, prey, _, outcome = play([(0, 1), (1, 0)], [(0, 0), (1, 1)], [CATCH, CATCH], capture_leaves=False)
    assert agents == [(0, 1), (1, 0)]
    assert prey == [None, None]
    assert tuple(outcome) == (20, 0, True, True)


def test_the_cells_of_captors_and_prey_are_free_for_the_next_prey():
    _, prey, _, _ = play([(0, 0), (1, 1), (3, 3)], [(0, 1), (0, 2)], [CATCH, CATCH, STAY], move=[0.0, 0.99])
    assert prey == [None, (0, 1)]  # right, down or left: (0, 3), (1, 2), (0, 1)


def test_three_can_be_asked_for():
    crowd = [(1, 0), (1, 2), (0, 1)]
    assert play(crowd, [(1, 1)], [CATCH, CATCH, STAY], capture_agents=3)[3].reward == -1.5
    assert play(crowd, [(1, 1)], [CATCH] * 3, capture_agents=3)[3].reward == 10


# What agents see, and ends


def test_available_actions():
    _, _, step, _ = play([(0, 0), (2, 2), None], [(0, 1), (3, 1)], [STAY] * 3, rest=[0.0, 0.0], prey_rest=1.0)
    expected = [[True, True, False, False, True, True], [True] * 5 + [False], [False] * 4 + [True, False]]
    np.testing.assert_array_equal(step.avail_actions, expected)


def test_observations_and_state():
    _, _, step, _ = play([(0, 0), (1, 1)], [(0, 1), (3, 2)], [STAY] * 2, rest=[0.0, 0.0], prey_rest=1.0)
    first, second, _ = np.asarray(step.obs).reshape(3, 3, 3, 2)
    np.testing.assert_array_equal(first[..., 0], [[0, 0, 0], [0, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(first[..., 1], [[0, 0, 0], [0, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(second[..., 0], [[1, 0, 0], [0, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(second[..., 1], [[0, 1, 0], [0, 0, 0], [0, 0, 0]])
    state = np.asarray(step.state).reshape(4, 4, 2)
    assert np.argwhere(state[..., 0]).tolist() == [[0, 0], [1, 1]]
    assert np.argwhere(state[..., 1]).tolist() == [[0, 1], [3, 2]]


@pytest.mark.parametrize(("time_limit", "discount"), [("bootstrap", 1), ("terminal", 0)])
def test_the_time_limit(time_limit, discount):
    args = [(0, 0), (3, 3)], [(2, 0), (0, 3)], [STAY, STAY]
    assert tuple(play(*args, played=3, time_limit=time_limit)[3])[1:] == (1, False, False)
    assert tuple(play(*args, played=4, time_limit=time_limit)[3])[1:] == (discount, True, False)


def test_won_is_as_many_prey_as_can_be_caught():
    """Five agents can catch two of three prey; the fifth agent then plays until the time limit."""
    agents, prey = [(0, 1), (1, 0), None, None, (3, 3)], [(0, 0), None, (3, 0)]
    outcome = play(agents, prey, [CATCH, CATCH, STAY, STAY, STAY])[3]
    assert (outcome.reward, outcome.last, outcome.won) == (10, False, False)
    outcome = play([None] * 4 + [(3, 3)], [None, None, (3, 0)], [STAY] * 5, played=4)[3]
    assert (outcome.last, outcome.won) == (True, True)
    outcome = play([None, None, (0, 0), (1, 1), (3, 3)], [None, (0, 3), (3, 0)], [STAY] * 5, played=4)[3]
    assert (outcome.last, outcome.won) == (True, False)


# Random grids


def by_the_book(settings, draws, agents, prey, action):
    """One transition in plain Python: dictionaries of places, one mover after another."""
    rules, agents, prey = settings.rules, dict(agents), dict(prey)

    def free(at):
        inside = 0 <= at[0] < rules.size and 0 <= at[1] < rules.size
        return inside and at not in [*agents.values(), *prey.values()]

    def around(at):
        return [(at[0] + row, at[1] + column) for row, column in MOVES.values()]

    for agent in np.argsort(draws.agents, kind="stable"):
        if agent in agents and action[agent] in MOVES and free(there := around(agents[agent])[action[agent]]):
            agents[agent] = there
    reward = 0.0
    for one in [one for one in np.argsort(draws.prey, kind="stable") if one in prey]:
        near = around(prey[one])
        catchers = [agent for agent, at in agents.items() if action[agent] == CATCH and at in near]
        if len(catchers) >= rules.capture_agents:
            reward += rules.capture_reward
            del prey[one]
            agents = {a: at for a, at in agents.items() if a not in catchers or not rules.capture_leaves}
            continue
        reward += rules.penalty if catchers else 0.0
        choices = [at for at in near if free(at)]
        if choices and draws.rest[one] >= rules.prey_rest:
            prey[one] = choices[int(draws.move[one] * len(choices))]
    return agents, prey, reward


@given(
    seed=st.integers(0, 2**32 - 1),
    rules=st.sampled_from([{}, {"capture_leaves": False, "prey_rest": 0.4}, {"capture_agents": 3}]),
)
def test_random_transitions_equal_plain_python(seed, rules):
    count, others = 5, 4
    step, settings = player(num_agents=count, num_prey=others, **rules)
    numbers = np.random.default_rng(seed)
    cells = numbers.permutation(16)[: count + others].astype(np.int32)
    cells[numbers.uniform(size=len(cells)) < 0.15] = GONE
    action = numbers.integers(0, 6, count)
    action[numbers.uniform(size=count) < 0.5] = CATCH
    draws = Draws(*(numbers.uniform(size=n).astype(np.float32) for n in (count, others, others, others)))

    def places(values):
        return {index: divmod(int(at), 4) for index, at in enumerate(values) if at != GONE}

    expected = by_the_book(settings, draws, places(cells[:count]), places(cells[count:]), action)
    state = PredatorPreyState(Hunt(cells[:count], cells[count:]), np.int32(0))
    state, seen, outcome = step(draws, state, action)
    assert (places(state.hunt.agents), places(state.hunt.prey)) == expected[:2]
    assert outcome.reward == expected[2]
    grid = np.zeros((4, 4, 2))
    for layer, who in enumerate(expected[:2]):
        for at in who.values():
            grid[at][layer] = 1
    np.testing.assert_array_equal(np.asarray(seen.state).reshape(4, 4, 2), grid)
    padded = np.pad(grid, ((1, 1), (1, 1), (0, 0)))
    for agent in range(count):
        here = expected[0].get(agent)
        window = padded[here[0] : here[0] + 3, here[1] : here[1] + 3] if here else np.zeros((3, 3, 2))
        np.testing.assert_array_equal(np.asarray(seen.obs[agent]).reshape(3, 3, 2), window)
        beside = here is not None and any(
            abs(here[0] - at[0]) + abs(here[1] - at[1]) == 1 for at in expected[1].values()
        )
        assert seen.avail_actions[agent, CATCH] == beside


def test_an_episode_starts_with_everybody_in_a_cell_of_their_own():
    env = made(size=3, num_agents=5, num_prey=4)
    reset = jax.jit(jax.vmap(env.reset))
    state, _ = reset(jax.random.split(jax.random.key(0), 50))
    cells = np.concatenate([state.hunt.agents, state.hunt.prey], axis=1)
    np.testing.assert_array_equal(np.sort(cells, axis=1), np.tile(np.arange(9), (50, 1)))
    assert len(np.unique(cells, axis=0)) > 45


def test_the_published_game_has_its_sizes_and_its_optimum():
    env = make_env({"_target_": TARGET, "penalty": 0})
    assert (env.num_agents, env.num_actions, env.obs_size, env.state_size, env.episode_limit) == (8, 6, 50, 200, 200)
    assert env.max_return == 40
    assert (env.name, made().name) == ("predator_prey", "predator_prey-1.5")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"penalty": 1}, "env.penalty=1: must be at most 0"),
        ({"penalty": float("-inf")}, "env.penalty=-inf: must be a finite number"),
        ({"capture_agents": 5, "num_agents": 8}, "env.capture_agents=5: must be at most 4"),
        ({"capture_agents": 4}, "env.capture_agents=4: must be at most 3"),
        ({"size": 2}, "env.size=2: must be large enough for 3 agents and 2 prey; it has 4 cells"),
        ({"prey_rest": 1.5}, "env.prey_rest=1.5: must be between 0 and 1"),
        ({"sight": -1}, "env.sight=-1: must be at least 0"),
        ({"time_limit": "stop"}, "env.time_limit=stop: unknown"),
        ({"num_agents": 2.5}, "env.num_agents=2.5: must be a whole number"),
    ],
)
def test_settings_that_cannot_be_used(changes, message):
    with pytest.raises(ConfigError) as error:
        made(**changes)
    assert str(error.value).startswith(message)


def recorded(env, actions) -> Episode:
    hunt = Hunt(jnp.array([4, 6, 15], jnp.int32), jnp.array([5, 12], jnp.int32))
    states, rewards = [PredatorPreyState(hunt, jnp.int32(0))], []
    step = jax.jit(env.step)
    for number, action in enumerate(actions):
        state, _, outcome = step(jax.random.key(number), states[-1], jnp.array(action, jnp.int32))
        states.append(state)
        rewards.append(float(outcome.reward))
    return Episode(
        states, list(jax.random.split(jax.random.key(0), len(actions))), [jnp.array(a) for a in actions], rewards
    )


def test_a_hunt_is_drawn(tmp_path: Path):
    from PIL import Image

    env = made()
    episode = recorded(env, [(CATCH, CATCH, STAY), (STAY, STAY, UP)])
    hunts = [state.hunt for state in episode.env_states]
    rules = env.step.args[0].rules
    assert captures(rules, jax.device_get(hunts[0]), jax.device_get(hunts[1]), np.array([CATCH, CATCH, STAY])) == [
        (0, 0),
        (1, 0),
    ]
    env.render(episode, tmp_path / "hunt.gif")
    with Image.open(tmp_path / "hunt.gif") as picture:
        assert picture.n_frames == 3
        colours = set()
        for frame in range(3):
            picture.seek(frame)
            colours.add(frame) if (39, 174, 96) in {c for _, c in picture.convert("RGB").getcolors(10**6)} else None
    assert colours == {0}  # the green lines of those who catch, in the first frame only
    with pytest.raises(ConfigError, match=r"hunt.mp4: must end in .gif; did you mean hunt.gif"):
        env.render(episode, tmp_path / "hunt.mp4")


@pytest.mark.parametrize("leaves", [True, False])
def test_only_those_that_catch_in_vain_have_a_red_frame(leaves):
    from matplotlib.colors import to_hex
    from matplotlib.figure import Figure

    (settings,) = made(capture_leaves=leaves).step.args
    before = Hunt(np.array([cell(0, 0), cell(1, 1), cell(3, 2)]), np.array([cell(0, 1), cell(3, 3)]))
    gone = np.array([GONE, GONE, cell(3, 2)]) if leaves else before.agents
    after = Hunt(gone, np.array([GONE, cell(2, 3)]))
    axes = Figure().add_subplot()
    pictures.draw(axes, settings.rules, 1, before, after, np.array([CATCH, CATCH, CATCH]))
    frames = [to_hex(patch.get_edgecolor()) for patch in axes.patches if patch.get_linewidth() == 3]
    assert frames == [pictures.CAUGHT, pictures.CAUGHT, pictures.ALONE]
