"""Looking inside a policy: saved mixers, one episode with what was computed, and its picture."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from qmix_jax import evaluate, make_algorithm
from qmix_jax.errors import ConfigError
from qmix_jax.logging import RunInfo
from qmix_jax.logging.files import Unsaved
from qmix_jax.mixers.base import example_input
from qmix_jax.results.explanation.figures import frames_of, principal_components
from qmix_jax.results.explanation.mixers import load_mixer, save_best_mixers, save_mixers
from qmix_jax.results.explanation.trace import discounted, trace
from qmix_jax.results.explanation.write import explain
from qmix_jax.results.play import Plan, first_episode
from qmix_jax.results.policies import save_policy
from qmix_jax.results.team import Choice, load_team
from qmix_jax.settings.command_line import compose_config
from qmix_jax.settings.reading import to_container


class Networks(NamedTuple):
    agent: Any
    mixer: Any


def write_policies(run_dir: Path, mixer: str) -> Path:
    """A run of untrained networks for the two-step game."""
    arguments = ["env=two_step", f"mixer={mixer}", "agent.hidden_size=8", "reward.scale=2", "gamma=0.5"]
    config = to_container(compose_config(arguments))
    algorithm, _ = make_algorithm(arguments)
    env = algorithm.env
    _, step = env.reset(jax.random.key(0))
    agent = algorithm.agent.init(
        jax.random.key(1), algorithm.agent.initial_hidden(), step.obs, np.zeros(env.num_agents, np.int32)
    )
    mixed = algorithm.mixer.init(jax.random.key(2), example_input(env.num_agents, env.num_actions, env.state_size))
    run = RunInfo(run_dir, config, [0], 10, "qmix", env.name, has_win_rate=False)
    sizes = {name: getattr(env, name) for name in ("num_agents", "num_actions", "obs_size", "state_size")}
    for which in ("final", "best"):
        description = {"agent": config["agent"], "env": config["env"], "sizes": sizes}
        save_policy(run_dir / "policies" / "seed_0" / which, agent, description)
    save_mixers(Networks(agent, jax.tree.map(lambda x: x[None], mixed)), run.lanes, run, Unsaved())
    return run_dir


@pytest.fixture(scope="module")
def qmix(tmp_path_factory) -> Path:
    return write_policies(tmp_path_factory.mktemp("explained") / "run", "qmix")


def test_an_episode_is_explained_by_the_command_line(qmix, tmp_path, capsys):
    out = tmp_path / "out"
    evaluate.main([f"run_dir={qmix}", "episodes=2", f"explain={out}"])
    assert f"explain={out / 'episode.png'}" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {"episode.png", "episode.pdf", "episode.json", "tables.png"}
    numbers = json.loads((out / "episode.json").read_text())
    assert np.shape(numbers["q"]) == (2, 2, 2)
    assert np.shape(numbers["q_tot"]) == (2,)
    assert np.shape(numbers["slope"]) == (2, 2)


def test_what_is_shown_is_what_was_played(qmix):
    team, plan = load_team(Choice(str(qmix))), Plan(3)
    mixer = load_mixer(qmix / "policies" / "seed_0" / "final", team.env)
    assert mixer is not None
    found = trace(team, plan, mixer)
    assert found.episode.rewards == first_episode(team, plan).rewards
    assert found.q_tot is not None
    assert found.slope is not None
    np.testing.assert_array_equal(found.action, found.q.argmax(axis=-1))
    np.testing.assert_allclose(found.returns, discounted(2 * np.array(found.episode.rewards), 0.5))
    for table, q_tot, reward in zip(found.tables, found.q_tot, found.episode.rewards, strict=True):
        assert table.q_tot is not None
        assert table.q_tot[tuple(table.action)] == pytest.approx(q_tot, rel=1e-5)
        assert table.reward[tuple(table.action)] == reward
        assert table.q_tot.max() == pytest.approx(q_tot, rel=1e-5), "the mixer is monotone"
    assert (found.slope >= 0).all()


@pytest.mark.parametrize("mixer", ["none", "vdn"])
def test_mixers_without_parameters(mixer, tmp_path):
    run_dir = write_policies(tmp_path / "run", mixer)
    team = load_team(Choice(str(run_dir)))
    loaded = load_mixer(run_dir / "policies" / "seed_0" / "final", team.env)
    found = trace(team, Plan(1), loaded)
    if mixer == "none":
        assert found.q_tot is None
    else:
        assert found.q_tot is not None
        np.testing.assert_allclose(found.q_tot, found.q.max(axis=-1).sum(axis=-1), rtol=1e-5)
        np.testing.assert_allclose(found.slope, 1)


def test_a_mixer_of_one_s_own_is_named_on_the_command_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "own_mixer.py").write_text("from qmix_jax.mixers.qmix import QMIXMixer as Mine\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    run_dir = write_policies(tmp_path / "run", "qmix")
    file = run_dir / "policies" / "seed_0" / "mixer.json"
    description = json.loads(file.read_text())
    description["mixer"]["_target_"] = "own_mixer.Mine"
    file.write_text(json.dumps(description))
    arguments = [f"run_dir={run_dir}", "episodes=1", f"explain={tmp_path / 'inside'}"]
    with pytest.raises(SystemExit, match="2"):
        evaluate.main(arguments)
    said = capsys.readouterr()
    assert "name it on the command line: mixer._target_=own_mixer.Mine" in said.err
    assert "return=" not in said.out, "before anything is played"
    evaluate.main([*arguments, "mixer._target_=own_mixer.Mine"])
    assert (tmp_path / "inside" / "episode.png").exists()
    with pytest.raises(SystemExit, match="2"):
        evaluate.main([f"run_dir={run_dir}", "mixer._target_=own_mixer.Mine"])
    assert "give it beside explain=FOLDER only" in capsys.readouterr().err


def test_the_best_policy_is_shown_with_its_own_mixer(tmp_path, capsys):
    run_dir = write_policies(tmp_path / "run", "vdn")
    own = run_dir / "policies" / "seed_0"
    out = tmp_path / "out"

    def q_tot(*arguments: str) -> Any:
        evaluate.main(["episodes=1", f"explain={out}", *arguments])
        return json.loads((out / "episode.json").read_text())["q_tot"]

    assert q_tot(f"run_dir={run_dir}", "which=best") is None, "the mixer of the final policy is not its own"
    config = to_container(compose_config(["env=two_step", "mixer=vdn"]))
    run = RunInfo(run_dir, config, [0], 10, "vdn", "two_step", has_win_rate=False)
    networks = Networks({}, {})
    save_best_mixers(lambda: networks, run.lanes, np.array([20]), np.array([30]), run, Unsaved())
    assert not (own / "best_mixer.json").exists()
    save_best_mixers(lambda: networks, run.lanes, np.array([20]), np.array([20]), run, Unsaved())
    assert q_tot(f"run_dir={run_dir}", "which=best") is None, "a mixer of 20 steps, and a policy of another time"
    description = json.loads((own / "best.json").read_text())
    (own / "best.json").write_text(json.dumps({**description, "env_steps": 20}))
    assert len(q_tot(f"run_dir={run_dir}", "which=best")) == 2
    assert len(q_tot(f"policy={own / 'best'}")) == 2


def test_a_full_disk_does_not_end_training(tmp_path, capsys):
    run_dir = tmp_path / "run"
    (tmp_path / "run").write_text("not a folder")
    config = to_container(compose_config(["env=two_step", "mixer=vdn"]))
    run = RunInfo(run_dir, config, [0], 10, "vdn", "two_step", has_win_rate=False)
    unsaved = Unsaved()
    save_best_mixers(lambda: Networks({}, {}), run.lanes, np.array([20]), np.array([20]), run, unsaved)
    assert capsys.readouterr().err.startswith("warning: could not save policies/seed_0/best_mixer, the run goes on: ")
    assert unsaved.names == {"policies/seed_0/best_mixer"}


def test_a_mixer_is_untrusted_data(qmix, tmp_path, capsys):
    own = write_policies(tmp_path / "run", "vdn")
    path = own / "policies" / "seed_0" / "mixer.json"
    whole = json.loads(path.read_text())
    for change, words in (
        ({"format": "other"}, "not of the format"),
        ({"gamma": None}, "is damaged"),
        ({"mixer": {"_target_": "os.system"}}, "does not come with qmix_jax"),
        ({"mixer": {"_target_": "qmix_jax.mixers.qmix.QMIXMixer"}}, "does not fit two_step"),
    ):
        path.write_text(json.dumps({**whole, **change}))
        with pytest.raises(SystemExit, match="2"):
            evaluate.main([f"run_dir={own}", "episodes=1", f"explain={tmp_path / 'out'}"])
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert words in lines[0]


def test_an_algorithm_without_a_mixer_saves_none(tmp_path):
    class Only(NamedTuple):
        agent: Any

    run = RunInfo(tmp_path, {}, [0], 10, "mine", "toy", has_win_rate=False)
    save_mixers(Only({}), run.lanes, run, Unsaved())
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_one_line(qmix, tmp_path):
    (tmp_path / "file").write_text("")
    choice = Choice(str(qmix))
    with pytest.raises(ConfigError, match="cannot be written"):
        explain(choice, load_team(choice), Plan(1), None, tmp_path / "file" / "below")


def test_principal_components_are_those_of_the_widest_spread():
    hidden = np.zeros((4, 1, 3))
    hidden[:, 0, 1] = [0, 2, 4, 6]
    points, share = principal_components(hidden)
    np.testing.assert_allclose(np.abs(points[:, 0, 0]), [3, 1, 1, 3])
    np.testing.assert_allclose(points[:, 0, 1], 0, atol=1e-12)
    assert share == pytest.approx(1)
    assert principal_components(np.zeros((2, 2, 0)))[1] == 0


def test_a_table_is_no_film(qmix):
    team = load_team(Choice(str(qmix)))
    assert frames_of(team.env, first_episode(team, Plan(1))) == []
