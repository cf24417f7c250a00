"""Set up JAX for measuring, before its first computation."""

from qmix_jax.running import devices as runtime
from qmix_jax.settings.config import DevicesConfig


def set_up(settings: DevicesConfig, num_devices: int, cache: str | None = None) -> None:
    """Apply ``settings``, with at most ``num_devices`` devices on CPU; cache compiled programs in ``cache``."""
    runtime.set_up(settings.platform, min(runtime.cores(), num_devices), settings.matmul_precision)
    runtime.check_matmul_precision(settings.matmul_precision)
    import jax  # Not at the top: it takes seconds, and a wrong setting is reported first.

    jax.config.update("jax_enable_compilation_cache", cache is not None)
    if cache is not None:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
