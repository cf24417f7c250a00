"""Random play before training, in a process of its own: the environment may end it or change it as it likes."""

import logging
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from qmix_jax import check_env, train
from qmix_jax.envs.build import make_env
from qmix_jax.envs.hosted import trial
from qmix_jax.envs.hosted.team import EnvError
from qmix_jax.errors import ConfigError

PETTINGZOO = "qmix_jax.envs.hosted.pettingzoo.make_pettingzoo"


@pytest.fixture(autouse=True)
def pastures(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield
    sys.modules.pop("pastures", None)


@pytest.mark.parametrize(
    ("where", "how", "words"),
    [
        ("make", "exit", "ended with status 0"),
        ("reset", "fault", "was ended by SIGSEGV"),
        ("step", "fork", "ended with status 4"),
    ],
)
def test_an_environment_that_ends_its_process_is_one_line(where, how, words):
    with pytest.raises(ConfigError) as error:
        make_env({"_target_": PETTINGZOO, "name": "pastures:ending", "where": where, "how": how})
    assert str(error.value) == (
        f"env.name=pastures:ending: its process {words} in random play before training; it said last: the fence is down"
    )


@pytest.mark.parametrize("where", ["make", "step"])
def test_an_environment_that_hangs_is_one_line(monkeypatch, where):
    if where == "make":  # More is allowed for starting than between steps.
        monkeypatch.setattr(trial, "STARTING", 0.0)
    began, settings = time.monotonic(), {"_target_": PETTINGZOO, "name": "pastures:ending", "timeout": 1.0}
    with pytest.raises(ConfigError) as error:
        make_env({**settings, "where": where, "how": "hang"})
    words = "has not answered for 1 seconds (env.timeout) in random play before training"
    assert str(error.value).startswith(f"env.name=pastures:ending: its process {words}")
    assert "\n" not in str(error.value)
    if where == "step":
        assert str(error.value).endswith("; it said last: the fence is down")
    assert time.monotonic() - began < 60
    assert not [each for each in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(each.cmdline())]


def test_the_command_that_trains_ends_with_status_2(monkeypatch, capsys, tmp_path):
    ending = ["env=pettingzoo", "env.name=pastures:ending", "logger.wandb.mode=disabled", f"run_dir={tmp_path}/run"]
    monkeypatch.setattr(sys, "argv", ["train", *ending])
    with pytest.raises(SystemExit, match="2"):
        train.main()
    said = [line for line in capsys.readouterr().err.splitlines() if "takes longer than" not in line]
    assert len(said) == 1
    assert said[0].startswith("error: env.name=pastures:ending: its process ended with status 0")


def test_this_process_stays_as_it_was():
    def known():
        numbers = np.random.get_state()[1].tolist()  # noqa: NPY002 - what the environment changes
        threads = [thread for thread in threading.enumerate() if not thread.daemon]
        streams = (sys.stdout, sys.stderr)
        return Path.cwd(), dict(os.environ), signal.getsignal(signal.SIGINT), numbers, threads, streams

    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    before, drawn = known(), random.getstate()
    began = time.monotonic()
    assert make_env({"_target_": PETTINGZOO, "name": "pastures:meddling"}).num_agents == 3
    assert time.monotonic() - began < 900, "its thread is not waited for"
    assert known() == before
    assert random.getstate() == drawn
    assert logging.root.manager.disable == 0


def test_programs_of_the_trial_end_with_it(tmp_path):
    file = tmp_path / "numbers"
    settings = {"name": "pastures:helped", "file": str(file), "session": True, "always": True}
    make_env({"_target_": PETTINGZOO, **settings})
    program, end = int(file.read_text()), time.monotonic() + 60
    while psutil.pid_exists(program) and psutil.Process(program).status() != "zombie":
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_trace_of_an_error_is_there_for_those_who_look():
    with pytest.raises(ConfigError, match=r"step 3: ValueError: the dog barked$") as error:
        make_env({"_target_": PETTINGZOO, "name": "pastures:pasture", "fault": "raise"})
    cause = error.value.__cause__
    assert cause is not None
    assert "pastures.py" in cause.__notes__[0]


def test_check_env_shows_what_is_printed_and_survives(capfd):
    settings = {"_target_": PETTINGZOO, "name": "pastures:talking", "when": 1}
    assert check_env.check(check_env.Settings(episodes=2), settings).env is not None
    assert capfd.readouterr().out.count("baa") == 2
    with pytest.raises(ConfigError, match=r"^env: its process ended with status 5"):
        check_env.check(check_env.Settings(episodes=3), {**settings, "ends": True})


def test_arguments_that_are_named_as_the_adapter_s_go_through_kwargs():
    settings = {"_target_": "pastures.Named", "door": "pymarl", "episode_limit": 4}
    env = make_env({**settings, "kwargs": {"episode_limit": 3, "reward": "wool", "target": "fence", "workers": 7}})
    assert env.episode_limit == 3
    with pytest.raises(ConfigError, match=r"^env.target=fence: .*\+env.kwargs.target=fence$"):
        make_env({**settings, "target": "fence"})
    with pytest.raises(ConfigError, match=r"^env.kwargs=5: must be settings by name"):
        make_env({**settings, "kwargs": 5})
    with pytest.raises(ConfigError, match=r"^env.kwargs.win=2: is given as env.win, too$"):
        make_env({**settings, "win": 3, "kwargs": {"win": 2}})


def test_what_is_made_in_a_worker_is_what_was_tried(tmp_path):
    env = make_env({"_target_": PETTINGZOO, "name": "pastures:changing", "file": str(tmp_path / "made")})
    with pytest.raises(
        EnvError, match=r"^made once more, it has agents=\('staying', 'late', 'early'\), not \('early', "
    ):
        env.hosted.rehearse(1, 0)


def test_an_environment_that_parses_arguments_does_not_see_those_of_the_trainer(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train", "env=pettingzoo"])
    assert make_env({"_target_": PETTINGZOO, "name": "pastures:parsing"}).num_agents == 3
