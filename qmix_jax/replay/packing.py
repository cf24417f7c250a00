"""Packing of slots in the replay: the same information in fewer bytes.

Available actions are stored as bits, small actions as one byte, and the two flags of a slot (``mask``, ``first``) as
bits of another byte. A state that is the concatenated observations is not stored. Only observations and states may lose
precision, with a smaller ``obs_dtype``; those that were bytes lose none as ``uint8``. The ring and
sampling are in ``sequences.py``.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from qmix_jax.envs.base import Env
from qmix_jax.types import Slot, TimeStep, empty_slots

OBS_DTYPES = {"float32": jnp.float32, "float16": jnp.float16, "bfloat16": jnp.bfloat16}
BITS = 8


class Stored(NamedTuple):
    """A packed :class:`Slot`."""

    obs: Float[Array, "*batch N O"]
    state: Float[Array, "*batch G"] | None
    """None where it is the concatenated ``obs``."""
    avail_actions: UInt8[Array, "*batch N bytes"]
    """The lowest bit of the first byte is the first action."""
    action: Int[Array, "*batch N"]
    reward: Float[Array, "*batch"]
    discount: Float[Array, "*batch"]
    """A number, not a bit: environments may use values other than 0 and 1."""
    flags: UInt8[Array, "*batch"]
    """Bits, from the lowest: ``mask``, ``first``."""


class Storage(NamedTuple):
    """How to pack and unpack the slots of an environment."""

    num_actions: int
    state_from_obs: bool = False
    """The state is the concatenated observations."""
    dtype: Any = jnp.float32
    """Type of stored observations and states; unpacked ones are always float32."""
    byte_scale: float | None = None
    """With ``uint8``: what observations are multiplied by."""


def storage_for(env: Env, dtype: Any = jnp.float32) -> Storage:
    """The :class:`Storage` for slots of ``env``."""
    return Storage(env.num_actions, env.state_from_obs, dtype, env.byte_scale if dtype == jnp.uint8 else None)


def pack(storage: Storage, slot: Slot) -> Stored:
    """Pack ``slot``, with any leading axes."""
    small = jnp.uint8 if storage.num_actions <= 2**BITS else jnp.int32
    flags = [jnp.asarray(x, bool) for x in (slot.mask, slot.first)]
    obs = slot.step.obs
    return Stored(
        obs=_rounded(obs, storage.dtype) if storage.byte_scale is None else _bytes(obs, storage.byte_scale),
        state=None if storage.state_from_obs else _rounded(slot.step.state, storage.dtype),
        avail_actions=_to_bytes(slot.step.avail_actions),
        action=slot.action.astype(small),
        reward=slot.reward,
        discount=slot.discount,
        flags=_to_bytes(jnp.stack(flags, axis=-1))[..., 0],
    )


def unpack(storage: Storage, stored: Stored) -> Slot:
    """The inverse of :func:`pack`."""
    obs = stored.obs.astype(jnp.float32)
    if storage.byte_scale is not None:
        obs = obs / storage.byte_scale
    state = obs.reshape(*obs.shape[:-2], -1) if stored.state is None else stored.state.astype(jnp.float32)
    flags = _to_bits(stored.flags[..., None], 2)
    return Slot(
        step=TimeStep(obs=obs, avail_actions=_to_bits(stored.avail_actions, storage.num_actions), state=state),
        action=stored.action.astype(jnp.int32),
        reward=stored.reward,
        discount=stored.discount,
        mask=flags[..., 0].astype(jnp.float32),
        first=flags[..., 1],
    )


def empty_slot(storage: Storage, env: Env) -> Stored:
    """A packed slot of zeros."""
    return pack(storage, empty_slots(env))


def _rounded(x: Array, dtype: Any) -> Array:
    """Cast ``x`` to ``dtype``, clipped to its largest value (65504 for float16) so that it stays finite."""
    largest = float(jnp.finfo(dtype).max)
    fits = largest >= float(jnp.finfo(x.dtype).max)
    return (x if fits else x.clip(-largest, largest)).astype(dtype)


def _bytes(obs: Array, scale: float) -> UInt8[Array, "*batch N O"]:
    """The bytes that observations were made of."""
    return jnp.round(obs * scale).clip(0, 255).astype(jnp.uint8)


def _to_bytes(bits: Array) -> UInt8[Array, "*batch bytes"]:
    """Pack the last axis, eight bits in a byte, lowest bit first."""
    count = bits.shape[-1]
    size = math.ceil(count / BITS)
    padded = jnp.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, size * BITS - count)])
    grouped = padded.reshape(*bits.shape[:-1], size, BITS).astype(jnp.uint8)
    return (grouped << _places(grouped.ndim)).sum(axis=-1, dtype=jnp.uint8)


def _to_bits(stored: UInt8[Array, "*batch bytes"], count: int) -> Array:
    """The first ``count`` bits, as booleans."""
    grouped = (stored[..., None] >> _places(stored.ndim + 1)) & 1
    return grouped.reshape(*stored.shape[:-1], -1)[..., :count].astype(bool)


def _places(ndim: int) -> UInt8[Array, "..."]:
    """0 to 7 on the last of ``ndim`` axes."""
    return jnp.arange(BITS, dtype=jnp.uint8).reshape((1,) * (ndim - 1) + (BITS,))
