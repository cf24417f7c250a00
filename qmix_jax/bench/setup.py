"""How JAX is set up for measuring, before its first computation."""

import os


def set_up(platform: str | None, seeds: int, cache: str | None = None) -> None:
    """Platform and CPU devices as for training ``seeds`` seeds; compiled programs are kept in ``cache`` or nowhere."""
    import jax  # Not at the top: a wrong setting is reported before what takes seconds is imported.

    if platform is not None:
        jax.config.update("jax_platforms", {"gpu": "cuda"}.get(platform, platform))
    jax.config.update("jax_num_cpu_devices", min(cores(), seeds))
    jax.config.update("jax_enable_compilation_cache", cache is not None)
    if cache is not None:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
