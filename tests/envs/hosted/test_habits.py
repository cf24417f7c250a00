"""What people's environments do beside the letter of their interface: understood as meant, or refused in one line."""

import sys
from pathlib import Path

import numpy as np
import pytest

from qmix_jax.envs.build import as_env, make_env
from qmix_jax.envs.hosted import group
from qmix_jax.envs.hosted.gymnasium import GymnasiumDoor
from qmix_jax.envs.hosted.pettingzoo import PettingZooDoor
from qmix_jax.envs.hosted.pymarl import PyMarlDoor
from qmix_jax.envs.hosted.spaces import flat_size
from qmix_jax.envs.hosted.team import EnvError, Team, ends
from qmix_jax.errors import ConfigError, in_a_line


@pytest.fixture(autouse=True)
def habits(monkeypatch, trials_here):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield
    sys.modules.pop("habits", None)


def herd(habit: str, reward: str = "sum") -> Team:
    return Team(PettingZooDoor("habits:Herd", {"habit": habit}), reward, 10)


def fold(habit: str = "") -> Team:
    return Team(PyMarlDoor("habits.Fold", {"habit": habit}), "sum", 10)


def play(team: Team, action: int = 0) -> list:
    team.reset(0)
    results = []
    while not results or not (results[-1].terminated or results[-1].truncated):
        results.append(team.step(np.full(len(team.spec.agents), action)))
    return results


@pytest.mark.parametrize(
    ("habit", "reward", "paid"),
    [
        ("pays the dead", "sum", [3, 3, 3, 3]),
        ("pays the dead", "mean", [1, 1, 1, 1]),
        ("pays the dead", "first", [1, 1, 1, 1]),
        ("pays the dead", "individual", [[1, 1, 1]] * 4),
        ("pays in arrays", "sum", [3, 3, 2, 2]),
        ("pays in arrays", "first", [1, 1, 1, 1]),
        ("pays in arrays", "individual", [[1, 1, 1]] * 2 + [[0, 1, 1]] * 2),
    ],
)
def test_whoever_is_paid_counts_there_or_not(habit, reward, paid):
    np.testing.assert_array_equal([result.reward for result in play(herd(habit, reward))], paid)


@pytest.mark.parametrize(
    ("terminated", "truncated", "expected"),
    [
        (True, True, (True, False)),
        (False, True, (False, True)),
        ([True, False], [False, True], (False, True)),
        ([False, False], [True, False], (False, False)),
        (np.array([True, True]), [False, False], (True, False)),
    ],
)
def test_an_episode_is_over_when_it_is_for_everyone(terminated, truncated, expected):
    assert ends(terminated, truncated) == expected


def test_a_true_end_at_the_limit_is_a_true_end():
    last = play(herd("both flags"))[-1]
    assert (last.terminated, last.truncated) == (True, False)


def test_at_a_true_end_no_action_need_be_left():
    last = play(herd("no action at the end"), action=1)[-1]
    assert last.terminated
    np.testing.assert_array_equal(last.view.avail, [[True, False]] * 3)


def test_all_parts_of_an_observation_are_seen():
    team = herd("parts")
    assert team.spec.obs_sizes == (5, 5, 5)
    view = team.reset(0)
    np.testing.assert_array_equal(sorted(view.obs[0]), [0, 0, 7, 7, 7])
    np.testing.assert_array_equal(view.avail, [[False, True]] * 3)


@pytest.mark.parametrize("habit", ["state is a number", "spaces are dictionaries"])
def test_attributes_of_other_kinds_do_no_harm(habit):
    team = herd(habit)
    assert team.spec.state_size is None
    assert len(play(team)) == 4


@pytest.mark.parametrize(
    ("habit", "words"),
    [
        ("set", "possible_agents is a set"),
        ("no seed", "write reset(self, seed=None, options=None)"),
        ("nothing at the end", "step 4: no observations come with the time limit"),
    ],
)
def test_what_has_no_meaning_is_refused(habit, words):
    with pytest.raises(EnvError) as error:
        play(herd(habit))
    assert words in str(error.value)


def test_gymnasium_s_masks_in_observations_and_clocks_of_its_own_for_each_agent():
    team = Team(GymnasiumDoor("Row-v0", "habits", {}), "sum", 9)
    assert team.spec.obs_sizes == (3, 3)
    np.testing.assert_array_equal(team.reset(0).avail, [[False, False, True]] * 2)
    results = play(team, action=2)
    assert [(result.terminated, result.truncated) for result in results] == [(False, False)] * 2 + [(False, True)]


@pytest.mark.parametrize("habit", ["", "arrays", "limit", "shape in an array"])
def test_pymarl_s_flags_may_be_of_each_agent_and_a_state_is_not_needed(habit):
    team = fold(habit)
    assert team.spec.state_size is None
    if habit == "limit":  # what could be done there is asked for
        with pytest.raises(EnvError, match="step 3: no action is available"):
            play(team)
        return
    results = play(team)
    assert [(result.terminated, result.reward) for result in results] == [(False, 2), (False, 2), (True, 2)]


def test_a_reset_that_takes_a_seed_gets_it():
    team = fold()
    starts = [team.reset(seed).obs[0, 0] for seed in (1, 2, 1)]
    assert starts[0] == starts[2] != starts[1]


def test_a_factory_that_takes_any_argument_is_not_given_a_seed(tmp_path, monkeypatch):
    (tmp_path / "makes.py").write_text(
        "import pastures\n\ndef make(**settings):\n    return pastures.Field(**settings)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert len(play(Team(PyMarlDoor("makes.make", {"win": 9}), "sum", 10))) == 5


def test_a_render_without_a_mode_draws():
    assert fold().door.draw().shape == (4, 4, 3)


def test_a_door_does_not_send_to_itself():
    class Fence:
        def step(self):
            """Nothing."""

        get_obs = get_avail_actions = reset = step

    sys.modules["habits"] = type(sys)("habits")
    sys.modules["habits"].Fence = Fence
    with pytest.raises(EnvError) as error:
        PyMarlDoor("habits.Fence", {})
    assert str(error.value).endswith("it has no get_env_info")
    with pytest.raises(ConfigError, match="it is a class: give one that is made"):
        as_env(Fence)


def test_a_script_is_no_module_for_workers():
    with pytest.raises(ConfigError, match="put make into a module of its own"):
        PettingZooDoor("__main__:make", {})


def test_jaxmarl_s_wrappers_are_named():
    from jaxmarl import make
    from jaxmarl.wrappers.baselines import LogWrapper

    with pytest.raises(ConfigError, match="is wrapped in JaxMARL's LogWrapper; give the environment inside it"):
        as_env(LogWrapper(make("MPE_simple_spread_v3")))


def test_gymnasium_s_spaces_may_be_lists():
    team = Team(GymnasiumDoor("RowOfLists-v0", "habits", {}), "sum", 9)
    assert team.spec.num_actions == (3, 3)
    assert len(play(team, action=2)) == 3


def test_spaces_of_another_package_are_named():
    class Discrete:
        n = 3

    with pytest.raises(EnvError, match=r"the observations of a are a test_habits\.Discrete; use gymnasium\.spaces$"):
        flat_size(Discrete(), "a")


def test_a_limit_above_the_environment_s_own_is_told(capsys):
    settings = {"_target_": "habits.Fold", "door": "pymarl", "episode_limit": 50}
    assert make_env(settings).episode_limit == 9
    assert "note: env.episode_limit=50: env._target_=habits.Fold tells a limit of 9 itself" in capsys.readouterr().err


def test_what_workers_print_does_not_fill_the_disk(tmp_path, monkeypatch):
    with (tmp_path / "words").open("ab") as file:
        monkeypatch.setattr(group, "FILES", [file.fileno()])
        file.write(b"x" * (group.MOST_WORDS + 1))
        file.flush()
        group._forget_words()
        file.write(b"last")
    assert (tmp_path / "words").read_bytes() == b"last"


def test_an_error_that_holds_an_array_is_cut():
    assert len(in_a_line(ValueError("x" * 10_000))) < 1100
