"""Training from Python: ``qmix_jax.run``, ``qmix_jax.open_run`` and what they return."""

import importlib
import json
import signal
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from toy_env import make_toy

import qmix_jax
from qmix_jax.running import launch
from qmix_jax.running.interrupt import Interruption
from qmix_jax.settings.command_line import compose_config
from qmix_jax.settings.reading import to_container

TINY = [
    "num_seeds=2",
    "total_env_steps=240",
    "rollout.num_envs=4",
    "evaluation.interval_env_steps=80",
    "evaluation.episodes=8",
    "algorithm=vdn",
    "agent=feed_forward",
    "agent.hidden_size=8",
    "learner.updates_per_iteration=1",
    "learner.warmup_env_steps=0",
    "replay.capacity=64",
    "replay.batch_size=8",
    "logger.wandb.mode=disabled",
    "logger.progress=false",
    "checkpoint.every_minutes=null",
]


@pytest.fixture(scope="module")
def toy():
    return make_toy()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, toy):
    folder = tmp_path_factory.mktemp("library") / "run"
    return qmix_jax.run([*TINY, f"run_dir={folder}"], env=toy)


def test_an_environment_object_is_trained(trained):
    assert trained.settings["env"] == {"_target_": "qmix_jax.envs.base.Env", "name": "toy"}
    assert trained.summary["num_seeds"] == 2
    assert trained.seeds == [0, 1]
    assert trained.metrics["eval_return"].shape == (2, 4)
    assert (np.diff(trained.metrics["env_steps"]) > 0).all()
    assert "2 seed(s)" in repr(trained)
    assert "<td>seed 1</td>" in trained._repr_html_()


def test_metrics_are_a_table_and_a_figure(trained):
    table = trained.table()
    assert list(table["seed"]) == [0, 1] * 4
    figure = trained.plot(metrics=["eval_return"])
    assert figure._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(qmix_jax.ConfigError, match="did you mean 'eval_return'"):
        trained.plot(metrics=["eval_retur"])


def test_without_pandas_there_is_one_line(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(qmix_jax.ConfigError, match="needs pandas"):
        trained.table()


def test_a_policy_acts_for_one_team_and_for_a_batch(trained, toy):
    policy = trained.policy(seed=1, which="best")
    _, step = jax.vmap(toy.reset)(jax.random.split(jax.random.key(3), 5))
    actions, memory = policy.act(step.obs, None, step.avail_actions)
    assert np.take_along_axis(np.asarray(step.avail_actions), np.asarray(actions)[..., None], axis=-1).all()
    again, _ = policy.act(step.obs, memory, step.avail_actions)
    first, own = policy.act(step.obs[0], None, step.avail_actions[0])
    np.testing.assert_array_equal(first, actions[0])
    np.testing.assert_array_equal(policy.act(step.obs[0], own, step.avail_actions[0])[0], again[0])
    with pytest.raises(qmix_jax.ConfigError, match=r"obs: has the shape \[3\]"):
        policy.act(np.zeros(3), None, np.ones((2, 3), bool))
    with pytest.raises(qmix_jax.ConfigError, match="hidden: is of"):
        policy.act(step.obs[0], memory, step.avail_actions[0])


def test_a_policy_is_evaluated(trained):
    found = trained.policy().evaluate(episodes=20)
    assert found.episodes == 20
    assert found.episode_return.low <= found.episode_return.mean <= found.episode_return.high
    assert found.win_rate is not None
    mean, low, high = (f"{value:.3g}" for value in found.win_rate)
    assert repr(found).startswith("<20 greedy episodes: return ")
    assert f"; win rate {mean} ({low} to {high}); length " in repr(found)
    assert f"<td>win rate</td><td>{mean}</td><td>{low} to {high}</td>" in found._repr_html_()
    assert "win rate" not in repr(found._replace(win_rate=None))


def test_what_cannot_be_played_is_one_line(trained):
    with pytest.raises(qmix_jax.ConfigError, match="seed=7: not in this run"):
        trained.policy(seed=7)
    with pytest.raises(qmix_jax.ConfigError, match="which=last"):
        trained.policy(which="last")
    with pytest.raises(qmix_jax.ConfigError, match="nothing to draw"):
        trained.policy().render("episode.gif")
    with pytest.raises(qmix_jax.ConfigError, match="does not come with qmix_jax"):
        qmix_jax.open_run(trained.path).policy()
    assert qmix_jax.open_run(trained.path).policy(env=make_toy()).env.name == "toy"


def test_what_a_policy_is_given_is_checked_in_one_line(trained, tmp_path):
    policy = trained.policy(env=make_toy())
    _, step = policy.env.reset(jax.random.key(0))
    for arguments, words in (
        ((step.obs, None, None), "avail_actions: is not an array of numbers, but a NoneType"),
        (("here", None, step.avail_actions), "obs: is not an array of numbers, but a str"),
        ((step.obs, 3, step.avail_actions), "hidden: is a int; give what act"),
        ((step.obs, None, step.avail_actions.at[1].set(False)), "avail_actions: no action is available to agent 1"),
    ):
        with pytest.raises(qmix_jax.ConfigError, match=words):
            policy.act(*arguments)
    for episodes, words in ((0, "at least 1"), ("ten", "episodes=ten: must be a whole number")):
        with pytest.raises(qmix_jax.ConfigError, match=words):
            policy.evaluate(episodes)
    with pytest.raises(qmix_jax.ConfigError, match="seed=-1: must be at least 0"):
        policy.evaluate(1, seed=-1)
    with pytest.raises(qmix_jax.ConfigError, match="there is no folder"):
        trained.policy(env=make_toy()._replace(render=print)).render(tmp_path / "no" / "a.md")
    with pytest.raises(qmix_jax.ConfigError, match="no such policy file"):
        qmix_jax.load_policy(str(tmp_path / "none"))
    with pytest.raises(qmix_jax.ConfigError, match="env: settings are a dict"):
        qmix_jax.make_env("smax")


def test_a_folder_that_is_none_is_one_line(tmp_path):
    with pytest.raises(qmix_jax.ConfigError, match="not the folder of a run"):
        qmix_jax.open_run(tmp_path)
    (tmp_path / "mine" / "policies").mkdir(parents=True)
    (tmp_path / "mine" / "config.json").write_text("{}")
    for path, words in ((tmp_path, "; runs in it: .*mine$"), (tmp_path / "mine" / "policies", "; did you mean .*mine")):
        with pytest.raises(qmix_jax.ConfigError, match=words):
            qmix_jax.open_run(path)
    with pytest.raises(qmix_jax.ConfigError, match=r"did you mean .*mine\?$"):
        qmix_jax.open_run(tmp_path / "mien")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(qmix_jax.ConfigError, match="cannot be read"):
        qmix_jax.open_run(tmp_path)


def test_a_logger_for_a_resumed_run_leaves_its_others_as_they_are(tmp_path, monkeypatch):
    saved = to_container(compose_config(["env=two_step", "logger.wandb.mode=disabled", "logger.plot=false"]))
    (tmp_path / "config.json").write_text(json.dumps(saved))
    asked = []

    def run(request: launch.Request, *_: object, **__: object) -> launch.Ended:
        asked.append(request.config.logger)
        return launch.Ended(0, tmp_path)

    monkeypatch.setattr(launch, "run", run)
    qmix_jax.run([f"resume={tmp_path}", "logger=tensorboard"])
    assert (asked[0].tensorboard, asked[0].plot, asked[0].wandb.mode) == (True, False, "disabled")


def test_seeds_of_a_sweep_are_counted_once(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"algorithm": {"name": "qmix"}}))
    rows = [{"epoch": 1, "cell": cell, "seed": seed, "env_steps": 8} for cell in range(3) for seed in range(2)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert ": 3 cells of 2 seed(s), 8 steps each" in repr(qmix_jax.open_run(tmp_path))


def test_a_run_without_a_row_can_be_opened(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"algorithm": {"name": "qmix"}}))
    opened = qmix_jax.open_run(tmp_path)
    assert opened.metrics == {}
    assert "unfinished" in repr(opened)
    assert opened.plot()._repr_png_()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("env=two_step", r"settings are a list of texts, one each: \['env=two_step'\]"),
        ({"env": "two_step", "num_seeds": 2}, r"one each: \['env=two_step', 'num_seeds=2'\]"),
        (["--multirun"], "--multirun: an option of the command line"),
        (["--help"], "--help: an option of the command line"),
        ("env=two_step num_seeds=2", r"\['env=two_step', 'num_seeds=2'\]"),
        (3, "settings are a list of texts"),
        ([3], "each setting is a text"),
        (["env=two_stepp"], "did you mean 'two_step'"),
    ],
)
def test_settings_are_a_list_of_texts(overrides, words):
    with pytest.raises(qmix_jax.ConfigError, match=words):
        qmix_jax.make_algorithm(overrides)
    with pytest.raises(qmix_jax.ConfigError, match=words):
        qmix_jax.run(overrides)


def test_an_environment_object_is_adapted_as_the_arguments_say(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "example_package"))
    game = importlib.import_module("example_envs.guess").Guess(length=3)
    given = []

    def run(*arguments, **_):
        given.append(arguments)
        return launch.Ended(0, tmp_path)

    monkeypatch.setattr(launch, "run", run)
    monkeypatch.setattr("qmix_jax.results.opened.open_run", lambda path, env: env)
    env = qmix_jax.run([*TINY, f"run_dir={tmp_path}", "env.time_limit=terminal", "+env.episode_limit=2"], env=game)
    request, env_object = given[0]
    assert env_object is game
    own = {"time_limit": "terminal", "episode_limit": 2}
    assert request.container["env"] == {"_target_": "example_envs.guess.Guess", "name": "Guess"} | own
    assert launch._adapted(game, request.config).episode_limit == env.episode_limit == 2
    # What SMAX, the default of the command line, chooses for itself is not for every environment.
    qmix_jax.run([f"run_dir={tmp_path}"], env=game)
    container = given[1][0].container
    assert container["agent"]["_target_"].endswith(".RecurrentAgent")
    assert container["target"]["update_interval"] == 200
    assert container["exploration"]["preference_share"] == 0
    with pytest.raises(qmix_jax.ConfigError, match=r"env\.length: .* beside it only env\.time_limit"):
        qmix_jax.run(["env.length=3"], env=game)


def test_an_environment_is_given_once(toy):
    with pytest.raises(qmix_jax.ConfigError, match=r"env\.time_limit: .*leave out its settings"):
        qmix_jax.run(["env.time_limit=terminal"], env=toy)
    with pytest.raises(qmix_jax.ConfigError, match="env: an environment object was given"):
        qmix_jax.run(["env=two_step"], env=toy)
    with pytest.raises(qmix_jax.ConfigError, match="env: a dict, which is neither"):
        qmix_jax.run(["run_dir=nowhere"], env={})


def test_a_run_without_a_folder_gets_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(request, *_, **__):
        made.append(request.run_dir)
        return launch.Ended(0, request.run_dir)

    monkeypatch.setattr(launch, "run", run)
    monkeypatch.setattr("qmix_jax.results.opened.open_run", lambda path, env: path)
    made = []
    assert qmix_jax.run(["env=mpe", "algorithm=vdn"]) == made[0]
    assert made[0].name.endswith("-vdn-mpe")


def test_only_what_a_user_may_use_is_listed():
    assert dir(qmix_jax) == sorted(qmix_jax.__all__)
    assert {"run", "open_run", "make_algorithm", "Env"} <= set(dir(qmix_jax))
    for name in dir(qmix_jax):
        assert getattr(qmix_jax, name) is not None


def test_the_docstring_names_all_algorithms():
    known = {"IQL", "VDN", "QMIX", "Qatten", "weighted QMIX", "QPLEX", "QTRAN", "PQN"}
    assert qmix_jax.__doc__ is not None
    for name in known:
        assert name in qmix_jax.__doc__
    words = {"cw", "ow", "wqmix"} | {name.lower() for name in known}
    for path in (Path(__file__).parents[2] / "conf" / "algorithm").glob("*.yaml"):
        assert words & set(path.stem.split("_")), f"{path.stem} is of no family that the docstring names"


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)
    time.sleep(0.05)


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals are the main thread's")
def test_ctrl_c_leaves_the_process_alone():
    ended = []
    with pytest.raises(KeyboardInterrupt), Interruption(print, lambda: None, ended.append, keep_process=True):
        interrupt()
    with Interruption(print, lambda: None, ended.append, keep_process=True) as interruption:
        interruption.nothing_to_save = False
        interrupt()
        assert interruption.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            interrupt()
    assert ended == []
