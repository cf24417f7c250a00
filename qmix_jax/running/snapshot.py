"""The states of all lanes on their way to a checkpoint and back, a piece of a large array at a time.

Saving and restoring a replay of gigabytes so takes a piece's memory, not a copy of the replay.
"""

import mmap
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array

LARGE = 8 * 2**20
"""Bytes from which on an array is saved and restored in pieces."""
PIECE = 64 * 2**20
"""Bytes of a piece at most, unless one row of the array has more."""


class LaneArray:
    """One array of all lanes, ``[L, ...]``, that stays on its devices until it is read.

    Args:
        parts: the arrays of the waves, ``[lanes of the wave, ...]`` each.
        count: lanes; the last wave may have been filled up with more.
    """

    def __init__(self, parts: tuple[Array, ...], count: int) -> None:
        self._parts = parts
        self.shape = (count, *parts[0].shape[1:])
        self.dtype = np.dtype(parts[0].dtype)

    def pieces(self) -> Iterator[np.ndarray]:
        """All numbers in their order, as arrays on the host."""
        left = self.shape[0]
        for part in self._parts:
            blocks = {tuple(axis.start or 0 for axis in s.index[:2]): s.data for s in part.addressable_shards}
            for first in sorted({lane for lane, *_ in blocks}):
                # A lane's array may lie in several blocks, one on each device.
                of_lane = [shard for (lane, *_), shard in sorted(blocks.items()) if lane == first]
                for row in range(min(left, of_lane[0].shape[0])):
                    for shard in of_lane:
                        yield from _pieces_of_row(shard, row)
                left -= min(left, of_lane[0].shape[0])


Leaf = np.ndarray | LaneArray


def size(leaf: Any) -> int:
    """Bytes of an array."""
    return int(np.prod(leaf.shape, dtype=np.int64)) * np.dtype(leaf.dtype).itemsize


def gather(parts: tuple[Array, ...], count: int, copy: bool) -> Leaf:
    """The first ``count`` rows of all parts together; a large array is copied to the host only with ``copy``."""
    lanes = LaneArray(parts, count)
    if not copy and size(lanes) >= LARGE:
        return lanes
    joined = np.empty(lanes.shape, lanes.dtype)
    flat, start = joined.reshape(-1), 0
    for piece in lanes.pieces():
        flat[start : start + piece.size] = piece.reshape(-1)
        start += piece.size
    return joined


def pieces(leaf: Leaf) -> Iterator[np.ndarray]:
    """An array on the host or on its devices in its order, without a copy of the whole."""
    if isinstance(leaf, LaneArray):
        yield from leaf.pieces()
        return
    flat = leaf.reshape(-1)
    step = max(1, PIECE // leaf.dtype.itemsize)
    for start in range(0, flat.size, step):
        yield flat[start : start + step]


def place(x: np.ndarray, places: np.ndarray, sharding: NamedSharding) -> Array:
    """The rows ``places`` of an array on the host, or in a file, over the devices."""
    if x.nbytes < LARGE:
        return jax.device_put(x[places], sharding)
    shape = (len(places), *x.shape[1:])
    shards = []
    for device, index in sharding.addressable_devices_indices_map(shape).items():
        lanes, block = (*(index or ()), slice(None), slice(None))[:2]
        own, (first, last, _) = places[lanes], block.indices(x.shape[1])
        with jax.default_device(device):
            shard = jax.device_put(jnp.zeros((len(own), last - first, *x.shape[2:]), x.dtype), device)
        for row, lane in enumerate(own):
            for start, stop in _steps(shard):
                piece = np.array(x[lane, first + start : first + stop])[None]
                shard = _fill(shard, jax.device_put(piece, device), row, start)
                _forget(x)
        shards.append(shard)
    return jax.make_array_from_single_device_arrays(shape, sharding, shards)


def _forget(x: np.ndarray) -> None:
    """Let go of what has been read of a file: its pages would count as this process's memory."""
    mapped = getattr(x, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _write(shard: Array, piece: Array, row: Any, start: Any) -> Array:
    return jax.lax.dynamic_update_slice(shard, piece, (row, start, *(0 for _ in shard.shape[2:])))


_fill = jax.jit(_write, donate_argnums=0)


def _pieces_of_row(shard: Array, row: int) -> Iterator[np.ndarray]:
    on_host = next(iter(shard.devices())).platform == "cpu"
    if shard.ndim < 2 or size(shard) < LARGE or on_host:
        # On the CPU this is a view of the array itself.
        host = np.asarray(shard)[row]
        if host.ndim == 0:
            yield host
        for start, stop in _steps(shard) if host.ndim else ():
            yield host[start:stop]
        return
    for start, stop in _steps(shard):
        begin = (row, start, *(0 for _ in shard.shape[2:]))
        yield np.asarray(_slice(shard, begin, (1, stop - start, *shard.shape[2:])))[0]


def _slice(shard: Array, begin: tuple[int, ...], sizes: tuple[int, ...]) -> Array:
    # The start as numbers of the program, so that it is compiled once for all pieces of a size.
    return jax.lax.dynamic_slice(shard, [jnp.int32(number) for number in begin], sizes)


def _steps(x: Any) -> Iterator[tuple[int, int]]:
    """Ranges of the second axis, whose rows together are a piece."""
    length = x.shape[1]
    row = max(1, size(x) // max(1, x.shape[0] * length))
    step = max(1, PIECE // row)
    for start in range(0, length, step):
        yield start, min(start + step, length)
