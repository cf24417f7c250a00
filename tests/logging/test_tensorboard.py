"""Event files, read back as TensorBoard's own format: length, checksum, event, checksum."""

import importlib
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from qmix_jax.errors import ConfigError
from qmix_jax.logging import EpochMetrics, FileSink, RunInfo, TensorBoardSink
from qmix_jax.logging.files import Unsaved


def run_info(run_dir: Path, seeds: list[int]) -> RunInfo:
    return RunInfo(run_dir, {}, seeds, 20, "qmix", "toy", has_win_rate=False)


def log(sinks: list, numbers: tuple[int, ...], seeds: int) -> None:
    for number in numbers:
        rows = {"env_steps": np.full(seeds, 10 * number), "loss": np.arange(seeds) + number / 2}
        rows["eval_win_rate"] = np.full(seeds, np.nan)
        for sink in sinks:
            sink.log(EpochMetrics(number, rows["env_steps"], number, float(number), rows))


def scalars(folder: Path) -> list[tuple[int, str, float]]:
    pytest.importorskip("tensorboardX")
    kind = importlib.import_module("tensorboardX.proto.event_pb2").Event
    found = []
    for file in folder.glob("events.*"):
        content, place = file.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            event = kind.FromString(content[place + 12 : place + 12 + length])
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            place += length + 16
    return found


def test_seeds_and_their_aggregate_have_event_files(tmp_path):
    pytest.importorskip("tensorboardX")
    sink = TensorBoardSink()
    sink.start(run_info(tmp_path, [3, 4]))
    log([sink], (1, 2), seeds=2)
    sink.finish({"env_steps": 20, "evaluation": {"return": [5.0, 6.0], "win_rate": None}})
    sink.close()
    sink.close()
    found = scalars(tmp_path / "tensorboard" / "seed_4")
    assert [value for value in found if value[1] == "loss"] == [(10, "loss", 1.5), (20, "loss", 2.0)]
    assert (20, "final/return", 6.0) in found
    assert not [value for value in found if "win_rate" in value[1]]
    assert (20, "loss", 1.5) in scalars(tmp_path / "tensorboard" / "aggregate")


def test_a_run_that_goes_on_repeats_its_epochs_once(tmp_path):
    pytest.importorskip("tensorboardX")
    for resumed, numbers in ((0, (1, 2)), (1, (2, 3))):
        sinks = [FileSink(), TensorBoardSink()]
        for sink in sinks:
            sink.start(run_info(tmp_path, [0])._replace(resumed_epochs=resumed))
        log(sinks, numbers, seeds=1)
        for sink in sinks:
            sink.close()
    found = scalars(tmp_path / "tensorboard" / "seed_0")
    assert [step for step, name, _ in found if name == "loss"] == [10, 20, 30]
    assert not (tmp_path / "tensorboard" / "aggregate").exists()


def test_a_full_disk_ends_the_events_and_not_the_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorboardX")
    unsaved = Unsaved()
    sink = TensorBoardSink(unsaved)
    sink.start(run_info(tmp_path, [0, 1]))
    log([sink], (1,), seeds=2)

    def full(self, event) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tensorboardX.event_file_writer.EventsWriter.write_event", full)
    log([sink], (2, 3), seeds=2)
    sink.finish({"env_steps": 20})
    sink.close()
    assert unsaved.names == {"tensorboard"}
    told = "warning: could not save tensorboard, the run goes on: No space left on device\n"
    assert capsys.readouterr().err == told
    assert [step for step, name, _ in scalars(tmp_path / "tensorboard" / "seed_0") if name == "loss"] == [10]


def test_without_the_library_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'qmix_jax\[tensorboard\]'"):
        TensorBoardSink().start(run_info(tmp_path, [0]))
