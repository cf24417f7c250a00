"""How JAX is set up for measuring, before its first computation."""

from qmix_jax import runtime


def set_up(platform: str | None, num_devices: int, cache: str | None = None) -> None:
    """The platform, and as many CPU devices unless there are fewer cores; compiled programs are kept in ``cache``."""
    runtime.set_up(platform, min(runtime.cores(), num_devices))
    import jax  # Not at the top: a wrong setting is reported before what takes seconds is imported.

    jax.config.update("jax_enable_compilation_cache", cache is not None)
    if cache is not None:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
