"""Checkpoints: all of it or nothing, and never a damaged one."""

import json
import random
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
import pytest
from summed_up import sum_up

from qmix_jax.errors import ConfigError
from qmix_jax.running.checkpoint import (
    PARTIAL,
    SUMS,
    Checkpoints,
    DamagedCheckpointError,
    flatten,
    read_checkpoint,
    unflatten,
    verify,
    write_checkpoint,
)

DAMAGED = 200


def arrays() -> dict:
    numbers = np.random.default_rng(0)
    return {
        "states": {"params": numbers.normal(size=(3, 40)).astype(np.float32), "count": np.arange(3, dtype=np.int32)},
        "rows": {"done": np.array([True, False, True]), "obs": numbers.integers(0, 255, (3, 2, 4)).astype(np.uint8)},
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "00000001"
    write_checkpoint(path, arrays(), {"epochs": 1})
    return path


@pytest.fixture
def warnings() -> list[str]:
    return []


def test_what_is_read_is_what_was_written(written):
    saved = read_checkpoint(written)
    assert saved.record["epochs"] == 1
    restored = unflatten(arrays(), saved)
    jax.tree.map(np.testing.assert_array_equal, restored, arrays())
    assert jax.tree.map(lambda x: (x.shape, x.dtype), restored) == jax.tree.map(lambda x: (x.shape, x.dtype), arrays())


def test_arrays_have_readable_names():
    assert set(flatten(arrays())) == {"states.params", "states.count", "rows.done", "rows.obs"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda tree: tree["states"].update(params=np.zeros((3, 41), np.float32)), "states.params"),
        (lambda tree: tree["states"].update(count=np.zeros(3, np.float32)), "states.count"),
        (lambda tree: tree["states"].update(more=np.zeros(3)), "states.more"),
        (lambda tree: tree["rows"].pop("done"), "rows.done"),
    ],
)
def test_arrays_that_do_not_fit_are_named(written, change, named):
    like = arrays()
    change(like)
    with pytest.raises(ConfigError, match=f"does not fit these settings in {named}$"):
        unflatten(like, read_checkpoint(written))


def test_every_damage_is_recognised(written, tmp_path):
    """Flipped bits, cut files, and files that are missing, new or links, in any file and at any place."""
    names = sorted(path.relative_to(written) for path in written.rglob("*") if path.is_file())
    chance = random.Random(0)
    recognised = 0
    for number in range(DAMAGED):
        copy = tmp_path / str(number)
        shutil.copytree(written, copy)
        name = names[number % len(names)]
        file = copy / name
        content = bytearray(file.read_bytes())
        if number % 2:
            place = chance.randrange(len(content))
            content[place] ^= 1 << chance.randrange(8)
            file.write_bytes(content)
        else:
            file.write_bytes(content[: chance.randrange(len(content))])
        with pytest.raises(DamagedCheckpointError, match=name.name):
            verify(copy)
        recognised += 1
        shutil.rmtree(copy)
    assert recognised == DAMAGED


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: (path / SUMS).unlink(), "cannot be read"),
        (lambda path: (path / "run.json").unlink(), "run.json: missing"),
        (lambda path: (path / "new").touch(), "new: does not belong there"),
        (lambda path: (path / "link").symlink_to("/etc/passwd"), "link: does not belong there"),
        (lambda path: swap_for_a_link(path / "run.json"), "run.json: is a link"),
    ],
)
def test_other_files_than_were_written_are_recognised(written, tmp_path, damage, told):
    copy = tmp_path / "copy"
    shutil.copytree(written, copy)
    damage(copy)
    with pytest.raises(DamagedCheckpointError, match=told):
        read_checkpoint(copy)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_damage_under_valid_digests_is_one_line(tmp_path, capfd, kept):
    """The libraries that read arrays print nothing of their own: where one is damaged, the others are still read."""
    numbers = np.random.default_rng(0)
    path = tmp_path / "00000001"
    write_checkpoint(path, {f"x{i}": numbers.normal(size=(3, 400)) for i in range(40)}, {"epochs": 1})
    largest = max((path / "arrays").rglob("*"), key=lambda file: file.stat().st_size)
    content = largest.read_bytes()
    largest.write_bytes(content[: int(kept * len(content))])
    sum_up(path)
    with pytest.raises(DamagedCheckpointError, match=r"^arrays: "):
        read_checkpoint(path)
    time.sleep(0.2)  # for threads that would still print
    assert capfd.readouterr() == ("", "")


def swap_for_a_link(file: Path) -> None:
    elsewhere = file.parents[1] / "elsewhere"
    shutil.move(file, elsewhere)
    file.symlink_to(elsewhere)


def fake_write(path: Path, tree: object, record: Mapping) -> None:
    """Quicker than the true one."""
    path.mkdir()
    (path / "run.json").write_text(json.dumps(record))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_ones_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2, write=fake_write)
    for epoch in (1, 2, 9, 10, 11):
        checkpoints.save(epoch, {}, {"epochs": epoch})
    checkpoints.wait()
    assert names(tmp_path / "checkpoints") == ["00000010", "00000011"]


def test_a_write_that_fails_leaves_the_others_as_they_are(tmp_path):
    folder = tmp_path / "checkpoints"
    checkpoints = Checkpoints(folder, keep=1, write=fake_write)
    checkpoints.save(1, {}, {"epochs": 1})
    checkpoints.wait()

    def full_disk(path: Path, tree: object, record: Mapping) -> None:
        fake_write(path, tree, record)
        raise OSError(28, "No space left on device")

    failing = Checkpoints(folder, keep=1, write=full_disk)
    failing.save(2, {}, {"epochs": 2})
    with pytest.raises(OSError, match="No space left"):
        failing.wait()
    assert names(folder) == ["00000001"]
    failing.wait()  # told once


def test_what_a_killed_process_left_is_not_read_and_goes_with_the_next_checkpoint(written, tmp_path, warnings):
    folder = tmp_path / "checkpoints"
    shutil.copytree(written, folder / "00000001")
    shutil.copytree(written, folder / f"00000002{PARTIAL}")
    checkpoints = Checkpoints(folder, keep=2, write=fake_write)
    saved = checkpoints.latest(warnings.append)
    assert saved is not None
    assert (saved.record["epochs"], warnings) == (1, [])
    checkpoints.save(3, {}, {"epochs": 3})
    checkpoints.wait()
    assert names(folder) == ["00000001", "00000003"]


def test_the_one_before_a_damaged_one_is_used(written, tmp_path, warnings):
    for name in ("00000001", "00000002", "00000003"):
        shutil.copytree(written, tmp_path / name)
    for name in ("00000002", "00000003"):
        record = tmp_path / name / "run.json"
        record.write_bytes(record.read_bytes()[:-1])
    saved = Checkpoints(tmp_path, keep=2).latest(warnings.append)
    assert saved is not None
    assert saved.path == tmp_path / "00000001"
    assert [("00000003" in text, "00000002" in text) for text in warnings] == [(True, False), (False, True)]
    assert all("run.json: does not match its digest" in text for text in warnings)


@pytest.mark.parametrize("keep", [1, 2])
def test_damaged_ones_do_not_take_the_place_of_those_saved_after_resuming(written, tmp_path, warnings, keep):
    for name in ("00000001", "00000008", "00000009"):
        shutil.copytree(written, tmp_path / name)
    for name in ("00000008", "00000009"):
        (tmp_path / name / SUMS).unlink()
    checkpoints = Checkpoints(tmp_path, keep=keep, write=fake_write)
    assert checkpoints.latest(warnings.append) is not None
    for epoch in (2, 3):
        checkpoints.save(epoch, {}, {"epochs": epoch})
        checkpoints.wait()
    assert names(tmp_path) == ["00000002", "00000003"][-keep:]


def test_where_none_can_be_read_nothing_starts_from_the_beginning(written, tmp_path, warnings):
    for name in ("00000001", "00000002"):
        shutil.copytree(written, tmp_path / name)
        (tmp_path / name / SUMS).unlink()
    with pytest.raises(ConfigError, match=r"none of the checkpoints can be read .* give another run_dir"):
        Checkpoints(tmp_path, keep=2).latest(warnings.append)
    assert len(warnings) == 2


def test_there_may_be_none(tmp_path, warnings):
    assert Checkpoints(tmp_path / "nothing", keep=1).latest(warnings.append) is None
    assert warnings == []


def test_a_folder_that_cannot_be_made_is_an_error_of_the_disk(tmp_path):
    (tmp_path / "file").touch()
    checkpoints = Checkpoints(tmp_path / "file" / "checkpoints", keep=1)
    checkpoints.save(1, {}, {"epochs": 1})
    with pytest.raises(OSError, match="Not a directory"):
        checkpoints.wait()
