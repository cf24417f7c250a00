"""Standard streams that are closed, full, gone, or of another encoding: the program goes on, with its own status."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qmix_jax.streams import Forgiving

ROOT = str(Path(__file__).parents[1])
PROGRAM = """
import sys
from qmix_jax import streams
streams.secure()
for _ in range(20_000):
    print("läufe 日本")
    print("läufe", file=sys.stderr)
sys.stdout.flush()
print(sys.stdout.isatty(), file=sys.stdout)
open("saved", "w").close()
"""


@pytest.mark.parametrize("redirected", [">&-", "2>&-", "<&-", ">&- 2>&- <&-", ">/dev/full", "2>/dev/full", "| head -1"])
def test_the_program_ends_well_whatever_its_streams_are(redirected, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    quiet = "" if "2>" in redirected else "2>/dev/null"
    command = f"set -o pipefail; {sys.executable} -X utf8 program.py {quiet} {redirected}"
    ended = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env={"PYTHONPATH": ROOT, "PATH": "/usr/bin:/bin"},
        timeout=60,
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, (tmp_path / "saved").exists()) == (0, True), ended.stderr


ENCODINGS = (
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "cp1252"},
)


@pytest.mark.parametrize("environment", ENCODINGS, ids=str)
def test_another_encoding_prints_escapes(environment, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    environment = {"PYTHONPATH": ROOT, **environment}
    command = [sys.executable, "program.py"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, timeout=60, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert b"\\u65e5\\u672c" in ended.stdout


class Failing(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_what_cannot_be_shown_is_dropped():
    stream = Forgiving(Failing())
    assert stream.write("text") == 4
    stream.flush()
    assert stream.failed
    assert not stream.isatty()


def test_a_home_that_cannot_be_written_is_no_news(tmp_path):
    program = "from qmix_jax import streams; streams.secure(); import matplotlib; print(matplotlib.get_configdir())"
    (tmp_path / "file").write_text("not a folder")
    home = {**os.environ, "HOME": str(tmp_path / "file"), "XDG_CONFIG_HOME": "", "MPLCONFIGDIR": ""}
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=home, check=True)
    assert ended.stdout
    assert not ended.stderr
