"""Programs of one lane, mapped over many and over a mesh of devices, and how XLA compiles them."""

import os
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

COMPILER_OPTIONS: dict[str, Any] = {"xla_backend_optimization_level": 1}
"""For CPUs: a sixth less time to compile, into code of the same speed, and the widest vectors (experiments/speed)."""
RUN_ONCE: dict[str, Any] = {"xla_backend_optimization_level": 0}
"""For CPUs: half the time to compile, into slow code."""
if jax.__version_info__ < (0, 11):  # later ones may not have these options
    RUN_ONCE["xla_cpu_use_fusion_emitters"] = False
    COMPILER_OPTIONS["xla_cpu_prefer_vector_width"] = 512


def over_lanes(
    mesh: Mesh,
    function: Callable,
    in_specs: tuple,
    on_cpu: dict = COMPILER_OPTIONS,
    out_specs: Any = None,
    **jit_options: Any,
) -> Any:
    """``function`` of one lane, mapped over the sharded leading axis of the arguments whose spec says so.

    ``on_cpu`` are XLA's options there, ``out_specs`` those of the results where they are spread otherwise.
    """
    axes = tuple(None if spec == P() else 0 for spec in in_specs)

    def of_one_device(*args: Any) -> Any:
        sizes = {x.shape[0] for arg, axis in zip(args, axes, strict=True) if axis == 0 for x in jax.tree.leaves(arg)}
        if sizes != {1}:
            return jax.vmap(function, in_axes=axes)(*args)
        one = (jax.tree.map(lambda x: x[0], arg) if axis == 0 else arg for arg, axis in zip(args, axes, strict=True))
        return jax.tree.map(lambda x: x[None], function(*one))

    # check_vma off: it would refuse scans that start from constants. Devices exchange data only in
    # `minibatch_parts.py` and `shards.py`.
    mapped = jax.shard_map(
        of_one_device, mesh=mesh, in_specs=in_specs, out_specs=out_specs or P("lanes"), check_vma=False
    )
    return jax.jit(mapped, compiler_options=compiler_options(mesh, on_cpu), **jit_options)


def compiler_options(mesh: Mesh, on_cpu: dict = COMPILER_OPTIONS) -> dict | None:
    """XLA's options on the devices of a mesh: those given on CPUs, its own elsewhere.

    What the user has set in ``XLA_FLAGS`` stays.
    """
    users = os.environ.get("XLA_FLAGS", "")
    options = {name: value for name, value in on_cpu.items() if f"--{name}" not in users}
    return options if mesh.devices.flat[0].platform == "cpu" else None
