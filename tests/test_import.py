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


def test_importing_the_package_changes_nothing():
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
