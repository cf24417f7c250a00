"""What the command lines have in common."""

import sys

import pytest

from qmix_jax import import_pymarl, streams
from qmix_jax.bench import table
from qmix_jax.settings.arguments import run_command


def test_ctrl_c_is_one_line(capsys):
    def stopped(arguments: list[str]) -> None:
        del arguments
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        run_command("usage", ["episodes=3"], stopped)
    assert end.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("command", [import_pymarl, table])
def test_commands_that_need_arguments_secure_their_streams_too(command, monkeypatch, capsys):
    """A full disk or a reader that is gone would end them in a trace."""
    secured = []
    monkeypatch.setattr(streams, "secure", lambda: secured.append(True))
    monkeypatch.setattr(sys, "argv", ["command"])
    command.main()
    assert secured
    assert command.USAGE in capsys.readouterr().out
