"""When checkpoints are copied, and that a run goes on where one cannot be saved."""

import errno
import re

import numpy as np
import pytest

from qmix_jax.errors import ConfigError
from qmix_jax.running.checkpoint import write_checkpoint
from qmix_jax.running.hosts import Hosts
from qmix_jax.running.saving import Saving, checked_sections
from qmix_jax.settings.config import CheckpointConfig

ON = CheckpointConfig(every_minutes=0.0, keep=2)


class Arrays:
    """What a run gives to be saved; remembers whether a copy was asked for."""

    def __init__(self, error: Exception | None = None) -> None:
        self.copies: list[bool] = []
        self.error = error

    def __call__(self, copy: bool) -> dict[str, np.ndarray]:
        self.copies.append(copy)
        if self.error is not None:
            raise self.error
        return {"x": np.arange(3)}


def saving(folder, config: CheckpointConfig = ON, copies: bool = True) -> Saving:
    return Saving(config, folder, Hosts(1), copies)


@pytest.mark.parametrize("copies", [True, False])
def test_a_copy_is_made_only_where_there_is_room_and_training_goes_on(tmp_path, copies):
    saves, arrays = saving(tmp_path, copies=copies), Arrays()
    saves.save(arrays, {"epochs": 1}, wait=False)
    saves.save(arrays, {"epochs": 2}, wait=True)
    saves.save(arrays, {"epochs": 2}, wait=True)  # is there already
    assert arrays.copies == [copies, False]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["00000001", "00000002"]
    found = saving(tmp_path).newest()
    assert found is not None
    assert found.record["epochs"] == 2


@pytest.mark.parametrize(
    ("error", "words"),
    [(MemoryError(), "not enough memory"), (OSError(errno.ENOSPC, "No space left on device"), "space")],
)
def test_where_one_cannot_be_saved_the_run_goes_on_and_says_so_once(tmp_path, capsys, error, words):
    saves, arrays = saving(tmp_path), Arrays(error)
    for epochs in (1, 2):
        saves.save(arrays, {"epochs": epochs}, wait=True)
    assert saves.failed
    told = capsys.readouterr().err
    assert told.startswith("warning: could not save a checkpoint, the run goes on: ")
    assert (words in told, told.count("\n")) == (True, 1)
    saves.save(Arrays(), {"epochs": 3}, wait=True)
    assert not saves.failed
    assert (tmp_path / "checkpoints" / "00000003").is_dir()


def test_the_last_one_is_saved_although_the_one_before_failed_in_the_background(tmp_path, capsys):
    folder = tmp_path / "checkpoints"
    folder.touch()  # no folder can be made here
    saves = saving(tmp_path)
    saves.save(Arrays(), {"epochs": 1}, wait=False)
    with pytest.raises(OSError, match="exists"):
        saves._checkpoints._pending.result()  # pyright: ignore[reportOptionalMemberAccess]
    folder.unlink()
    saves.save(Arrays(), {"epochs": 2}, wait=True)
    assert capsys.readouterr().err.count("could not save a checkpoint") == 1
    assert (saves.failed, [path.name for path in folder.iterdir()]) == (False, ["00000002"])


def test_one_that_fails_in_the_background_is_tried_again_at_the_end(tmp_path):
    (folder := tmp_path / "checkpoints").touch()
    saves, arrays = saving(tmp_path), Arrays()
    saves.save(arrays, {"epochs": 1}, wait=False)
    with pytest.raises(OSError, match="exists"):
        saves._checkpoints._pending.result()  # pyright: ignore[reportOptionalMemberAccess]
    folder.unlink()
    saves.save(arrays, {"epochs": 1}, wait=True)
    assert (saves.failed, [path.name for path in folder.iterdir()]) == (False, ["00000001"])


def test_what_a_checkpoint_costs_is_told_once_if_it_is_much(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("qmix_jax.running.saving.LONG", 1e9)
    saves = Saving(ON, tmp_path, Hosts(1), tell=told.append)
    saves.save(Arrays(), {"epochs": 1}, wait=True)
    assert told == []
    monkeypatch.setattr("qmix_jax.running.saving.LONG", 0.0)
    for epochs in (2, 3):
        saves.save(Arrays(), {"epochs": epochs}, wait=True)
    (line,) = told
    assert re.fullmatch(r"a checkpoint takes \d+ s here \(checkpoint.every_minutes=0 says how often\)", line)


def check_newest(folder) -> None:
    saved = saving(folder).newest()
    assert saved is not None
    checked_sections(saved, 2)


def test_a_changed_checkpoint_with_valid_digests_is_refused(tmp_path):
    record = {"epochs": 1, "train_seconds": 1.5, "wall_seconds": 2.5}
    told = {"nonfinite": np.zeros(2, np.int32), "active": np.ones(2, bool)}
    arrays = {"told": told, "rows": {"env_steps": np.ones(2), "updates": np.ones(2)}}
    changes = [
        ({"epochs": None}, {}, "epochs=None"),
        ({"epochs": 1.5}, {}, "epochs=1.5"),
        ({"epochs": -1}, {}, "epochs=-1"),
        ({"train_seconds": "1"}, {}, "train_seconds=1"),
        ({"wall_seconds": float("nan")}, {}, "wall_seconds="),
        ({}, {"told": {"active": np.ones(2, bool)}}, "has no told.nonfinite"),
        ({}, {"rows": {"env_steps": np.ones(3), "updates": np.ones(2)}}, "rows.env_steps has the shape"),
    ]
    for index, (others, other_arrays, words) in enumerate([({}, {}, ""), *changes]):
        folder = tmp_path / str(index) / "checkpoints"
        folder.mkdir(parents=True)
        write_checkpoint(folder / "00000001", {**arrays, **other_arrays}, {**record, **others})
        if not words:
            check_newest(folder.parent)
            continue
        with pytest.raises(ConfigError, match=re.escape(words)):
            check_newest(folder.parent)


def test_a_run_may_save_none(tmp_path):
    saves, arrays = saving(tmp_path, CheckpointConfig(every_minutes=None, keep=2)), Arrays()
    saves.save(arrays, {"epochs": 1}, wait=True)
    assert (saves.is_on, arrays.copies, saves.newest()) == (False, [], None)
