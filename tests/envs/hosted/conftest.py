"""What all tests of hosted environments share: no file of tests may leave a worker process behind."""

import psutil
import pytest

from qmix_jax.envs.hosted.team import EnvError
from qmix_jax.errors import USERS_ERRORS, ConfigError, in_a_line


def running_workers() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            found += [process] if "multiprocessing.spawn" in " ".join(process.cmdline()) else []
        except psutil.Error:  # It has just ended.
            continue
    return found


@pytest.fixture
def workers():
    """The worker processes that this process has started and that still run, as a function."""
    return running_workers


@pytest.fixture(scope="module", autouse=True)
def no_worker_is_left():
    yield
    assert not running_workers()


@pytest.fixture
def trials_here(monkeypatch):
    """Play random episodes before training in this process, which saves the time to start another one."""

    def here(ask, timeout, shows=False):
        del timeout, shows
        try:
            return ask()
        except (ConfigError, EnvError):
            raise
        except USERS_ERRORS as error:
            raise EnvError(in_a_line(error)) from error

    monkeypatch.setattr("qmix_jax.envs.hosted.make.in_own_process", here)
