"""How JAX is set up by the command lines, before its first computation."""

import os
from pathlib import Path


def use_compilation_cache() -> None:
    """Keep compiled programs in the user's cache folder, unless JAX has been told another place."""
    import jax  # Not at the top: a wrong setting is reported before what takes seconds is imported.

    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qmix_jax" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(cache))
