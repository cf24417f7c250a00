"""Control a measuring process: start it, ask it to run, read its answers."""

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, Self

from qmix_jax.running import devices
from qmix_jax.settings.config import DevicesConfig

TIMEOUT_SECONDS = 1800
"""Limit for one answer; without it a process that hangs would stop everything."""


class ProcessError(RuntimeError):
    """A measuring process ended or hung; the message ends with its last lines of output."""


class Process:
    """A process that answers with one line of JSON after compiling, and with one for every line it receives.

    Methods and constructor raise :class:`ProcessError`.
    """

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        self._timeout = timeout
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **(env or {})},
            text=True,
        )
        self.runs: list[dict[str, Any]] = []
        self.compiled = self._answer()

    def run(self) -> dict[str, Any]:
        """Run the compiled program once."""
        assert self._process.stdin is not None
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        self.runs.append(self._answer())
        return self.runs[-1]

    def env_steps_per_second(self) -> float:
        """Run once; return environment steps per second, over all seeds."""
        answer = self.run()
        return answer["env_steps"] / answer["seconds"]

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self) -> dict[str, Any]:
        stream = self._process.stdout
        assert stream is not None
        ready = select.select([stream], [], [], self._timeout)[0]
        line = stream.readline() if ready else ""
        if line:
            return json.loads(line)
        why = "ended" if ready else f"did not answer within {self._timeout:g} s"
        if not ready:
            self._process.kill()
        else:
            self._process.wait()
        self._errors.seek(0)
        last = self._errors.read().strip().splitlines()[-20:]
        self.close()
        raise ProcessError("\n".join([f"{' '.join(self._process.args[:4])} {why}", *last]))  # pyright: ignore


def worker_command(
    arguments: Sequence[str],
    seeds: int,
    env_steps: int,
    *,
    warm_up: bool = False,
    evaluate: bool = False,
    cache: str | None = None,
) -> list[str]:
    """The command that runs a :class:`qmix_jax.bench.worker.Request`."""
    request = {
        "arguments": list(arguments),
        "seeds": seeds,
        "env_steps": env_steps,
        "warm_up": warm_up,
        "evaluate": evaluate,
        "cache": cache,
    }
    return [sys.executable, "-m", "qmix_jax.bench.worker", json.dumps(request)]


def set_up(settings: DevicesConfig, num_devices: int, cache: str | None = None) -> None:
    """Apply ``settings``, with at most ``num_devices`` devices on CPU; cache compiled programs in ``cache``."""
    devices.set_up(settings.platform, min(devices.cores(), num_devices), settings.matmul_precision)
    devices.check_matmul_precision(settings.matmul_precision)
    import jax  # Not at the top: it takes seconds, and a wrong setting is reported first.

    jax.config.update("jax_enable_compilation_cache", cache is not None)
    if cache is not None:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
