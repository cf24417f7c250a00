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
    "env-reward-nan": (MAKE, "reward-nan", "the reward of the first step is not finite; look for"),
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


MENDED = {
    "uint8": "obs is uint8 and cast to float32; bytes of images are not divided by 255",
    "int32": "obs is int32 and cast to float32",
    "float16": "obs is float16 and cast to float32, avail_actions is int8 and cast to bool",
    "int-reward": "reward is int32 and cast to float32, last is float32 and cast to bool",
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
