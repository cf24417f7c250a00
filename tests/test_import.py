"""What `import qmix_jax` does to the program that imports it: nothing."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, signal, sys
before = dict(os.environ), {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}, sys.stdout
import qmix_jax
after = dict(os.environ), {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}, sys.stdout
assert before == after
if "jax" in sys.modules:
    from jax._src import xla_bridge
    assert not xla_bridge._backends
assert not {"hydra", "wandb", "jaxmarl", "matplotlib", "orbax"} & set(sys.modules)
"""


def run(program: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **variables}
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_importing_the_package_changes_nothing():
    ended = run(PROGRAM)
    assert ended.returncode == 0, ended.stderr


def test_the_command_line_is_checked_before_jax_is_imported():
    ended = run('import sys, qmix_jax.train; assert not {"jax", "flax", "wandb", "orbax"} & set(sys.modules)')
    assert ended.returncode == 0, ended.stderr
