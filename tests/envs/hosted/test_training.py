"""Whole runs in hosted environments: trained, resumed, played, and saved when the environment fails for good."""

import ast
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image, ImageSequence

import qmix_jax
from qmix_jax import evaluate, train
from qmix_jax.acting.hosted_rollout import HostedActor
from qmix_jax.envs.build import make_env
from qmix_jax.envs.hosted.team import EnvError
from qmix_jax.envs.settings import foreign_code
from qmix_jax.errors import ConfigError
from qmix_jax.library import make_algorithm
from qmix_jax.networks.agents import RecurrentAgent, init_agent
from qmix_jax.running import hosted_waves
from qmix_jax.running.resume import settings_to_resume

SMALL = [
    "agent.hidden_size=8",
    "algorithm=vdn",
    "rollout.num_envs=4",
    "replay.batch_size=8",
    "replay.capacity=64",
    "learner.warmup_env_steps=0",
    "learner.updates_per_iteration=1",
    "evaluation.interval_env_steps=40",
    "evaluation.episodes=6",
    "checkpoint.every_minutes=0",
    "logger.plot=false",
    "logger.wandb.mode=disabled",
    "logger.progress=false",
]
PASTURE = ["env=pettingzoo", "env.name=pastures:pasture", "env.workers=2", "env.episode_limit=5"]


@pytest.fixture(autouse=True)
def pastures(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield
    sys.modules.pop("pastures", None)


def rows(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def test_a_run_is_trained_resumed_and_played(tmp_path, capsys, workers):
    run_dir = tmp_path / "run"
    arguments = [*PASTURE, *SMALL, "num_seeds=2", "rollout.overlap=true", f"run_dir={run_dir}", "resume=true"]
    qmix_jax.run([*arguments, "total_env_steps=40"])
    half = rows(run_dir)
    qmix_jax.run([*arguments, "total_env_steps=160"])
    whole = rows(run_dir)
    assert whole[: len(half)] == half, "what was is kept"
    assert len(whole) > len(half)
    assert whole[-1]["env_steps"] >= 160
    assert all(row["loss"] >= 0 for row in whole)
    assert all(row["eval_episode_length"] == 4 for row in whole)
    summary = json.loads((run_dir / "summary.json").read_text())
    assert len(summary["seeds"]) == 2

    picture = tmp_path / "episode.gif"
    evaluate.main([f"run_dir={run_dir}", "episodes=5", "env.name=pastures:pasture", f"render={picture}"])
    assert "episode_length=4" in capsys.readouterr().out
    with Image.open(picture) as drawn:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(drawn)]
    assert [frame.shape for frame in frames] == [(8, 12, 3)] * 5, "the beginning and four steps"
    assert [int(frame[0, 0, 0]) for frame in frames] == [0, 20, 40, 60, 80]
    assert not workers()
    with pytest.raises(SystemExit, match="2"):
        evaluate.main([f"run_dir={run_dir}", "env.name=pastures:pasture", f"explain={tmp_path / 'inside'}"])
    assert "explain=" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [["rollout.sequences=continue", "learner.burn_in=1"], ["algorithm=pqn_qmix"]])
def test_a_run_whose_sequences_continue_is_resumed_exactly(tmp_path, kind):
    """Episodes begin anew after every evaluation, so a run that was interrupted there has lost nothing."""
    own = ["rollout.length=4", "rollout.overlap=true", "num_seeds=2", "optimizer.learning_rate_end=null"]
    steps = ["exploration.epsilon_steps=100", "replay.batch_size=4", "evaluation.interval_env_steps=72"]
    pqn = ["replay.memory_window=1"] if "algorithm=pqn_qmix" in kind else []
    small = [setting for setting in SMALL if not (pqn and setting.startswith(("mixer=", "replay.capacity=")))]

    def train_to(steps_in_all: int, name: str) -> None:
        more = [f"total_env_steps={steps_in_all}", f"run_dir={tmp_path / name}", "resume=true"]
        qmix_jax.run([*PASTURE, *small, *kind, *pqn, *own, *steps, *more])

    train_to(280, "whole")
    train_to(70, "half")
    train_to(280, "half")
    whole, half = ([{**row, "seconds": 0} for row in rows(tmp_path / name)] for name in ("whole", "half"))
    assert whole == half
    assert len(whole) > 2 * 2
    assert all(row["loss"] >= 0 for row in whole)


def test_a_sweep_with_wandb_offline_and_half_of_the_cells_stopped(tmp_path, workers):
    run_dir = tmp_path / "run"
    own = ["sweep.lr=[1e-3,1e-4]", "sweep.halving=1", "num_seeds=2", "total_env_steps=80", "logger.wandb.video=true"]
    small = [setting for setting in SMALL if "wandb" not in setting]
    qmix_jax.run([*PASTURE, *small, *own, "logger.wandb.mode=offline", f"run_dir={run_dir}"])
    assert not workers()
    found = rows(run_dir)
    assert len({row["cell"] for row in found}) == 2
    last = max(row["env_steps"] for row in found)
    assert len({row["cell"] for row in found if row["env_steps"] == last}) == 1, "one cell was stopped"
    assert len(list(run_dir.glob("wandb/offline-run-*"))) == 2 * 2 + 1


def test_no_episode_of_the_evaluation_is_trained_on():
    """NumPy pads the words of a seed with zeros, so that (3,) and (3, 0) are the same."""
    trained = {hosted_waves.training_seed(seed, iteration) for seed in (0, 3) for iteration in range(4)}
    assert len(trained) == 8
    assert not trained & {hosted_waves.evaluation_seed(seed) for seed in (0, 3)}


def test_an_episode_is_drawn_by_the_environment_itself():
    """LBF and RWARE draw with OpenGL, for which these tests have no display."""
    arguments = ["env=pettingzoo", "env.name=mpe2.simple_spread_v3", "+env.max_cycles=3"]
    algorithm, _ = make_algorithm([*arguments, "agent.hidden_size=4"])
    actor = HostedActor(algorithm.env, algorithm.agent, 1)
    params = init_agent(algorithm.agent, algorithm.env.obs_size, jax.random.key(0))
    episode = actor.draw_episode(params, 3)
    played = actor.greedy_episodes(params, 3, 1)
    algorithm.env.hosted.close()
    assert len(episode.env_states) == len(episode.actions) + 1 == played.episode_length[0] + 1
    np.testing.assert_allclose(sum(episode.rewards), played.episode_return[0], rtol=1e-5)
    frames = np.array(episode.env_states)
    assert frames.dtype == np.uint8
    assert frames.std() > 0, "there is something to see"
    assert len({frame.tobytes() for frame in frames}) > 1, "it moves"


def test_an_environment_without_pictures_is_one_line():
    env = make_env({"_target_": "pastures.Field", "door": "pymarl"})
    agent = RecurrentAgent(obs_size=2, num_agents=2, num_actions=3, hidden_size=4)
    params = init_agent(agent, 2, jax.random.key(0))
    with pytest.raises(
        ConfigError, match=r"^render: Field cannot be drawn: EnvError: its render\(\) returns no picture"
    ):
        HostedActor(env, agent, 1).draw_episode(params, 0)


def test_an_environment_that_fails_for_good_ends_the_run_with_everything_saved(tmp_path, capsys):
    run_dir = tmp_path / "run"
    dying = ["env=pettingzoo", "env.name=pastures:dying", "+env.how=kill", "env.restarts=0", "env.workers=1"]
    # The file is there during the first epochs: nothing happens.
    file = tmp_path / "file"
    file.touch()
    arguments = [*dying, f"+env.file={file}", *SMALL, f"run_dir={run_dir}", "resume=true"]
    qmix_jax.run([*arguments, "total_env_steps=40"])
    before = rows(run_dir)
    file.unlink()
    qmix_jax.run([*arguments, "total_env_steps=200"])
    said = capsys.readouterr().err
    assert "the environment failed: environment worker 0 was ended by SIGKILL; it said last: baa, the wolf" in said
    assert rows(run_dir) == before
    qmix_jax.run([*arguments, "total_env_steps=80"])
    assert len(rows(run_dir)) > len(before), "the file is there again, and the run goes on"


def test_a_broken_environment_is_status_2_and_one_line(monkeypatch, capsys, tmp_path):
    arguments = [*PASTURE, "+env.fault=mask", *SMALL, "total_env_steps=40", f"run_dir={tmp_path}/run"]
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    with pytest.raises(SystemExit, match="2"):
        train.main()
    said = capsys.readouterr().err
    assert said == "error: env.name=pastures:pasture: step 2: no action is available to staying\n"


@pytest.mark.parametrize(
    ("env", "keys"),
    [
        ({"_target_": "qmix_jax.envs.hosted.pettingzoo.make_pettingzoo", "name": "os:system"}, ["name"]),
        ({"_target_": "qmix_jax.envs.hosted.pettingzoo.make_pettingzoo", "name": "mpe2.simple_spread_v3"}, []),
        (
            {"_target_": "qmix_jax.envs.hosted.gymnasium.make_gymnasium", "id": "a:B-v0", "import": "x"},
            ["id", "import"],
        ),
        ({"_target_": "qmix_jax.envs.hosted.gymnasium.make_gymnasium", "id": "B-v0", "import": "rware"}, []),
        ({"_target_": "qmix_jax.envs.jaxmarl.make_smax", "name": "a:b"}, []),
    ],
)
def test_a_run_folder_alone_cannot_name_code(env, keys, tmp_path):
    assert foreign_code(env) == keys
    (tmp_path / "config.json").write_text(json.dumps({"env": env}))
    if keys:
        with pytest.raises(ConfigError, match=f"env.{keys[0]}=.* names code to run"):
            settings_to_resume({"resume": str(tmp_path)}, [])


def test_episodes_are_not_played_again_after_a_failure_in_the_middle_of_an_epoch(tmp_path, monkeypatch):
    run_dir, seeds = tmp_path / "run", []
    # The one checkpoint is that of the failure.
    small = ["checkpoint.every_minutes=1000" if "every_minutes" in setting else setting for setting in SMALL]
    arguments = [*PASTURE, *small, "env.restarts=0", "rollout.overlap=true", f"run_dir={run_dir}", "resume=true"]
    collect = HostedActor.collect

    def counted(actor, agent_params, level, seed, *more):
        seeds.append(seed)
        if len(seeds) == 4:
            raise EnvError("the dog barked")
        return collect(actor, agent_params, level, seed, *more)

    monkeypatch.setattr(HostedActor, "collect", counted)
    qmix_jax.run([*arguments, "total_env_steps=60"])
    assert len(rows(run_dir)) == 1
    assert len(seeds) == 4, "two iterations an epoch"
    qmix_jax.run([*arguments, "total_env_steps=120"])
    assert len(rows(run_dir)) > 1
    learned, resumed = seeds[:3], seeds[4:]
    assert not set(learned) & set(resumed)
    assert len(set(resumed)) == len(resumed)


def test_a_run_in_code_of_ones_own_is_played_from_python_and_says_how(tmp_path, capsys):
    name = "pastures:pasture"
    qmix_jax.run([*PASTURE, *SMALL, "total_env_steps=40", f"run_dir={tmp_path / 'pettingzoo'}"])
    run = qmix_jax.open_run(tmp_path / "pettingzoo")
    with pytest.raises(ConfigError) as error:
        run.policy()
    given = str(error.value).partition("(in Python: policy(env=")[2].removesuffix("))")
    assert ast.literal_eval(given) == {"name": name}
    assert run.policy(env=ast.literal_eval(given)).evaluate(4).episode_length.mean == 4

    own = ["env=pymarl", "env._target_=pastures.Field", "env.workers=2", "env.reward=mean", "env.episode_limit=3"]
    qmix_jax.run([*own, *SMALL, "+env.win=2", "total_env_steps=40", f"run_dir={tmp_path / 'pymarl'}"])
    evaluate.main([f"run_dir={tmp_path / 'pymarl'}", "env._target_=pastures.Seeded", "episodes=4"])
    assert "episode_length=3" in capsys.readouterr().out, "the limit of the run, and its door, with another class"
    with pytest.raises(ConfigError, match=r"in Python: policy\(env=\{'_target_': 'pastures.Field'\}\)"):
        qmix_jax.open_run(tmp_path / "pymarl").policy()
