"""States on their way to a checkpoint and back in pieces are what they were."""

import gc
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from qmix_jax.running import snapshot
from qmix_jax.running.checkpoint import read_checkpoint, write_checkpoint

DTYPES = (jnp.float32, jnp.bfloat16, jnp.bool_, jnp.int32, jnp.uint8)
ODD = (
    "a[1]",
    "{x}",
    "*?",
    "#a%41",
    "a:b",
    "x=5",
    "a,b;c",
    "a'b\"c",
    "$HOME",
    "~",
    "(x)|y",
    " a b ",
    "a\nb",
    "-a",
    "日本",
    "\\",
)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(snapshot, "LARGE", 64)
    monkeypatch.setattr("qmix_jax.running.checkpoint.LARGE", 64)
    monkeypatch.setattr(snapshot, "PIECE", 48)


@pytest.fixture
def sharding() -> NamedSharding:
    return NamedSharding(Mesh(np.array(jax.local_devices()[:1]), ("lanes",)), P("lanes"))


def numbers(dtype, *shape: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(0).integers(0, 2, shape)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: jnp.dtype(dtype).name)
def test_what_is_saved_in_pieces_is_restored_as_it_was(dtype, sharding, tmp_path):
    waves = [numbers(dtype, 2, 7, 3, 5), numbers(dtype, 2, 7, 3, 5)]
    expected = np.concatenate(waves)[:3]
    parts = tuple(jax.device_put(wave, sharding) for wave in waves)
    lazy, copied = (snapshot.gather(parts, 3, copy) for copy in (False, True))
    assert isinstance(lazy, snapshot.LaneArray)
    assert isinstance(copied, np.ndarray)
    np.testing.assert_array_equal(copied, expected)
    assert max(piece.nbytes for piece in snapshot.pieces(lazy)) <= 60
    write_checkpoint(tmp_path / "1", {"large": lazy, "copied": copied, "small": np.arange(3)}, {})
    saved = read_checkpoint(tmp_path / "1").arrays
    assert isinstance(saved["large"], np.memmap)
    for name in ("large", "copied"):
        assert saved[name].dtype == expected.dtype
        np.testing.assert_array_equal(saved[name], expected)
    placed = snapshot.place(saved["large"], np.array([2, 0]), sharding)
    assert placed.sharding == sharding
    np.testing.assert_array_equal(np.asarray(placed), expected[[2, 0]])


def test_vectors_and_counters_are_saved_as_well(sharding, tmp_path):
    tree = {
        "vector": numbers(np.int32, 40),
        "column": numbers(np.float32, 40, 1),
        "one": np.zeros(1),
        "none": np.zeros(0),
    }
    parts = {name: (jax.device_put(x, sharding),) for name, x in tree.items() if x.size}
    leaves = {name: snapshot.gather(part, len(tree[name]), copy=False) for name, part in parts.items()}
    write_checkpoint(tmp_path / "1", {**leaves, "none": tree["none"]}, {})
    saved = read_checkpoint(tmp_path / "1").arrays
    for name, x in tree.items():
        np.testing.assert_array_equal(saved[name], x)


def test_a_checkpoint_may_lie_in_a_folder_of_any_name(tmp_path):
    for name in ODD:
        path = tmp_path / name / "00000001"
        path.parent.mkdir()
        write_checkpoint(path, {"x": np.arange(3), "y": {"z": np.ones(30)}}, {"epochs": 1})
        saved = read_checkpoint(path)
        np.testing.assert_array_equal(saved.arrays["x"], np.arange(3))
        np.testing.assert_array_equal(saved.arrays["y.z"], np.ones(30))


def test_saving_and_restoring_take_the_memory_of_a_piece(sharding, tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "LARGE", 2**20)
    monkeypatch.setattr("qmix_jax.running.checkpoint.LARGE", 2**20)
    monkeypatch.setattr(snapshot, "PIECE", 2**20)
    array = jax.device_put(numbers(np.float32, 1, 2**12, 2**11), sharding)  # 32 MiB
    expected = np.asarray(array)

    def to_a_file_and_back(folder):
        write_checkpoint(folder, {"x": snapshot.gather((array,), 1, copy=False)}, {})
        return snapshot.place(read_checkpoint(folder).arrays["x"], np.array([0]), sharding)

    to_a_file_and_back(tmp_path / "1")  # the first time imports and compiles, which takes Python objects
    gc.collect()
    tracemalloc.start()  # counts what NumPy takes, but not JAX's own arrays
    try:
        placed = to_a_file_and_back(tmp_path / "2")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * 2**20  # half of the array; a piece takes 1 MiB, other threads something
    np.testing.assert_array_equal(np.asarray(placed), expected)
