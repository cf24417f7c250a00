"""What users get wrong in environments of their own: one line before anything is compiled, or put right and said."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmix_jax.algorithms.loop import train
from qmix_jax.envs.build import as_env, make_env
from qmix_jax.envs.settings import say
from qmix_jax.errors import ConfigError
from qmix_jax.library import make_algorithm

HERE = Path(__file__).parent
MAKE, MULTI = "broken_envs.make_env", "broken_envs.Multi"
DOORS = "goes to env=pettingzoo, env=gymnasium or env=pymarl"


@pytest.fixture(autouse=True)
def broken_envs(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    say.cache_clear()
    yield
    sys.modules.pop("broken_envs", None)


BROKEN = {
    "env-if": (MAKE, "if", "step fails: TracerBoolConversionError: .*use jnp.where"),
    "env-numpy": (MAKE, "numpy-step", f"step fails: TracerArrayConversionError.*use jax.numpy; .*{DOORS}"),
    "env-state": (MAKE, "state-changes", "step returns .*return .env_state, TimeStep"),
    "env-reward-each": (MAKE, "each", r"a reward for each agent, float32\[2\].*env.reward=sum\|mean\|first"),
    "env-reward-shape": (MAKE, "reward-shape", r"step returns float32\[1,1\], expected float32\[\]; return one number"),
    "env-done-shape": (MAKE, "done-shape", r"step returns bool\[2\], expected bool\[\]; return one number"),
    "env-obs-shape": (MAKE, "obs-shape", r"float32\[2,2\], expected float32\[2,4\] \(num_agents=2, obs_size=4\)"),
    "env-avail-shape": (MAKE, "avail-shape", r"bool\[2,2\], expected bool\[2,3\] .*; correct the size"),
    "env-num-actions": (MAKE, "actions", r"bool\[2,3\], expected bool\[2,5\] .*num_actions=5\); correct the size"),
    "env-num-agents": (MAKE, "agents", "num_agents=0; it must be a whole number of at least 1"),
    "env-no-actions": (MAKE, "no-actions", "no action is available to agent 1 after reset; give .* a no-op"),
    "env-nan": (MAKE, "nan", "the observation of agent 1 is not finite after reset; look for"),
    "env-late-nan": (MAKE, "late-nan", "the observation of agent 0, 1 is not finite after the first step; look for"),
    "env-inf-state": (MAKE, "inf-state", "the state is not finite after reset; look for"),
    "env-reward-nan": (MAKE, "reward-nan", "the reward is not finite after the first step; look for"),
    "env-avail-nan": (MAKE, "avail-nan", "the availability of agent 0, 1 is not finite after reset; look for"),
    "env-complex": (MAKE, "complex", r"obs: reset and step return complex64\[2,4\], expected float32"),
    "env-obs-none": (MAKE, "obs-none", r"obs: reset and step return None, expected float32\[2,4\]"),
    "env-reward-none": (MAKE, "reward-none", r"reward: step returns None, expected float32\[\]; return one number"),
    "env-won-none": (MAKE, "won-none", r"won: step returns None, expected bool\[\]; return one number"),
    "env-discount-nan": (MAKE, "discount-nan", "the discount is not finite after the first step; look for"),
    "env-discount-2": (MAKE, "discount-2", "the discount is 2 after the first step; return 0 after a termination"),
    "env-callback": (MAKE, "callback", "the first step of a batch of episodes fails: ZeroDivisionError"),
    "env-exit": (MAKE, "exit-reset", r"reset fails: SystemExit: no map.*; an environment must not end"),
    "env-agents-array": (MAKE, "agents-array", r"num_agents=Array\(2.* whole number of at least 1, .*; use int\(\)"),
    "env-return-array": (MAKE, "return-array", r"max_return=Array\(2.*; give the largest absolute return"),
    "env-state-array": (MAKE, "state-array", r"state_size=Array\(.* whole number of at least 1"),
    "env-shape-list": (MAKE, "shape-list", r"image_shape=\[2, 2, 1\]; it must be hashable: a tuple instead of a list"),
    "multi-agents-2": (MULTI, "agents-2", "agents=2; it must be a list of different names, like"),
    "multi-agents-none": (MULTI, "agents-none", "agents=None; it must be a list of different names, like"),
    "multi-agents-empty": (MULTI, "agents-empty", r"agents=\[\]; it must be a list of different names, like"),
    "multi-agents-twice": (MULTI, "agents-twice", r"agents=\['a', 'a'\]; it must be a list of different names, like"),
    "multi-agents-text": (MULTI, "agents-text", "agents='ab'; it must be a list of different names, like"),
    "multi-obs-none": (MULTI, "obs-none", "the observation of b is None after reset; return real numbers, zeros for"),
    "multi-complex": (MULTI, "complex64", "the observation of a is complex64 after reset; return real numbers"),
    "multi-exit": ("broken_envs.Exiting", None, "making the environment fails: SystemExit: 3"),
    "multi-if": (MULTI, "if", "step_env fails: TracerBoolConversionError.*use jnp.where"),
    "multi-numpy": (MULTI, "numpy", f"step_env fails: TracerArrayConversionError.*{DOORS}"),
    "multi-no-all": (MULTI, "no-all", r"dones without '__all__' .*; add dones\['__all__'\]"),
    "multi-done-list": (MULTI, "done-list", r"dones without '__all__' \(a list\); add"),
    "multi-done-shape": (MULTI, "done-shape", r"dones\['__all__'\] has the shape .*; return one bool"),
    "multi-list": (MULTI, "list", "reset returns observations as a list; return a dict with an entry for every agent"),
    "multi-missing": (MULTI, "missing", "step_env returns observations without b; return .* zeros for one that is out"),
    "multi-grows": (MULTI, "obs-grows", "the observation of b is .* after reset and .* after step_env; return the"),
    "multi-no-reward": (MULTI, "no-reward", "step_env returns rewards without b; return .*, 0 for one"),
    "multi-reward-shape": (MULTI, "reward-shape", r"the reward of b has the shape \[\(2,\)\]; return one number"),
    "multi-no-tuple": (MULTI, "no-tuple", r"reset returns a dict, not 2; return \(observations, state\)"),
    "multi-five": (MULTI, "five", r"step_env returns 4 values, not 5; return \(observations, state, rewards, dones"),
    "multi-state": (MULTI, "state-grows", r"state\['more'\] is missing after reset and \(\) after step_env; always"),
    "multi-nan": (MULTI, "nan", "the observation of agent 1 is not finite after reset"),
    "numpy-env": ("broken_envs.in_numpy", None, f"step fails: TracerArrayConversionError.*{DOORS}"),
    "numpy-class": (
        "broken_envs.NumpyGame",
        None,
        "made a NumpyGame, .*use env=pettingzoo, env=gymnasium or env=pymarl",
    ),
    "numpy-result": ("broken_envs.random_like", None, "made a ndarray, which is neither"),
    "numpy-function": ("numpy.zeros", None, "is a function of numpy, which makes no environments; give the path"),
    "numpy-ufunc": ("numpy.add", None, "is a function of numpy"),
    "numpy-module": ("numpy.random.rand", None, "is a function of numpy"),
    "factory-fails": (
        "broken_envs.failing",
        None,
        r"making the environment fails: RuntimeError: no licence \(broken_envs.py:\d+\); mend the factory",
    ),
    "factory-exits": (
        "broken_envs.exiting",
        None,
        "making the environment fails: SystemExit: 5 .*; an environment must",
    ),
    "factory-traces": ("broken_envs.needing_jax_values", None, f"making the environment fails: .*{DOORS}"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_training_cannot_use_is_one_line_with_key_value_and_remedy(name, capsys):
    target, fault, words = BROKEN[name]
    with pytest.raises(ConfigError) as caught:
        make_env({"_target_": target, **({} if fault is None else {"fault": fault})})
    said = str(caught.value)
    assert re.search(f"^env._target_={re.escape(target)}: .*{words}", said), said
    assert "\n" not in said
    assert capsys.readouterr().err == "", "an error and a note at once"


IN_THE_ADAPTER = {
    "avail-missing": "get_avail_actions of Multi returns nothing for b; return a dict with one number for each action",
    "avail-small": "get_avail_actions of Multi returns 2 numbers for b, not 3; return a dict with one number for each",
    "avail-big": "get_avail_actions of Multi returns 5 numbers for a, not 3; return a dict with one number for each",
    "avail-array": "get_avail_actions of Multi returns no dict; return a dict with one number for each action of every",
    "state-none": "Multi: its state (get_world_state, or 'world_state' of the observations) has no numbers; return an",
    "box": "a SimpleNamespace; only Discrete action spaces can be used; add +env.act_type=Discrete",
    "no-limit": "episode_limit: missing; Multi has no max_steps",
}


@pytest.mark.parametrize("fault", IN_THE_ADAPTER)
def test_what_the_adapter_cannot_use_is_one_line(fault):
    with pytest.raises(ConfigError) as caught:
        make_env({"_target_": MULTI, "fault": fault})
    assert IN_THE_ADAPTER[fault] in str(caught.value)
    assert str(caught.value).startswith("env")
    assert "\n" not in str(caught.value)


def test_a_missing_limit_is_given_with_a_plus():
    with pytest.raises(ConfigError, match=r"\+env.episode_limit=N"):
        make_env({"_target_": MULTI, "fault": "no-limit"})
    assert make_env({"_target_": MULTI, "fault": "no-limit", "episode_limit": 5}).episode_limit == 5
    assert make_env({"_target_": MULTI, "fault": "limit-array"}).episode_limit == 3


def test_a_state_that_is_not_implemented_is_made_of_the_observations():
    assert make_env({"_target_": MULTI, "fault": "state-later"}).state_size == 5


def test_a_module_that_ends_the_program_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "ends_early.py").write_text("import sys\nsys.exit(4)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="cannot import ends_early: SystemExit: 4"):
        make_env({"_target_": "ends_early.make"})


def test_the_trace_of_a_callback_is_not_printed(caplog):
    with pytest.raises(ConfigError):
        make_env({"_target_": MAKE, "fault": "callback"})
    assert not caplog.records


MENDED = {
    "uint8": "obs is uint8 and cast to float32; bytes of images are not divided by 255",
    "int32": "obs is int32 and cast to float32",
    "float16": "obs is float16 and cast to float32, avail_actions is int8 and cast to bool",
    "int-reward": "reward is int32 and cast to float32, last is float32 and cast to bool",
    "python-reward": "reward is int32 and cast to float32",
    "no-state": "it has no state: the observations of all agents in a row are used",
    "empty-state": "it has no state: the observations of all agents in a row are used",
    "undeclared-state": "state_size=0: the state has 5 numbers, which is used",
}


@pytest.mark.parametrize("fault", MENDED)
def test_what_needs_no_guess_is_put_right_and_said_once(fault, capsys):
    for _ in range(2):
        env = make_env({"_target_": MAKE, "fault": fault})
    assert capsys.readouterr().err == f"note: env._target_={MAKE}: {MENDED[fault]}\n"
    env_state, step = env.reset(jax.random.key(0))
    _, step, outcome = env.step(jax.random.key(0), env_state, jnp.array([1, 2]))
    np.testing.assert_array_equal(step.obs, np.ones((2, 4)))
    np.testing.assert_array_equal(step.state, np.ones(8 if "no state" in MENDED[fault] else 5))
    assert env.state_size == step.state.size
    assert [x.dtype for x in (*step, *outcome)] == [np.float32, bool, np.float32, np.float32, np.float32, bool, bool]
    assert outcome.reward == 3
    assert env.state_from_obs == ("no state" in MENDED[fault])


def test_what_the_adapter_casts_is_said(capsys):
    make_env({"_target_": MULTI, "fault": "uint8"})
    words = "obs is uint8 and cast to float32; bytes of images are not divided by 255"
    assert capsys.readouterr().err == f"note: env._target_={MULTI}: {words}\n"


@pytest.mark.parametrize("reward", [None, "sum"])
def test_a_reward_in_an_array_of_one_agent_is_the_teams(reward, capsys):
    import broken_envs

    env = as_env(broken_envs.make_env("reward-of-one", agents=1), **({} if reward is None else {"reward": reward}))
    env_state, _ = env.reset(jax.random.key(0))
    reward_like = jax.eval_shape(env.step, jax.random.key(0), env_state, jnp.array([2]))[2].reward
    assert (reward_like.shape, reward_like.dtype) == ((), np.float32)
    assert ("of its one agent" in capsys.readouterr().err) == (reward is None)


@pytest.mark.parametrize("fault", ["uint8", "no-state", "int-reward"])
def test_what_was_put_right_can_be_trained_in(fault):
    """The whole program is traced, the gradient too: there it used to fail."""
    arguments = [
        "env=custom",
        f"env._target_={MAKE}",
        f"+env.fault={fault}",
        "agent.hidden_size=4",
        "rollout.num_envs=2",
    ]
    algorithm, hyper = make_algorithm([*arguments, "replay.batch_size=2", "replay.capacity=4"])
    _, metrics = jax.eval_shape(lambda key: train(algorithm, hyper, key, 1), jax.random.key(0))
    assert metrics["loss"].dtype == np.float32


@pytest.mark.parametrize(("reward", "paid"), [("sum", 21.0), ("mean", 10.5), ("first", 1.0)])
def test_a_reward_for_each_agent_becomes_the_teams_where_the_user_says_how(reward, paid):
    env = make_env({"_target_": MAKE, "fault": "each", "reward": reward})
    env_state, _ = env.reset(jax.random.key(0))
    assert env.step(jax.random.key(0), env_state, jnp.array([1, 2]))[2].reward == paid


def test_a_good_environment_is_left_alone(capsys):
    import broken_envs

    env = broken_envs.make_env()
    assert as_env(env) is env
    assert make_env({"_target_": MULTI}).obs_size == 3
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["env._target_=broken_envs.Multi", "+env.fault=no-all"],
            "env._target_=broken_envs.Multi: step_env returns dones",
        ),
        (["env._target_=broken_envs.make_env", "+env.fault=agents"], "env._target_=broken_envs.make_env: num_agents=0"),
    ],
)
def test_the_command_line_ends_with_status_2_and_leaves_no_folder(arguments, words, tmp_path):
    command = [sys.executable, "-m", "qmix_jax.train", "env=custom", *arguments, f"run_dir={tmp_path / 'run'}"]
    path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: {words}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
