"""Damaged run folders: each is read, resumed, compared and played, or refused in one line. Never a stack trace.

The suite damages a few; ``FUZZ_FOLDERS=200 python -m pytest tests/running/test_fuzz_folders.py`` damages more.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from summed_up import sum_up

from qmix_jax.errors import ConfigError
from qmix_jax.logging import ConsoleSink
from qmix_jax.results.comparison.comparison import compare
from qmix_jax.results.opened import open_run
from qmix_jax.running import launch
from qmix_jax.running.clock import Clock
from qmix_jax.running.hosts import Hosts
from qmix_jax.running.resume import settings_to_resume
from qmix_jax.running.session import Session
from qmix_jax.settings.cells import cells, lanes
from qmix_jax.settings.command_line import compose_config
from qmix_jax.settings.reading import parse, to_container

FOLDERS = int(os.environ.get("FUZZ_FOLDERS", "12"))
OLDER = Path(__file__).parents[1] / "golden" / "older_run"
FILES = sorted(str(path.relative_to(OLDER)) for path in OLDER.rglob("*") if path.is_file())
# Checkpoints have many files, and any change of one is noticed in the same way.
OFTEN = [name for name in FILES if not name.startswith("checkpoints")]
STEERING = [name for name in FILES if name.endswith(("run.json", "SHA256SUMS"))]

numbers = st.one_of(st.integers(-2, 2), st.sampled_from([2**31, 2**63, 10**30, 1e300]), st.floats())
values = st.one_of(
    st.none(), st.booleans(), numbers, st.text(max_size=5), st.just([]), st.just({}), st.just([None]), st.just("../..")
)


def spots(tree: object, prefix: tuple = ()) -> list[tuple]:
    """Paths to everything in a tree of JSON."""
    found = [prefix] if prefix else []
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        found += spots(value, (*prefix, key))
    return found


def edit(path: Path, data: st.DataObject) -> None:
    """Another value somewhere in a file of JSON (or in one of its lines), or one value less."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    index = data.draw(st.integers(0, len(lines) - 1))
    tree = json.loads(lines[index])
    *way, last = data.draw(st.sampled_from(spots(tree)))
    inner = tree
    for key in way:
        inner = inner[key]
    if data.draw(st.booleans()):
        inner[last] = data.draw(values)
    else:
        del inner[last]
    lines[index] = json.dumps(tree)
    path.write_text("\n".join([*lines, ""]))


def damage(path: Path, data: st.DataObject) -> None:
    """Do something to a file that nobody expects."""
    content = path.read_bytes()
    kinds = ["cut", "flip", "grow", "gone", "folder", "link", "loop", "garbage", "deep", "header"]
    kind = data.draw(st.sampled_from(kinds + 6 * ["edit"] * path.suffix.startswith(".json")))
    if kind == "edit":
        edit(path, data)
    elif kind in ("cut", "flip", "grow", "garbage", "deep", "header"):
        path.write_bytes(changed(content, kind, data))
    else:
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind == "link":
            path.symlink_to(data.draw(st.sampled_from(["/dev/null", "nowhere", "/etc/passwd", ".."])))
        elif kind == "loop":
            path.symlink_to(path.name)


def changed(content: bytes, kind: str, data: st.DataObject) -> bytes:
    """Other bytes in a file."""
    place = data.draw(st.integers(0, len(content) - 1))
    return {
        "cut": content[:place],
        "flip": content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :],
        "grow": content + content[place : place + 9],
        "garbage": data.draw(st.binary(max_size=40)),
        "deep": b"[" * 200_000,
        "header": (10 * 10**9).to_bytes(8, "little") + content[8:],  # safetensors with a header of 10 GB
    }[kind]


def resume(folder: Path) -> None:
    """Everything that happens before a resumed run is compiled."""
    given = [f"resume={folder}", "logger.wandb.mode=disabled", "devices.count=1"]
    named = [argument.partition("=")[0] for argument in given]
    container = settings_to_resume(to_container(compose_config(given)), named)
    config = parse(container)
    request = launch.Request(config, container, cells(container, config), folder)
    (config, container, made, _), resumed = launch._of_the_folder(request)
    all_lanes = lanes(len(made), list(range(config.seed, config.seed + config.num_seeds)))
    hosts = Hosts(len(all_lanes))
    ready = launch.prepare(config, made, all_lanes, hosts, resumed)
    console = ConsoleSink(quiet=True)
    session = Session(config, container, made, folder, ready.env, ready.waves, hosts, console, Clock())
    if resumed:
        session.restore()


def look(folder: Path) -> None:
    """Read what a run has left."""
    run = open_run(folder)
    assert run.name
    assert repr(run)
    assert run._repr_html_()
    assert run.metrics is not None
    assert run.lanes is not None


def play(folder: Path) -> None:
    for which in ("final", "best"):
        assert repr(open_run(folder).policy(None, which))


def answered(function, folder: Path) -> bool:
    """Whether it worked; else what it said must be a line."""
    try:
        function(folder)
    except ConfigError as error:
        message = str(error)
    else:
        return True
    assert message
    assert message.isprintable()
    return False


@settings(
    max_examples=FOLDERS,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    derandomize=FOLDERS <= 12,
)
@given(st.data())
def test_a_damaged_folder_is_used_or_refused_in_one_line(data):
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(OLDER, Path(scratch) / "run"))
        names = data.draw(
            st.lists(st.sampled_from(2 * OFTEN + 4 * STEERING + FILES), min_size=1, max_size=2, unique=True)
        )
        for name in names:
            damage(folder / name, data)
        if data.draw(st.booleans()):
            for checkpoint in (folder / "checkpoints").iterdir():
                sum_up(checkpoint)
        for function in (look, play, resume, lambda folder: compare([str(folder)])):
            answered(function, folder)


def test_a_whole_folder_is_used(tmp_path):
    folder = Path(shutil.copytree(OLDER, tmp_path / "run"))
    for function in (look, play, resume, lambda folder: compare([str(folder)])):
        assert answered(function, folder)


@pytest.mark.parametrize("name", ["metrics.jsonl", "config.json", "summary.json"])
def test_a_folder_in_the_place_of_a_file_is_named(tmp_path, name):
    folder = Path(shutil.copytree(OLDER, tmp_path / "run"))
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    for function in (look, lambda folder: compare([str(folder)])):
        answered(function, folder)
    if name != "summary.json":
        with pytest.raises(ConfigError, match=name):
            look(folder)
