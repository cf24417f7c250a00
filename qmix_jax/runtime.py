"""How JAX is set up by the command lines, before its first computation."""

import os
from pathlib import Path

WITHOUT_YNN_REDUCTIONS = "--xla_cpu_experimental_ynn_fusion_type=-reduce"
"""jaxlib 0.10.2 hands reductions on CPU to a library that gets some of them wrong, silently, from some tens of
thousands of rows on (https://github.com/jax-ml/jax/issues/39103); a map with many agents has as many. Doing without
costs a few per cent of the time at most (experiments/speed)."""


def set_up(platform: str | None = None, num_cpu_devices: int | None = None) -> None:
    """Choose the platform and the number of CPU devices (``None``: as JAX does), and keep compiled programs.

    They are kept in the user's cache folder, unless JAX has been told another place.
    """
    avoid_wrong_reductions()
    import jax  # Not at the top: a wrong setting is reported before what takes seconds is imported.

    if platform is not None:
        jax.config.update("jax_platforms", {"gpu": "cuda"}.get(platform, platform))
    if num_cpu_devices is not None:
        jax.config.update("jax_num_cpu_devices", num_cpu_devices)
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qmix_jax" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(cache))


def avoid_wrong_reductions() -> None:
    """Set :data:`WITHOUT_YNN_REDUCTIONS` in ``XLA_FLAGS``, unless the user has an opinion on it.

    XLA reads that variable when it is first used, not when JAX is imported.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    name = WITHOUT_YNN_REDUCTIONS.partition("=")[0]
    if name not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {WITHOUT_YNN_REDUCTIONS}".strip()


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
