"""The three doors, in this process: what an environment shows becomes arrays, and what is wrong becomes one line."""

import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from qmix_jax import check_env
from qmix_jax.envs.build import make_env
from qmix_jax.envs.hosted.gymnasium import GymnasiumDoor
from qmix_jax.envs.hosted.pettingzoo import PettingZooDoor
from qmix_jax.envs.hosted.pymarl import PyMarlDoor
from qmix_jax.envs.hosted.team import EnvError, Team
from qmix_jax.errors import ConfigError

PETTINGZOO = "qmix_jax.envs.hosted.pettingzoo.make_pettingzoo"
GYMNASIUM = "qmix_jax.envs.hosted.gymnasium.make_gymnasium"


@pytest.fixture(autouse=True)
def pastures(monkeypatch, trials_here):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield
    sys.modules.pop("pastures", None)


def team(reward="sum", limit=10, **settings) -> Team:
    return Team(PettingZooDoor("pastures:pasture", settings), reward, limit)


def play(team: Team, action: list[int]) -> list:
    """Results of an episode of one joint action again and again."""
    team.reset(0)
    results = []
    while not results or not (results[-1].terminated or results[-1].truncated):
        results.append(team.step(np.array(action)))
    return results


def test_agents_that_leave_early_and_come_late_keep_their_places():
    pasture = team()
    assert pasture.spec.agents == ("early", "late", "staying")
    view = pasture.reset(0)
    assert view.obs.shape == (3, 3)
    assert view.obs[0, 2] == 0, "padding of the smaller observation"
    assert not view.obs[1].any(), "not here yet"
    np.testing.assert_array_equal(view.avail, [[1, 1, 0], [1, 0, 0], [1, 1, 0]])
    results = play(pasture, [1, 1, 1])
    np.testing.assert_array_equal([r.view.avail[:, 1] for r in results], [[1, 1, 1], [0, 1, 1], [0, 1, 1], [0, 1, 1]])
    assert [r.reward for r in results] == [2, 3, 2, 2], "only of those that acted"
    assert view.state.size == 2 + 3 + 3


@pytest.mark.parametrize(("how", "terminated"), [("terminated", True), ("truncated", False)])
def test_a_time_limit_is_told_from_a_true_end(how, terminated):
    last = play(team(how=how), [0, 0, 0])[-1]
    assert (last.terminated, last.truncated) == (terminated, not terminated)


def test_an_episode_limit_of_ones_own_truncates():
    results = play(team(how="terminated", limit=2), [0, 0, 0])
    assert len(results) == 2
    assert results[-1].truncated


@pytest.mark.parametrize(("reward", "expected"), [("sum", 3), ("mean", 1), ("first", 1)])
def test_the_team_has_one_reward(reward, expected):
    assert play(team(reward), [1, 1, 1])[1].reward == expected


def test_agents_may_keep_their_own_rewards():
    results = play(team("individual"), [1, 1, 1])
    np.testing.assert_array_equal([r.reward for r in results], [[1, 0, 1], [1, 1, 1], [0, 1, 1], [0, 1, 1]])


def test_a_reward_of_the_team_alone_is_no_reward_of_the_agents():
    with pytest.raises(ConfigError, match=r"^env._target_=pastures.Field: env.reward=individual: it pays the team one"):
        make_env({"_target_": "pastures.Field", "door": "pymarl", "reward": "individual"})


def test_action_masks_may_be_in_the_observations():
    assert team(mask="obs").spec.obs_sizes == (2, 3, 3)
    np.testing.assert_array_equal(team(mask="obs").reset(0).avail[0], [1, 1, 0])
    assert team(mask="none").reset(0).avail[0].all()


@pytest.mark.parametrize(("dtype", "factor"), [("uint8", 1 / 255), ("int64", 1), ("float64", 1)])
def test_observations_of_other_types_are_cast(dtype, factor):
    plain, cast = team().reset(0).obs, team(dtype=dtype).reset(0).obs
    assert cast.dtype == np.float32
    np.testing.assert_allclose(cast, plain * factor, rtol=1e-6)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("nan", "step 2: the observation of staying is not finite"),
        ("size", "step 2: the observation of staying has 5 numbers, not 3"),
        ("mask", "step 2: no action is available to staying"),
        ("reward", "step 3: the reward of staying is not finite"),
    ],
)
def test_a_broken_promise_names_the_agent_and_the_step(fault, words):
    with pytest.raises(EnvError, match=f"^{words}$"):
        play(team(fault=fault), [0, 0, 0])
    with pytest.raises(ConfigError, match=f"^env.name=pastures:pasture: {words}$"):
        make_env({"_target_": PETTINGZOO, "name": "pastures:pasture", "fault": fault})


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("info", "get_env_info() has no n_agents, obs_shape; it needs n_agents, n_actions, obs_shape"),
        ("num_actions", "step 0: the action mask of agent_0 has 3 numbers, not 5"),
        ("four", "step 1: step returns 4 values; return (reward, terminated, info), or EPyMARL's five"),
        ("rewards", "step 1: 3 rewards for 2 agents; return one number, or one for each agent"),
        ("alone", "step 2: 1 observations for 2 agents; return one for each of agent_0, agent_1, at every step"),
        ("state", "step 2: the state is 5 numbers, not 4"),
        ("limit", "get_env_info() has episode_limit=-1; it must be a number from 1 on, or a shape"),
        ("nobody", "get_env_info() has n_agents=0; it must be a number from 1 on, or a shape"),
    ],
)
def test_what_a_pymarl_environment_gets_wrong_is_one_line_before_training(fault, words):
    with pytest.raises(ConfigError, match="^" + re.escape(f"env._target_=pastures.Field: {words}")) as caught:
        make_env({"_target_": "pastures.Field", "door": "pymarl", "fault": fault})
    assert "\n" not in str(caught.value)


def test_sizes_may_be_shapes_and_rewards_a_column():
    env = make_env({"_target_": "pastures.Field", "door": "pymarl", "fault": "shapes"})
    assert (env.obs_size, env.state_size) == (2, 4)
    column = Team(PyMarlDoor("pastures.Field", {"fault": "column"}), "individual", 5)
    column.reset(0)
    np.testing.assert_array_equal(column.step(np.array([0, 0])).reward, [1, 2])
    assert not make_env({"_target_": "pastures.Field", "door": "pymarl", "fault": "no info"}).has_win_rate


def test_an_environment_that_takes_its_seed_when_it_is_made_gets_one():
    door = PyMarlDoor("pastures.Seeded", {})
    door.reset(7)
    assert door.env.seed() == 7
    door.reset(8)
    assert door.env.seed() == 7, "made once more only"
    chosen = PyMarlDoor("pastures.Seeded", {"seed": 3})
    chosen.reset(7)
    assert chosen.env.seed() == 3


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("no agents", "step 0: no agent is there after reset: env.agents is empty"),
        ("old reset", "step 0: reset returns a dict; PettingZoo's parallel API returns 2: observations, infos"),
        ("no infos", "step 0: the infos that reset returns must be a dictionary by agent, not NoneType"),
        ("rewards by number", "step 2: the rewards have no entry for early, staying, late; they have 0, 1, 2"),
        ("reward missing", "step 2: the rewards have no entry for staying; they have early, late"),
        ("observation missing", "step 2: the observations have no entry for staying; they have early, late"),
        ("observation None", "step 2: the observations have no entry for staying; "),
        ("observation of words", "step 2: the observation of staying is no array of numbers: "),
        ("unknown agent", "step 2: env.agents lists wolf, but possible_agents does not"),
        ("done agent", "step 2: env.agents still lists early, which is done; remove agents that are done"),
        ("flags", "step 2: the terminations that step returns must be a dictionary by agent, not bool"),
        ("old step", "step 2: step returns 4 values; PettingZoo's parallel API returns 5: observations, "),
        ("exit", "SystemExit: no licence"),
    ],
)
def test_what_a_pettingzoo_environment_gets_wrong_is_one_line_before_training(fault, words):
    with pytest.raises(ConfigError, match="^" + re.escape(f"env.name=pastures:wild: {words}")) as caught:
        make_env({"_target_": PETTINGZOO, "name": "pastures:wild", "fault": fault})
    assert "\n" not in str(caught.value)


def test_agents_that_are_all_done_have_left_even_if_they_stay_in_the_list():
    results = play(
        Team(PettingZooDoor("pastures:wild", {"fault": "done agents listed", "how": "terminated"}), "sum", 10), [0] * 3
    )
    assert len(results) == 4
    assert results[-1].terminated


def test_an_environment_that_cannot_be_closed_can_be_used():
    assert make_env({"_target_": PETTINGZOO, "name": "pastures:wild", "fault": "close"}).num_agents == 3


def test_bytes_are_divided_by_255_wherever_they_are():
    """Not small numbers of the same type."""
    view = Team(PettingZooDoor("pastures:Mixed", {}), "sum", 10).reset(0)
    np.testing.assert_allclose(view.obs[0], [1, 1, 0, 0.2, 0.2, 0, 1])
    np.testing.assert_allclose(view.state, [1, 0.2])


def test_check_env_plays_whole_episodes():
    """Training begins after 200 steps of random play."""
    settings = {"_target_": PETTINGZOO, "name": "pastures:pasture", "length": 250, "fault": "nan", "when": 240}
    assert make_env(settings).episode_limit == 250
    with pytest.raises(ConfigError, match=r"^env: step 240: the observation of staying is not finite$"):
        check_env.check(check_env.Settings(episodes=2), settings)


def test_opposed_sides_are_told(capsys):
    make_env({"_target_": PETTINGZOO, "name": "mpe2.simple_tag_v3"})
    (line,) = capsys.readouterr().err.splitlines()
    assert "its sides have opposed rewards" in line
    other = line.partition("; env=jaxmarl ")[2].partition(" trains")[0].split()
    settings = dict(part.partition("=")[::2] for part in ["_target_=qmix_jax.envs.jaxmarl.make_jaxmarl", *other])
    side = make_env({name.removeprefix("env."): value for name, value in settings.items()})
    assert side.num_agents == 3


def test_one_that_takes_long_to_make_says_so(monkeypatch, capsys):
    monkeypatch.setattr("qmix_jax.envs.hosted.make.SLOW", 0.0)
    make_env({"_target_": PETTINGZOO, "name": "pastures:pasture"})
    assert "env.name=pastures:pasture: making it and playing a first episode takes longer" in capsys.readouterr().err


def test_what_is_wrapped_has_pettingzoos_parallel_api():
    """PettingZoo's own test of the environments that these tests wrap, agents that leave and come late included."""
    import pastures

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of conventions, and of PettingZoo's own imports.
        from mpe2 import simple_spread_v3
        from pettingzoo.test import parallel_api_test

        parallel_api_test(simple_spread_v3.parallel_env(N=3), num_cycles=60)
        parallel_api_test(pastures.Pasture(fault="still"), num_cycles=20)


def test_an_error_of_the_environment_is_one_line_before_training():
    with pytest.raises(ConfigError, match=r"^env.name=pastures:pasture: step 3: ValueError: the dog barked$"):
        make_env({"_target_": PETTINGZOO, "name": "pastures:pasture", "fault": "raise"})


def test_mpe2_is_an_env_of_the_sizes_of_the_jax_one():
    env = make_env({"_target_": PETTINGZOO, "name": "mpe2.simple_spread_v3", "N": 3})
    assert (env.num_agents, env.num_actions, env.obs_size, env.episode_limit) == (3, 5, 18, 25)
    assert env.state_size == 54
    assert not env.has_win_rate
    last = play(Team(PettingZooDoor("mpe2.simple_spread_v3", {"N": 3}), "sum", 25), [0, 0, 0])
    assert len(last) == 25
    assert last[-1].truncated


def test_lbf_runs_out_of_time_after_50_steps():
    env = make_env({"_target_": GYMNASIUM, "id": "Foraging-8x8-2p-3f-v3", "import": "lbforaging"})
    assert (env.num_agents, env.num_actions, env.obs_size, env.episode_limit) == (2, 6, 15, 50)
    assert env.state_from_obs
    door = GymnasiumDoor("Foraging-8x8-2p-3f-v3", "lbforaging", {})
    results = play(Team(door, "sum", 50), [0, 0])
    assert len(results) == 50
    assert results[-1].truncated, "LBF itself calls it done"
    # Made anew: LBF places its players around where those of the episode before stood.
    first, again = (Team(GymnasiumDoor(door.spec.name, "", {}), "sum", 50).reset(3).obs for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_rware_has_500_steps():
    door = GymnasiumDoor("rware-tiny-2ag-v2", "rware", {})
    assert door.spec.episode_limit == 500
    assert door.spec.num_actions == (5, 5)


def test_pymarls_interface():
    env = make_env({"_target_": "pastures.Field", "door": "pymarl", "win": 2})
    assert (env.num_agents, env.num_actions, env.obs_size, env.state_size, env.episode_limit) == (2, 3, 2, 4, 5)
    assert env.has_win_rate
    field = Team(PyMarlDoor("pastures.Field", {}), "sum", 5)
    won, lost = play(field, [1, 1]), play(field, [0, 1])
    assert (len(won), won[-1].won, won[-1].terminated) == (3, True, True)
    assert (len(lost), lost[-1].won, lost[-1].truncated) == (5, False, True)
    np.testing.assert_array_equal(won[0].view.avail, [[1, 1, 0], [1, 1, 1]])


def test_a_state_that_is_missing_is_made_of_the_observations():
    env = make_env({"_target_": "pastures.Field", "door": "pymarl", "state_size": 0})
    assert env.state_from_obs
    assert env.state_size == 4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"_target_": PETTINGZOO, "name": "???"}, "env.name: missing; give the module"),
        (
            {"_target_": PETTINGZOO, "name": "no.such.module"},
            ".*cannot import no.such.module: there is no package no$",
        ),
        ({"_target_": PETTINGZOO, "name": "mpe3.simple"}, ".*no package mpe3; did you mean mpe2\\?$"),
        (
            {"_target_": PETTINGZOO, "name": "mpe2.simple_spred_v3"},
            ".*there is no module mpe2.simple_spred_v3; did you mean mpe2.simple_spread_v3\\?$",
        ),
        ({"_target_": PETTINGZOO, "name": "pastures"}, "env.name=pastures: pastures has no parallel_env"),
        ({"_target_": PETTINGZOO, "name": "pastures:pastur"}, ".*has no function pastur; did you mean [Pp]asture\\?$"),
        ({"_target_": PETTINGZOO, "name": "pastures:"}, "env.name=pastures:: give module:function$"),
        ({"_target_": PETTINGZOO, "name": "pastures:turns"}, ".*takes turns .*aec_to_parallel"),
        ({"_target_": PETTINGZOO, "name": "pastures:Field"}, ".*use env=pymarl with the same env._target_"),
        ({"_target_": PETTINGZOO, "name": "pastures:pasture", "wool": 1}, ".*unexpected keyword argument 'wool'"),
        ({"_target_": PETTINGZOO, "name": "mpe2.simple_spread_v3", "continuous_actions": True}, ".*only Discrete"),
        ({"_target_": PETTINGZOO, "name": "pastures:pasture", "reward": "best"}, "env.reward=best: unknown"),
        ({"_target_": PETTINGZOO, "name": "pastures:pasture", "workers": 0}, "env.workers=0: must be at least 1"),
        ({"_target_": GYMNASIUM, "id": "Nothing-v0"}, "env.id=Nothing-v0: .*env.import=PACKAGE"),
        (
            {"_target_": GYMNASIUM, "id": "Foraging-8x8-2p-3f-v3", "import": "lbforagin"},
            "env.import=lbforagin: cannot import lbforagin: there is no package lbforagin; did you mean lbforaging\\?$",
        ),
        ({"_target_": GYMNASIUM, "id": "Foraging-8x8-2p-3f-v9", "import": "lbforaging"}, "(?!.*give env.import)"),
        ({"_target_": GYMNASIUM, "id": "CartPole-v1"}, "env.id=CartPole-v1: .*a Tuple with one entry per agent"),
        ({"_target_": "pastures.Pasture", "door": "pymarl"}, ".*it has no get_obs.*; it is a PettingZoo environment"),
        ({"_target_": "pastures.Pasture"}, ".*use env=pettingzoo env.name=my_module:my_function"),
        ({"_target_": "pastures.Field"}, ".*use env=pymarl with the same env._target_"),
        ({"_target_": "pastures.Alone"}, ".*use env=gymnasium env.id="),
    ],
)
def test_what_cannot_be_used_is_one_line(settings, words):
    with pytest.raises(ConfigError, match=f"^{words}"):
        make_env(settings)
