"""The first signal is remembered, the second ends the process, whatever the main thread is doing."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from qmix_jax.running.interrupt import SIGNALS, Interruption


class Heard:
    """What an :class:`Interruption` did."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.left = 0
        self.ended: list[int] = []

    def leave(self) -> None:
        self.left += 1


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def interruption(heard) -> Iterator[Interruption]:
    with Interruption(heard.told.append, heard.leave, heard.ended.append) as interruption:
        yield interruption


def wait_until(condition) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until, "nothing happened for ten seconds"
        time.sleep(0.001)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_remembered_and_told(interruption, heard, number):
    interruption.nothing_to_save = False
    os.kill(os.getpid(), number)
    wait_until(lambda: heard.told)
    assert interruption.signal == number
    assert "once more to stop at once" in heard.told[0]
    assert (heard.left, heard.ended) == (0, [])


def test_the_second_signal_ends_the_process_after_giving_the_terminal_back(interruption, heard):
    interruption.nothing_to_save = False
    os.kill(os.getpid(), signal.SIGINT)
    wait_until(lambda: heard.told)
    os.kill(os.getpid(), signal.SIGTERM)
    wait_until(lambda: heard.ended)
    assert (heard.left, heard.ended) == (1, [143])
    assert interruption.signal == signal.SIGINT


def test_where_there_is_nothing_to_save_one_signal_is_enough(interruption, heard):
    os.kill(os.getpid(), signal.SIGINT)
    wait_until(lambda: heard.ended)
    assert (heard.left, heard.ended, heard.told) == (1, [130], [])


@pytest.fixture
def heeded() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, also where a shell started the tests in the background and had it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded")
def test_afterwards_signals_are_what_they_were(heard):
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interruption(heard.told.append, heard.leave, heard.ended.append):
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_in_another_thread_signals_are_left_alone(heard):
    before = [signal.getsignal(number) for number in SIGNALS]
    seen = []

    def run() -> None:
        with Interruption(heard.told.append, heard.leave, heard.ended.append):
            seen.extend(signal.getsignal(number) for number in SIGNALS)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == before


@pytest.mark.usefixtures("interruption")
def test_a_terminal_that_goes_away_does_not_end_the_run(interruption, heard):
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(0.05)
    assert (interruption.signal, heard.told, heard.ended) == (None, [], [])
