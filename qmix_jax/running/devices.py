"""How JAX is set up by the command lines, before its first computation."""

import contextlib
import ctypes
import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from qmix_jax.errors import ConfigError

MATMUL_PRECISIONS = {"float32": "highest", "tensorfloat32": "TF32_TF32_F32", "bfloat16": "BF16_BF16_F32"}
"""JAX's names for what matrix products round their inputs to; they add up in float32, and all else stays float32."""

WITHOUT_YNN_REDUCTIONS = "--xla_cpu_experimental_ynn_fusion_type=-reduce"
"""jaxlib 0.10.2 hands reductions on CPU to a library that gets some of them wrong, silently, from some tens of
thousands of rows on (https://github.com/jax-ml/jax/issues/39103); a map with many agents has as many. Doing without
costs a few per cent of the time at most (experiments/speed)."""


MIN_COMPILE_TIME = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
"""The variable with which users say which programs JAX keeps; without it JAX keeps those that took a second."""


def set_up(
    platform: str | None = None, num_cpu_devices: int | None = None, matmul_precision: str | None = None
) -> None:
    """Choose platform, number of CPU devices and precision (``None``: as JAX does), and keep compiled programs.

    They are kept in the user's cache folder, unless JAX has been told another place.
    """
    avoid_wrong_reductions()
    import jax  # Not at the top: a wrong setting is reported before what takes seconds is imported.

    _refuse_other_arithmetic()
    if platform is not None:
        jax.config.update("jax_platforms", {"gpu": "cuda"}.get(platform, platform))
    if num_cpu_devices is not None:
        # Refused once JAX has computed something, as in a notebook: then there are the devices that there are.
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", num_cpu_devices)
    if matmul_precision is not None:
        jax.config.update("jax_default_matmul_precision", MATMUL_PRECISIONS[matmul_precision])
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qmix_jax" / "xla"
        if _can_write(cache):  # JAX would warn of every program
            jax.config.update("jax_compilation_cache_dir", str(cache))
            if MIN_COMPILE_TIME not in os.environ:  # An environment is made of dozens of small programs.
                jax.config.update(MIN_COMPILE_TIME.lower(), 0.0)


def _can_write(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return os.access(folder, os.W_OK)


def check_xla_flags() -> None:
    """Raises :class:`ConfigError` for ``XLA_FLAGS`` that XLA would end this process for.

    XLA is asked in a process of its own, and only where the user has set some.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if not set(flags.split()) - {WITHOUT_YNN_REDUCTIONS}:
        return
    command = [sys.executable, "-c", "from jaxlib import xla_client; xla_client.CompileOptions()"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    asked = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    said = [line.partition("] ")[2] for line in asked.stderr.splitlines() if "flags" in line.partition("] ")[0]]
    if asked.returncode and said:
        raise ConfigError(f"XLA_FLAGS={flags}: {said[0]}")


def _refuse_other_arithmetic() -> None:
    """Raises :class:`ConfigError` where JAX was told to compute otherwise than this project does."""
    import jax

    if jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise ConfigError("JAX_ENABLE_X64=1: qmix_jax computes in 32 bits; unset it")
    if jax.config.jax_disable_jit:  # pyright: ignore[reportAttributeAccessIssue]
        raise ConfigError("JAX_DISABLE_JIT=1: qmix_jax runs compiled programs only; unset it")
    if jax.config.jax_debug_nans or jax.config.jax_debug_infs:  # pyright: ignore[reportAttributeAccessIssue]
        raise ConfigError("JAX_DEBUG_NANS=1: missing metrics are NaN here; unset it (on_nonfinite=stop ends a run)")


def check_platform(platform: str | None = None) -> None:
    """Raises :class:`ConfigError` where the platform that was asked for is not there."""
    import jax

    try:
        jax.local_devices()
    except (RuntimeError, AssertionError) as error:  # the latter for a name that no plugin has
        named = f"devices.platform={platform}" if platform else f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}"
        reason = (str(error).splitlines() or ["no such platform"])[0]
        raise ConfigError(f"{named}: not available here ({reason})") from error


def check_matmul_precision(matmul_precision: str | None) -> None:
    """Raises :class:`ConfigError` where the platform has no such matrix products."""
    import jax

    if matmul_precision not in (None, "float32") and jax.default_backend() == "cpu":
        raise ConfigError(f"devices.matmul_precision={matmul_precision}: needs an accelerator; a CPU has float32 only")


def avoid_wrong_reductions() -> None:
    """Set :data:`WITHOUT_YNN_REDUCTIONS` in ``XLA_FLAGS``, unless the user has an opinion on it.

    XLA reads that variable when it is first used, not when JAX is imported.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    name = WITHOUT_YNN_REDUCTIONS.partition("=")[0]
    if name not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {WITHOUT_YNN_REDUCTIONS}".strip()


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    """Without garbage collection: tracing makes many objects that stay, and to go through them takes a tenth of it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def after_compiling(collect_garbage: bool = False) -> None:
    """Have the C library return what is free to the system: most of a gigabyte that it would keep.

    With ``collect_garbage`` Python does so again, after a start without (``train.py``).
    """
    if collect_garbage:
        gc.enable()
    with contextlib.suppress(OSError, TypeError, AttributeError):  # not everywhere is it glibc
        ctypes.CDLL(None).malloc_trim(0)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
