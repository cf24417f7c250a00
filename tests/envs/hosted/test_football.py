"""``env=football``: with gfootball where that is installed, and everywhere with a small game of the same interface."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import qmix_jax
from qmix_jax import evaluate
from qmix_jax.envs.build import make_env
from qmix_jax.envs.hosted.football import ACTIVE, Football
from qmix_jax.errors import ConfigError
from qmix_jax.settings.command_line import compose_config
from qmix_jax.settings.reading import to_container

MAKE = "qmix_jax.envs.hosted.football.make_football"
INSTALLED = importlib.util.find_spec("gfootball") is not None
real = pytest.mark.skipif(not INSTALLED, reason="gfootball is not installed: docs/football.md says how")
RIGHT, SHOT, NOTHING = 5, 12, 0


@pytest.fixture
def pitch(monkeypatch):
    """The small game in place of gfootball, here and in worker processes."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "gfootball"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "pitch"))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "gfootball"]:
        del sys.modules[name]


def test_observations_name_the_player_and_the_state_does_not(pitch):
    game = Football("academy_toy", 3)
    game.seed(1)
    game.reset()
    obs = np.array(game.get_obs())
    assert obs.shape == (3, 115)
    np.testing.assert_array_equal(obs[:, ACTIVE].argmax(axis=1), [0, 1, 2])
    state = game.get_state()
    assert state.shape == (game.get_env_info()["state_shape"],) == (104,)
    np.testing.assert_array_equal(state, np.concatenate([obs[1, :97], obs[1, 108:]]))
    assert [avail.tolist() for avail in game.get_avail_actions()] == [[1] * 19] * 3


def test_a_goal_counts_once_and_wins(pitch):
    game = Football("academy_toy", 2)
    game.seed(0)
    game.reset()
    for _ in range(6):
        assert game.step([RIGHT, NOTHING]) == (0.0, False, {"battle_won": False, "episode_limit": False})
    assert game.step([NOTHING, SHOT]) == (1.0, True, {"battle_won": True, "episode_limit": False})
    game.reset()
    assert game.step([SHOT, NOTHING]) == (0.0, True, {"battle_won": False, "episode_limit": False})


def test_a_game_that_goes_on_after_a_goal_is_still_won(pitch):
    game = Football("academy_match", 1, limit=9)
    game.reset()
    told = [game.step([SHOT if step == 6 else RIGHT])[2] for step in range(9)]
    assert [step["battle_won"] for step in told] == 6 * [False] + 3 * [True]
    game.reset()
    assert game.step([RIGHT])[2]["battle_won"] is False


def test_the_time_limit_is_told_from_the_end_of_the_game(pitch):
    game = Football("academy_toy", 1, rewards="checkpoints", limit=2)
    game.reset()
    assert game.step([RIGHT]) == (0.1, False, {"battle_won": False, "episode_limit": False})
    assert game.step([RIGHT]) == (0.1, True, {"battle_won": False, "episode_limit": True})
    game.reset()
    assert game.step([NOTHING])[1] is False
    assert game.step([SHOT])[1:] == (True, {"battle_won": False, "episode_limit": False})


def test_the_seed_decides_the_episode(pitch):
    game = Football("academy_toy", 1)
    starts = []
    for seed in (3, 4, 3):
        game.seed(seed)
        game.reset()
        starts.append(game.get_state()[0])
    assert starts[0] == starts[2] != starts[1]


def test_the_pitch_from_above(pitch):
    game = Football("academy_toy", 3)
    game.reset()
    picture = game.render()
    assert picture.shape == (300, 600, 3)
    assert picture.dtype == np.uint8
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10


def test_a_run_is_trained_and_its_best_policy_filmed(pitch, tmp_path, workers):
    arguments = "env=football env.scenario=academy_toy env.max_steps=5 env.workers=1 total_env_steps=40"
    arguments += " rollout.num_envs=2 replay.capacity=8 replay.batch_size=2 learner.updates_per_iteration=1"
    arguments += " evaluation.interval_env_steps=20 evaluation.episodes=2 learner.warmup_env_steps=0"
    arguments += " agent.hidden_size=4 logger.wandb.mode=disabled logger.plot=false logger.progress=false"
    run = qmix_jax.run([*arguments.split(), f"run_dir={tmp_path / 'run'}"])
    assert run.settings["env"]["scenario"] == "academy_toy"
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["env_steps"] >= 40
    assert all(0 <= row["eval_win_rate"] <= 1 for row in rows)
    film = tmp_path / "episode.gif"
    evaluate.main([f"run_dir={tmp_path / 'run'}", "episodes=2", "which=best", f"render={film}"])
    with Image.open(film) as drawn:
        assert drawn.size == (600, 300)
        assert 2 <= drawn.n_frames <= 6
    assert not workers()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"scenario": "5_vs_5"}, "env.scenario=5_vs_5: "),
        ({"rewards": "goals"}, "env.rewards=goals: "),
        ({"agents": 0}, "env.agents=0: "),
        ({"max_steps": 0}, "env.max_steps=0: "),
    ],
)
def test_bad_settings_are_one_line(pitch, settings, words):
    with pytest.raises(ConfigError, match=f"^{words}") as caught:
        make_env({"_target_": MAKE, **settings})
    assert "\n" not in str(caught.value)


def test_the_page_trains_what_it_says(pitch):
    page = (Path(__file__).parents[3] / "docs" / "football.md").read_text()
    commands = [line.split()[3:] for line in page.splitlines() if line.startswith("python -m qmix_jax.train ")]
    assert len(commands) > 1
    for arguments in commands:
        settings = to_container(compose_config(arguments))["env"]
        env = make_env(settings)
        assert env.name == f"football-{settings['scenario']}"
        assert env.num_agents == settings["agents"]


@pytest.mark.skipif(INSTALLED, reason="gfootball is installed")
def test_without_gfootball_one_line_says_where_to_read():
    with pytest.raises(ConfigError, match=r"needs gfootball, which docs/football\.md says how to install"):
        make_env({"_target_": MAKE})


@real
def test_the_real_game_is_what_the_door_expects():
    env = make_env({"_target_": MAKE, "workers": 1})
    assert (env.num_agents, env.num_actions, env.obs_size, env.state_size) == (3, 19, 115, 104)
    assert env.episode_limit == 150
    assert env.has_win_rate
    game = Football("academy_3_vs_1_with_keeper", 3)
    game.seed(1)
    game.reset()
    np.testing.assert_array_equal(np.array(game.get_obs())[:, ACTIVE].sum(axis=1), [1, 1, 1])
    starts = game.get_state()
    assert np.abs(starts[:88]).max() > 0.5, "players have places"
    game.close()
