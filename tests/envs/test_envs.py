"""Every environment keeps the contract of ``qmix_jax/envs/base.py`` and agrees with JaxMARL's own."""

import functools
import inspect
import re
import subprocess
import sys
from collections.abc import Iterable, Set
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from qmix_jax.envs import jaxmarl as jaxmarl_envs
from qmix_jax.envs import jaxmarl_classes
from qmix_jax.envs.adapter import from_jaxmarl
from qmix_jax.envs.base import Env, Episode
from qmix_jax.envs.build import make_env
from qmix_jax.envs.render import expand_smax
from qmix_jax.envs.settings import say
from qmix_jax.errors import ConfigError
from qmix_jax.types import Outcome, TimeStep

ROOT = Path(__file__).parents[2]
EXAMPLE_PACKAGE = Path(__file__).parents[1] / "example_package"
HOSTED = ("football", "gymnasium", "lbf", "pettingzoo", "pymarl", "rware")
"""Stepped by worker processes: they have tests of their own."""
CONFIGS = sorted({path.stem for path in (ROOT / "conf/env").glob("*.yaml")} - {"custom", *HOSTED})
NUM_ENVS = 8
GRID = {"_target_": "example_envs.grid.make_env", "size": 4}
GUESS = {"_target_": "example_envs.guess.Guess"}
SCENARIOS = jaxmarl_envs.SMAX_SCENARIOS


def settings_of(config: str, **changes: object) -> dict:
    settings = yaml.safe_load((ROOT / f"conf/env/{config}.yaml").read_text())
    return settings.get("env", settings) | changes


PLAYED = {
    **{config: settings_of(config) for config in CONFIGS},
    "jaxmarl": settings_of("jaxmarl", id="switch_riddle"),
    "simple_speaker_listener": settings_of("mpe", task="simple_speaker_listener"),
    "smacv2": settings_of("smax", scenario="smacv2_5_units"),
    "grid": GRID,
    "guess": GUESS,
}
TRACED = {
    "simple_reference": settings_of("mpe", task="simple_reference"),
    "simple_spread": settings_of("jaxmarl"),
    **{f"smax-{scenario}": settings_of("smax", scenario=scenario) for scenario in SCENARIOS},
    "spread-5": settings_of("mpe", num_agents=5, num_landmarks=4),
    "switch_riddle-5": settings_of("switch_riddle", num_agents=5),
    "smax-conic": settings_of("smax", observation_type="conic", attack_mode="random"),
    "simple_tag": settings_of("jaxmarl", id="MPE_simple_tag_v3", reward="mean"),
    "hanabi": settings_of("jaxmarl", id="hanabi"),
    "overcooked": settings_of("jaxmarl", id="overcooked_v2"),
    "coin_game": settings_of("jaxmarl", id="coin_game"),
}


SLOW_TO_PLAY = {"smacv2"}
SLOW_TO_TRACE = {f"smax-{scenario}" for scenario in SCENARIOS} - {"smax-2s3z", "smax-27m_vs_30m", "smax-smacv2_5_units"}


def cases(names: Iterable[str], slow: Set[str]) -> list:
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in names]


class Played(NamedTuple):
    """Random play of B episodes [B, T], continued past their ends until T = episode limit + 1."""

    first: TimeStep
    steps: TimeStep
    actions: np.ndarray
    outcomes: Outcome

    @property
    def length(self) -> np.ndarray:
        """Transitions until the first ``last``; T + 1 if there is none."""
        last = self.outcomes.last
        return np.where(last.any(axis=1), last.argmax(axis=1) + 1, last.shape[1] + 1)

    def at_end(self, values: np.ndarray) -> np.ndarray:
        return values[np.arange(len(values)), self.length - 1]


@pytest.fixture(autouse=True, scope="module")
def example_package():
    sys.path.insert(0, str(EXAMPLE_PACKAGE))
    yield
    sys.path.remove(str(EXAMPLE_PACKAGE))


@functools.cache
def env_of(name: str) -> Env:
    return make_env({**TRACED, **PLAYED}[name])


def random_action(key: jax.Array, avail: jax.Array) -> jax.Array:
    return jax.random.categorical(key, jnp.where(avail, 0.0, -jnp.inf)).astype(jnp.int32)


@functools.cache
def player(name: str):
    """A compiled function from keys [B] to :class:`Played`."""
    env = env_of(name)

    def episode(key: jax.Array):
        reset_key, play_key = jax.random.split(key)
        env_state, first = env.reset(reset_key)

        def transition(carry, key):
            env_state, step = carry
            act_key, env_key = jax.random.split(key)
            action = random_action(act_key, step.avail_actions)
            env_state, step, outcome = env.step(env_key, env_state, action)
            return (env_state, step), (step, action, outcome)

        keys = jax.random.split(play_key, env.episode_limit + 1)
        _, (steps, actions, outcomes) = jax.lax.scan(transition, (env_state, first), keys)
        return Played(first=first, steps=steps, actions=actions, outcomes=outcomes)

    compiled = jax.jit(jax.vmap(episode))

    def play(seed: int) -> Played:
        with jax.numpy_rank_promotion("raise"):
            return jax.device_get(compiled(jax.random.split(jax.random.key(seed), NUM_ENVS)))

    return play


@functools.cache
def played(name: str) -> Played:
    return player(name)(0)


theirs_promotes_ranks = jax.numpy_rank_promotion("allow")
"""For tests that call JaxMARL themselves."""


def run(env: Env, policy, key: jax.Array, step=None) -> tuple[Episode, list[TimeStep], list[Outcome]]:
    """Play one episode on the host; ``policy(key, time_step)`` gives the joint action."""
    step = step or jax.jit(env.step)
    key, reset_key = jax.random.split(key)
    env_state, time_step = jax.jit(env.reset)(reset_key)
    states, keys, actions, steps, outcomes = [env_state], [], [], [time_step], []
    while not outcomes or not outcomes[-1].last:
        key, act_key, env_key = jax.random.split(key, 3)
        action = jnp.asarray(policy(act_key, time_step), jnp.int32)
        env_state, time_step, outcome = step(env_key, env_state, action)
        for values, value in zip(
            (states, keys, actions, steps, outcomes), (env_state, env_key, action, time_step, outcome), strict=True
        ):
            values.append(value)
    rewards = [float(outcome.reward) for outcome in outcomes]
    return Episode(env_states=states, keys=keys, actions=actions, rewards=rewards), steps, outcomes


def random_policy(key: jax.Array, time_step: TimeStep) -> jax.Array:
    return random_action(key, time_step.avail_actions)


# Every environment


@pytest.mark.parametrize("name", cases(PLAYED, SLOW_TO_PLAY))
def test_random_play_has_the_declared_shapes_types_and_values(name):
    env, episodes = env_of(name), played(name)
    steps = jax.tree.map(
        lambda first, later: np.concatenate([first[:, None], later], axis=1), episodes.first, episodes.steps
    )
    lead = (NUM_ENVS, env.episode_limit + 2)
    expected = {
        "obs": ((*lead, env.num_agents, env.obs_size), np.float32),
        "avail_actions": ((*lead, env.num_agents, env.num_actions), np.bool_),
        "state": ((*lead, env.state_size), np.float32),
    }
    for field, (shape, dtype) in expected.items():
        values = getattr(steps, field)
        assert (values.shape, values.dtype) == (shape, dtype), field
        assert np.isfinite(values).all(), field
    for field, dtype in (("reward", "float32"), ("discount", "float32"), ("last", "bool"), ("won", "bool")):
        values = getattr(episodes.outcomes, field)
        assert (values.shape, values.dtype) == ((NUM_ENVS, env.episode_limit + 1), np.dtype(dtype)), field
        assert np.isfinite(values).all(), field
    assert steps.avail_actions.any(axis=-1).all(), "an agent without an available action"
    taken = np.take_along_axis(steps.avail_actions[:, :-1], episodes.actions[..., None], axis=-1)
    assert taken.all()


@pytest.mark.parametrize("name", cases(PLAYED, SLOW_TO_PLAY))
def test_every_episode_ends_within_its_limit(name):
    env, episodes = env_of(name), played(name)
    assert (episodes.length <= env.episode_limit).all()
    discounts = episodes.outcomes.discount
    assert set(np.unique(discounts)) <= {0.0, 1.0}
    before_end = np.arange(discounts.shape[1]) < episodes.length[:, None] - 1
    assert (discounts[before_end] == 1.0).all()
    if not env.has_win_rate:
        assert not episodes.outcomes.won.any()
    if env.max_return is not None:
        so_far = np.arange(discounts.shape[1]) < episodes.length[:, None]
        assert (np.abs((episodes.outcomes.reward * so_far).sum(axis=1)) <= env.max_return + 1e-5).all()


@pytest.mark.parametrize("name", cases(PLAYED, SLOW_TO_PLAY))
def test_play_depends_on_the_key_only(name):
    again, other = player(name)(0), player(name)(1)
    jax.tree.map(np.testing.assert_array_equal, played(name), again)
    assert not np.array_equal(played(name).actions, other.actions)


@pytest.mark.parametrize("name", cases({**PLAYED, **TRACED}, SLOW_TO_TRACE))
def test_a_scan_can_carry_the_state(name):
    env = env_of(name)
    with jax.numpy_rank_promotion("raise"):
        env_state, first = jax.eval_shape(env.reset, jax.random.key(0))
        action = jax.ShapeDtypeStruct((env.num_agents,), jnp.int32)
        next_state, later, outcome = jax.eval_shape(env.step, jax.random.key(0), env_state, action)

    def kinds(tree):
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), tree)

    assert kinds(env_state) == kinds(next_state)
    assert kinds(first) == kinds(later)
    assert first.obs.shape == (env.num_agents, env.obs_size)
    assert first.avail_actions.shape == (env.num_agents, env.num_actions)
    assert first.state.shape == (env.state_size,)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(outcome))


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_lists_every_setting_with_its_default(config):
    settings = settings_of(config)
    module, name = settings.pop("_target_").rsplit(".", 1)
    parameters = inspect.signature(
        getattr(sys.modules.get(module) or __import__(module, fromlist=[name]), name)
    ).parameters
    named = {key: value.default for key, value in parameters.items() if value.kind is not value.VAR_KEYWORD}
    assert settings.keys() == named.keys()
    assert all(value == named[key] for key, value in settings.items() if named[key] is not inspect.Parameter.empty)


# SMAX


def peaceful_smax(time_limit: str) -> Env:
    return make_env(settings_of("smax", enemy_shoots=False, time_limit=time_limit))


@functools.cache
def peaceful_step():
    return jax.jit(peaceful_smax("bootstrap").step)


def attack(key: jax.Array, time_step: TimeStep) -> jax.Array:
    """Shoot if possible, else walk east."""
    shots = time_step.avail_actions[:, 5:]
    walk = jnp.where(time_step.avail_actions[:, 1], 1, 4)
    return jnp.where(shots.any(axis=1), 5 + jnp.argmax(shots, axis=1), walk)


def test_the_choices_are_those_of_jaxmarl():
    from jaxmarl import registered_envs
    from jaxmarl.environments import mpe
    from jaxmarl.environments.smax.smax_env import MAP_NAME_TO_SCENARIO

    assert tuple(MAP_NAME_TO_SCENARIO) == SCENARIOS
    assert sorted(registered_envs) == sorted(jaxmarl_envs.JAXMARL_IDS)
    assert set(jaxmarl_envs.MPE_TASKS.values()) <= set(vars(mpe))


def test_smax_defaults_are_those_of_jaxmarl():
    from jaxmarl import make

    ours = inspect.signature(jaxmarl_envs.make_smax).parameters
    theirs = make("HeuristicEnemySMAX")
    for name in ours.keys() - {"scenario", "time_limit"}:
        assert ours[name].default == getattr(theirs, name), name


@theirs_promotes_ranks
def test_smax_plays_exactly_as_in_jaxmarl():
    from jaxmarl import make
    from jaxmarl.environments.smax import map_name_to_scenario

    env = env_of("smax_jaxmarl")
    theirs = make("HeuristicEnemySMAX", scenario=map_name_to_scenario("3m"))
    episode, steps, outcomes = run(env, random_policy, jax.random.key(3))
    reset_key = jax.random.split(jax.random.key(3))[1]
    obs, state = theirs.reset(reset_key)
    avail = theirs.get_avail_actions(state)
    for index, step in enumerate(steps):
        if index > 0:
            actions = {agent: episode.actions[index - 1][number] for number, agent in enumerate(theirs.agents)}
            obs, state, rewards, dones, _ = theirs.step_env(episode.keys[index - 1], state, actions)
            avail = theirs.get_avail_actions(state)
            assert outcomes[index - 1].last == dones["__all__"]
            for agent in theirs.agents:
                np.testing.assert_allclose(outcomes[index - 1].reward, rewards[agent], atol=1e-6)
        for number, agent in enumerate(theirs.agents):
            np.testing.assert_allclose(step.obs[number], obs[agent], atol=1e-5)
            np.testing.assert_array_equal(step.avail_actions[number], avail[agent].astype(bool))
        units, rest = np.split(np.array(obs["world_state"]), [60])
        units = np.maximum(units.reshape(6, 10), 0) / np.asarray([1, 32, 32, 1, 1, 1, 1, 1, 1, 1], np.float32)
        rest[6:] /= 5
        np.testing.assert_allclose(step.state, np.concatenate([units.ravel(), rest]), atol=1e-5)


@pytest.mark.parametrize("name", cases(["smax", "smacv2"], SLOW_TO_PLAY))
def test_the_smax_state_is_of_order_one(name):
    assert played(name).steps.state.min() >= 0.0
    assert played(name).steps.state.max() <= 2.0


def test_smax_reaches_its_time_limit_after_101_transitions():
    env = peaceful_smax("bootstrap")
    assert env.episode_limit == 101
    _, _, outcomes = run(env, lambda key, step: jnp.full(3, 4), jax.random.key(0), peaceful_step())
    assert len(outcomes) == 101
    assert (outcomes[-1].discount, outcomes[-1].won) == (1.0, False)
    assert sum(float(outcome.reward) for outcome in outcomes) == 0.0


def test_a_won_battle_pays_the_largest_return():
    env = peaceful_smax("bootstrap")
    episode, _, outcomes = run(env, attack, jax.random.key(0), peaceful_step())
    assert (outcomes[-1].discount, outcomes[-1].won) == (0.0, True)
    assert len(outcomes) < env.episode_limit
    assert sum(episode.rewards) == pytest.approx(env.max_return, abs=1e-5)
    assert env.max_return == 2.0


def test_a_lost_battle_is_a_termination():
    env = peaceful_smax("bootstrap")

    def walk_into_the_wall(key, step):
        return jnp.where(step.avail_actions[:, 3], 3, 4)

    _, _, outcomes = run(env, walk_into_the_wall, jax.random.key(0), peaceful_step())
    assert (outcomes[-1].discount, outcomes[-1].won) == (0.0, False)
    assert len(outcomes) < env.episode_limit


@pytest.mark.parametrize(
    ("alive", "terminated", "won"),
    [
        ([1, 0, 1, 0], False, False),
        ([1, 1, 0, 0], True, True),
        ([0, 0, 0, 1], True, False),
        ([0, 0, 0, 0], True, False),
    ],
)
def test_smax_ends_when_one_side_is_dead_and_is_won_with_an_ally_alive(alive, terminated, won):
    env = SimpleNamespace(
        num_allies=2,
        num_enemies=2,
        map_width=32,
        map_height=32,
        unit_type_bits=6,
        max_steps=100,
        won_battle_bonus=1.0,
        use_self_play_reward=False,
    )
    rules = jaxmarl_classes._smax(env)
    after = SimpleNamespace(state=SimpleNamespace(unit_alive=jnp.asarray(alive, bool)))
    assert bool(rules["terminated"](SimpleNamespace(after=after))) == terminated
    assert bool(rules["won"](SimpleNamespace(after=after))) == won


# Multi-agent particle environments


@pytest.mark.parametrize("name", ["mpe", "simple_speaker_listener"])
def test_particle_episodes_have_26_transitions_and_no_termination(name):
    assert env_of(name).episode_limit == 26
    episodes = played(name)
    assert (episodes.length == 26).all()
    assert (episodes.at_end(episodes.outcomes.discount) == 1.0).all()


def test_a_particle_time_limit_can_be_terminal():
    env = make_env(settings_of("mpe", time_limit="terminal", max_steps=3))
    _, _, outcomes = run(env, random_policy, jax.random.key(0))
    assert [float(outcome.discount) for outcome in outcomes] == [1.0, 1.0, 1.0, 0.0]


@theirs_promotes_ranks
def test_returns_follow_the_convention_of_jaxmarl_s_log():
    from jaxmarl import make
    from jaxmarl.wrappers.baselines import CTRolloutManager, MPELogWrapper

    episode, _, _ = run(env_of("mpe"), random_policy, jax.random.key(5))
    theirs = make("MPE_simple_spread_v3")
    logged = MPELogWrapper(theirs)
    _, log_state = logged.reset(jax.random.split(jax.random.key(5))[1])
    team_rewards = []
    for before, key, action in zip(episode.env_states[:-1], episode.keys, episode.actions, strict=True):
        actions = {agent: action[number] for number, agent in enumerate(theirs.agents)}
        # `step` splits its key for the reset; put the state we had, so that only the reward's convention is compared.
        _, log_state, rewards, _, info = logged.step(key, log_state.replace(env_state=before.env_state), actions)
        team_rewards.append(CTRolloutManager(theirs, batch_size=1).global_reward(rewards))
    assert bool(info["returned_episode"].all())
    np.testing.assert_allclose(episode.rewards, team_rewards, rtol=1e-4)
    np.testing.assert_allclose(info["returned_episode_returns"].mean(), sum(episode.rewards), rtol=1e-4)


def test_smaller_agents_are_padded():
    env, episodes = env_of("simple_speaker_listener"), played("simple_speaker_listener")
    assert (env.obs_size, env.num_actions, env.state_size) == (11, 5, 14)
    assert not episodes.steps.avail_actions[:, :, 0, 3:].any()
    assert episodes.steps.avail_actions[:, :, 0, :3].all()
    assert episodes.steps.avail_actions[:, :, 1].all()
    assert not episodes.steps.obs[:, :, 0, 3:].any()
    unpadded = np.concatenate([episodes.steps.obs[:, :, 0, :3], episodes.steps.obs[:, :, 1]], axis=-1)
    np.testing.assert_array_equal(episodes.steps.state, unpadded)


# The switch riddle

NOTHING, TELL = 0, 2


@pytest.mark.parametrize(("time_limit", "discount"), [("terminal", 0.0), ("bootstrap", 1.0)])
def test_the_riddles_time_limit(time_limit, discount):
    env = make_env(settings_of("switch_riddle", time_limit=time_limit))
    assert env.episode_limit == 6
    _, _, outcomes = run(env, lambda key, step: jnp.full(3, NOTHING), jax.random.key(0))
    assert len(outcomes) == 6
    assert (outcomes[-1].discount, outcomes[-1].reward, outcomes[-1].won) == (discount, 0.0, False)


@pytest.mark.parametrize("others_have_been", [False, True])
def test_telling_ends_the_riddle_even_in_the_last_transition(others_have_been):
    env = make_env(settings_of("switch_riddle", time_limit="bootstrap"))
    env_state, _ = env.reset(jax.random.key(0))
    own = env_state.env_state
    has_been = jnp.full_like(own.has_been, int(others_have_been))
    env_state = env_state._replace(env_state=own.replace(has_been=has_been, step=own.step + 5), played=jnp.int32(5))
    _, _, outcome = env.step(jax.random.key(1), env_state, jnp.full(3, TELL))
    assert (outcome.last, outcome.discount) == (True, 0.0)
    assert (outcome.won, outcome.reward) == (others_have_been, 1.0 if others_have_been else -1.0)


# Small games


def test_the_two_step_game_pays_as_published():
    env = make_env(settings_of("two_step"))
    second_payoffs = {0: [[7, 7], [7, 7]], 1: [[0, 1], [1, 8]]}
    for first_action in np.ndindex(2, 2):
        for second_action in np.ndindex(2, 2):
            env_state, step = env.reset(jax.random.key(0))
            np.testing.assert_array_equal(step.state, [1, 0, 0])
            env_state, step, outcome = env.step(jax.random.key(0), env_state, jnp.asarray(first_action))
            assert tuple(outcome) == (0.0, 1.0, False, False)
            seen = [0, 1, 0] if first_action[0] == 0 else [0, 0, 1]
            np.testing.assert_array_equal(step.state, seen)
            np.testing.assert_array_equal(step.obs, [seen, seen])
            _, step, outcome = env.step(jax.random.key(0), env_state, jnp.asarray(second_action))
            assert tuple(outcome) == (
                second_payoffs[first_action[0]][second_action[0]][second_action[1]],
                0,
                True,
                False,
            )
            assert not step.obs.any()


@pytest.mark.parametrize(
    ("settings", "payoff"),
    [
        (settings_of("climbing"), [[11, -30, 0], [-30, 7, 6], [0, 0, 5]]),
        (settings_of("penalty"), [[10, 0, -100], [0, 2, 0], [-100, 0, 10]]),
        (settings_of("penalty", k=-3), [[10, 0, -3], [0, 2, 0], [-3, 0, 10]]),
    ],
)
def test_matrix_games_pay_as_published(settings, payoff):
    env = make_env(settings)
    assert env.max_return == np.abs(payoff).max()
    env_state, _ = env.reset(jax.random.key(0))
    for row, column in np.ndindex(3, 3):
        _, _, outcome = env.step(jax.random.key(0), env_state, jnp.asarray([row, column]))
        assert tuple(outcome) == (payoff[row][column], 0.0, True, False)


# The adapter


class Plain:
    """The minimum that the adapter needs; the agents get ``rewards``, the episode is done after ``done_after``."""

    agents = ("a", "b")

    def __init__(self, done_after: int = 3, **attributes: object) -> None:
        self.done_after = done_after
        vars(self).update(attributes)

    def action_space(self, agent):
        return SimpleNamespace(n={"a": 2, "b": 3}[agent])

    def reset(self, key):
        return self.see(jnp.array(0)), {"step": 0}

    def see(self, step):
        return {"a": jnp.full((2, 2), step), "b": {"left": jnp.ones(1), "right": jnp.zeros(2)}}

    def step_env(self, key, state, actions):
        step = state["step"] + 1
        done = step >= self.done_after
        return self.see(step), {"step": step}, {"a": 1, "b": 3.0}, {"__all__": done}, {}


def discounts(env: Env) -> list[float]:
    return [float(outcome.discount) for outcome in run(env, lambda key, step: jnp.zeros(2), jax.random.key(0))[2]]


def test_a_plain_environment_is_flattened_padded_and_masked():
    env = from_jaxmarl(Plain(), episode_limit=5)
    assert (env.num_agents, env.num_actions, env.obs_size, env.state_size) == (2, 3, 4, 7)
    env_state, step = env.reset(jax.random.key(0))
    np.testing.assert_array_equal(step.avail_actions, [[True, True, False], [True, True, True]])
    _, step, outcome = env.step(jax.random.key(0), env_state, jnp.zeros(2, jnp.int32))
    np.testing.assert_array_equal(step.obs, [[1, 1, 1, 1], [1, 0, 0, 0]])
    np.testing.assert_array_equal(step.state, [1, 1, 1, 1, 1, 0, 0])
    assert outcome.reward == 4.0


@pytest.mark.parametrize(("reward", "paid"), [("sum", 4.0), ("mean", 2.0), ("first", 1.0)])
def test_the_team_reward(reward, paid):
    env = from_jaxmarl(Plain(), episode_limit=5, reward=reward)
    env_state, _ = env.reset(jax.random.key(0))
    assert env.step(jax.random.key(0), env_state, jnp.zeros(2, jnp.int32))[2].reward == paid


@pytest.mark.parametrize(
    ("done_after", "own_limit", "asked", "time_limit", "expected"),
    [
        (3, None, 5, "bootstrap", [1, 1, 0]),  # done in time
        (3, None, 3, "bootstrap", [1, 1, 1]),  # done by the limit
        (3, None, 3, "terminal", [1, 1, 0]),
        (9, None, 2, "bootstrap", [1, 1]),  # the adapter enforces the limit
        (9, None, 2, "terminal", [1, 0]),
        (3, 3, None, "bootstrap", [1, 1, 1]),  # the environment's own limit
        (3, 3, 8, "bootstrap", [1, 1, 1]),  # which stays a time limit if a longer one is set
        (2, 3, None, "bootstrap", [1, 0]),
    ],
)
def test_terminations_and_time_limits_are_distinguished(done_after, own_limit, asked, time_limit, expected):
    env = from_jaxmarl(Plain(done_after, max_steps=own_limit), episode_limit=asked, time_limit=time_limit)
    assert discounts(env) == expected


def test_sources_of_the_state_and_the_available_actions():
    limits = {"a": jnp.array([0, 1]), "b": jnp.array([1, 0, 1])}
    plain = Plain(get_world_state=lambda state: jnp.full((2, 3), 7), get_legal_moves=lambda state: limits)
    env = from_jaxmarl(plain, episode_limit=5)
    _, step = env.reset(jax.random.key(0))
    np.testing.assert_array_equal(step.state, np.full(6, 7.0))
    np.testing.assert_array_equal(step.avail_actions, [[False, True, False], [True, False, True]])
    plain.see = lambda step: {"a": jnp.zeros(1), "b": jnp.zeros(1), "world_state": jnp.arange(4)}
    env = from_jaxmarl(plain, episode_limit=5)
    np.testing.assert_array_equal(env.reset(jax.random.key(0))[1].state, np.arange(4.0))


def test_a_jaxmarl_class_as_target_is_recognised():
    env = make_env({"_target_": "jaxmarl.environments.SimpleSpreadMPE", "num_agents": 4, "time_limit": "terminal"})
    assert (env.num_agents, env.episode_limit) == (4, 26)
    env = make_env(GUESS | {"length": 2, "reward": "first", "episode_limit": 9})
    assert (env.num_actions, env.obs_size, env.state_size) == (4, 4, 6)
    assert len(discounts(env)) == 2


# Mistakes of users


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "env._target_: missing"),
        (settings_of("custom"), "env._target_: missing"),
        ({"_target_": "make_env"}, "dotted path"),
        ({"_target_": "no_such_package.make"}, "cannot import no_such_package"),
        ({"_target_": "example_envs.grid.make_enw"}, "has no function make_enw; did you mean make_env"),
        ({"_target_": "builtins.dict"}, "neither a qmix_jax.envs.base.Env"),
        (GRID | {"sise": 5}, "env.sise=5: unknown; did you mean 'env.size'"),
        (GRID | {"time_limit": "terminal"}, "env.time_limit=terminal: unknown"),
        (GRID | {"size": "big"}, "env.size=big: must be a whole number"),
        (GRID | {"size": True}, "env.size=True: must be a whole number"),
        (GRID | {"size": 1}, "env.size=1: must be at least 2"),
        (GUESS | {"lenght": 5}, "did you mean 'env.length'"),
        (GUESS | {"episode_limit": 0}, "env.episode_limit=0: must be at least 1"),
        (GUESS | {"time_limit": "none"}, "env.time_limit=none: unknown"),
        (GUESS | {"reward": "max"}, "env.reward=max: unknown"),
        (settings_of("smax", scenario="3n"), "env.scenario=3n: unknown; did you mean '3m'"),
        (settings_of("smax", time_limit="bootstrp"), "did you mean 'bootstrap'"),
        (settings_of("smax", max_steps=0), "env.max_steps=0: must be at least 1"),
        (settings_of("smax", attack_mode="far"), "env.attack_mode=far"),
        (settings_of("smax", see_enemy_actions=3), "must be true or false"),
        (settings_of("mpe", task="spread"), "did you mean 'simple_spread'"),
        (settings_of("mpe", num_agents=0), "env.num_agents=0: must be at least 1"),
        (settings_of("mpe", task="simple_reference", num_agents=2), "simple_reference has no such setting"),
        (settings_of("mpe", local_ratio=2), "env.local_ratio=2: must be at most 1"),
        (settings_of("switch_riddle", num_agents=2), "env.num_agents=2: must be at least 3"),
        (settings_of("jaxmarl", id="hanaby"), "did you mean 'hanabi'"),
        (settings_of("jaxmarl", num_agent=4), "env.num_agent=4: unknown; did you mean 'env.num_agents'"),
        (settings_of("jaxmarl", id="hanabi", num_agent=4), "env.id=hanabi: "),
        (settings_of("jaxmarl", action_type="Continuous"), "only Discrete action spaces"),
        (settings_of("jaxmarl", id="MPE_simple_world_comm_v3"), "can be used; add +env.action_type=Discrete"),
        (settings_of("jaxmarl", id="MPE_simple_world_comm_v3", team="adversaries"), "add +env.action_type=Discrete"),
        (settings_of("jaxmarl", id="jaxnav"), "can be used; add +env.act_type=Discrete"),
        (settings_of("penalty", k=1.0), "env.k=1.0: must be at most 0"),
        (settings_of("penalty", k="much"), "env.k=much: must be a number"),
    ],
)
def test_invalid_settings_are_named_in_one_line(settings, words):
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        make_env(settings)
    assert "\n" not in str(caught.value)


def test_an_error_about_actions_comes_without_a_note(capsys):
    say.cache_clear()
    with pytest.raises(ConfigError, match="only Discrete"):
        make_env(settings_of("jaxmarl", id="MPE_simple_world_comm_v3"))
    assert capsys.readouterr().err == ""


def test_all_actions_of_jaxnav_are_available():
    env = make_env(settings_of("jaxmarl", id="jaxnav", act_type="Discrete"))
    avail = jax.eval_shape(env.reset, jax.random.key(0))[1].avail_actions
    assert (env.num_actions, avail.shape[1]) == (15, 15)
    assert jax.jit(lambda key: env.reset(key)[1].avail_actions)(jax.random.key(0)).all()


def test_a_missing_argument_is_named(tmp_path, monkeypatch):
    (tmp_path / "needs_size.py").write_text("def make_env(size):\n    raise ValueError('no\\nsize')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"env.size: missing"):
        make_env({"_target_": "needs_size.make_env"})
    with pytest.raises(ConfigError, match=r"needs_size.make_env says: ValueError: no size$"):
        make_env({"_target_": "needs_size.make_env", "size": 3})


def in_fresh_process(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    ).stdout


def test_a_wrong_scenario_is_rejected_without_importing_jaxmarl():
    code = (
        "import sys\nfrom qmix_jax.envs.build import make_env\nfrom qmix_jax.errors import ConfigError\n"
        "for settings in ({'make_smax': {'scenario': 'nope'}}, {'make_mpe': {'task': 'nope'}},"
        " {'make_jaxmarl': {'id': 'nope'}}, {'make_smax': {'scenaro': '3m'}}):\n"
        "    (name, arguments), = settings.items()\n"
        "    try:\n        make_env({'_target_': f'qmix_jax.envs.jaxmarl.{name}', **arguments})\n"
        "    except ConfigError as error:\n        print('refused', error)\n"
        "print('jaxmarl' in sys.modules)"
    )
    lines = in_fresh_process(code).splitlines()
    assert [line.split()[0] for line in lines] == ["refused"] * 4 + ["False"]


@pytest.mark.slow
def test_importing_jaxmarl_is_silent_and_leaves_the_streams_alone():
    code = (
        "import io, sys\nkept = sys.stdout = io.StringIO()\nfrom qmix_jax.envs.jaxmarl import make_mpe\n"
        "make_mpe()\nassert sys.stdout is kept and not kept.getvalue()"
    )
    assert in_fresh_process(code) == ""


# Drawing


@pytest.mark.parametrize("name", ["two_step", "penalty"])
@pytest.mark.parametrize("suffix", [".md", ".gif", ".png"])
def test_games_are_drawn_as_tables(name, suffix, tmp_path):
    env = env_of(name)
    episode, _, _ = run(env, lambda key, step: jnp.ones(2), jax.random.key(0))
    path = tmp_path / f"episode{suffix}"
    env.render(episode, path)
    if suffix == ".md":
        text = path.read_text()
        assert "| 2B    | 1       | 1       | 8      | end        |" in text or "[2]" in text
    else:
        assert picture_frames(path) == 1


def picture_frames(path: Path) -> int:
    from PIL import Image

    with Image.open(path) as picture:
        return getattr(picture, "n_frames", 1)


def test_an_unknown_file_type_is_rejected(tmp_path):
    env = env_of("two_step")
    episode, _, _ = run(env, lambda key, step: jnp.ones(2), jax.random.key(0))
    with pytest.raises(ConfigError, match=r"episode.jpg: must end in .* did you mean episode.png"):
        env.render(episode, tmp_path / "episode.jpg")


def test_particles_are_drawn(tmp_path, capsys):
    env = make_env(settings_of("mpe", task="simple_speaker_listener", max_steps=1))
    episode, _, _ = run(env, random_policy, jax.random.key(0))
    env.render(episode, tmp_path / "episode.gif")
    assert picture_frames(tmp_path / "episode.gif") == 3
    assert capsys.readouterr().out == ""


def test_battles_are_drawn_from_the_true_simulation(tmp_path):
    from jaxmarl import make
    from jaxmarl.environments.smax import map_name_to_scenario

    env = make_env(settings_of("smax_jaxmarl", enemy_shoots=False))
    episode, _, _ = run(env, attack, jax.random.key(0))
    # The last transitions, where shots are fired: their random keys decide the cooldowns.
    episode = Episode(*(values[-3 if len(values) == len(episode.env_states) else -2 :] for values in episode))
    theirs = make("HeuristicEnemySMAX", scenario=map_name_to_scenario("3m"), enemy_shoots=False)
    own_states = [env_state.env_state for env_state in episode.env_states]
    with jax.numpy_rank_promotion("allow"):
        frames = expand_smax(theirs, episode._replace(env_states=own_states))
    assert len(frames) == 1 + 2 * 8
    for number, recorded in enumerate(own_states):
        simulated = frames[8 * number][1]
        for field in ("unit_positions", "unit_health", "unit_alive", "unit_weapon_cooldowns"):
            np.testing.assert_allclose(
                getattr(simulated, field), getattr(recorded.state, field), atol=1e-5, err_msg=field
            )
    env.render(episode, tmp_path / "episode.gif")
    assert picture_frames(tmp_path / "episode.gif") >= 3


ONLY_A_PART = """
import sys
from qmix_jax.envs.jaxmarl import make_jaxmarl, make_mpe, make_smax
assert make_smax().has_win_rate and make_mpe().num_agents == 3
assert "jaxmarl.environments.storm" not in sys.modules, "everything was imported"
kind = sys.modules["jaxmarl.environments.smax"].HeuristicEnemySMAX
import jaxmarl
env = jaxmarl.make("HeuristicEnemySMAX")
assert "jaxmarl.environments.storm" in sys.modules
assert isinstance(env, kind) and isinstance(env, jaxmarl.environments.HeuristicEnemySMAX)
assert make_jaxmarl("MPE_simple_spread_v3").num_agents == 3
assert not hasattr(jaxmarl, "nothing_of_the_kind")
"""


def test_only_the_used_part_of_jaxmarl_is_imported():
    done = subprocess.run([sys.executable, "-c", ONLY_A_PART], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
