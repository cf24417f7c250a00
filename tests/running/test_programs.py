"""Traced programs that are kept between starts: when they are used, when not, and that they are the same programs."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmix_jax import make_algorithm
from qmix_jax.running.programs import kept, sources
from qmix_jax.running.programs.kept import KeptPrograms, kept_programs, programs_of
from qmix_jax.running.waves import Waves
from qmix_jax.settings.command_line import compose_config
from qmix_jax.settings.config import Config
from qmix_jax.settings.reading import parse, to_container

PROJECT = Path(__file__).parents[2]
LATER = time.time() + 10**6
"""When a process begins to read its sources, so that they have all been there for long."""


@pytest.fixture
def source(tmp_path, monkeypatch) -> Path:
    """The one file that everything depends on."""
    file = tmp_path / "module.py"
    file.write_text("first")
    monkeypatch.setattr(sources, "loaded_files", lambda: [str(file)])
    monkeypatch.setattr(sources, "PROJECT", tmp_path)
    return file


class Traced:
    """``(state, x) -> (state + x, metrics)``, which counts how often it is traced."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, state: dict, x: jax.Array) -> tuple[dict, dict]:
        self.times += 1
        return {"sum": state["sum"] + x, "key": state["key"]}, {"b": 2 * x, "a": x}


def use(programs: KeptPrograms, size: int = 3, sizes: object = None) -> int:
    """Call a program, and say how often it was traced for that."""
    function = Traced()
    state, x = {"sum": jnp.ones(size), "key": jax.random.key(5)}, jnp.arange(float(size))
    epoch = programs.epoch(jax.jit(function), jax.eval_shape(lambda: (state, x)), sizes, donate_argnums=0)
    new, metrics = epoch(jax.tree.map(jnp.copy, state), x)
    np.testing.assert_array_equal(new["sum"], 1 + x)
    np.testing.assert_array_equal(jax.random.key_data(new["key"]), jax.random.key_data(state["key"]))
    np.testing.assert_array_equal(metrics["a"], x)
    np.testing.assert_array_equal(metrics["b"], 2 * x)
    return function.times


def test_a_program_is_traced_once(tmp_path, source):
    programs = KeptPrograms(tmp_path / "kept", "settings", LATER)
    assert [use(programs), use(programs)] == [1, 0]


def test_an_initial_state_is_traced_once(tmp_path, source):
    programs, traced = KeptPrograms(tmp_path / "kept", "settings", LATER), []

    def init(key: jax.Array) -> dict:
        traced.append(key)
        return {"key": key, "weights": jax.random.normal(key, (2,))}

    key = jax.random.key(3)
    state = jax.eval_shape(lambda: {"key": key, "weights": jnp.ones(2)})
    first, second = (programs.init(jax.jit(init), jax.eval_shape(lambda: key), state, None)(key) for _ in range(2))
    assert len(traced) == 1
    np.testing.assert_array_equal(first["weights"], jax.random.normal(key, (2,)))
    np.testing.assert_array_equal(first["weights"], second["weights"])


def test_what_decides_about_a_program_names_its_file(tmp_path, source, monkeypatch):
    programs = KeptPrograms(tmp_path / "kept", "settings", LATER)
    use(programs)
    assert use(programs._replace(settings="others")) == 1
    assert use(programs, size=4) == 1
    assert use(programs, sizes="others") == 1
    with jax.default_matmul_precision("highest"):
        assert use(programs) == 1
    monkeypatch.setenv("XLA_FLAGS", f"{os.environ.get('XLA_FLAGS', '')} ")
    assert use(programs) == 1
    monkeypatch.undo()


@pytest.mark.parametrize("change", ["content", "same again", "gone", "another"])
def test_a_changed_source_is_traced_again(tmp_path, source, monkeypatch, change):
    programs = KeptPrograms(tmp_path / "kept", "settings", LATER)
    use(programs)
    status = source.stat()
    if change == "content":
        source.write_text("other")  # as long, and with the times of before, as `cp --preserve` leaves it
        os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "same again":
        source.touch()
    elif change == "gone":
        source.unlink()
    else:
        other = tmp_path / "other.py"
        other.touch()
        monkeypatch.setattr(sources, "loaded_files", lambda: [str(source), str(other)])
    assert use(programs) == 1


def test_sources_that_changed_since_the_process_began_are_not_trusted(tmp_path, source):
    programs = KeptPrograms(tmp_path / "kept", "settings", time.time())
    assert [use(programs), use(programs)] == [1, 1]
    assert not list(tmp_path.rglob("*.program"))


def test_sources_of_the_user_are_not_trusted(tmp_path, source, monkeypatch):
    monkeypatch.setattr(sources, "PROJECT", tmp_path / "elsewhere")
    programs = KeptPrograms(tmp_path / "kept", "settings", LATER)
    assert [use(programs), use(programs)] == [1, 1]


def test_a_damaged_file_is_written_again(tmp_path, source):
    programs = KeptPrograms(tmp_path / "kept", "settings", LATER)
    use(programs)
    (file,) = (tmp_path / "kept").iterdir()
    whole = file.read_bytes()
    for damaged in (b"", whole[:100], b"{}\n" + whole, b"1\n", whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        file.write_bytes(damaged)
        assert [use(programs), use(programs)] == [1, 0]
    assert list((tmp_path / "kept").iterdir()) == [file]


class Told(NamedTuple):
    """What an algorithm takes."""

    bytes: int
    slots: int


def test_numbers_are_computed_once_for_every_size(tmp_path, source):
    asked = []

    def tell(algorithm: types.SimpleNamespace) -> Told:
        asked.append(algorithm.sizes)
        return Told(2**40 + algorithm.sizes, 3)

    programs = KeptPrograms(tmp_path / "kept", "settings", LATER)
    for sizes in (1, 1, 2, 1):
        assert programs.numbers(Told, tell, types.SimpleNamespace(sizes=sizes)) == Told(2**40 + sizes, 3)
    assert asked == [1, 2]
    for file in (tmp_path / "kept").iterdir():
        file.write_bytes(b"{}\n[]")
    assert programs.numbers(Told, tell, types.SimpleNamespace(sizes=1)) == Told(2**40 + 1, 3)
    source.write_text("another")
    assert programs.numbers(Told, tell, types.SimpleNamespace(sizes=1)) == Told(2**40 + 1, 3)
    assert asked == [1, 2, 1, 1]


def test_a_folder_that_cannot_be_made_costs_only_time(tmp_path, source):
    (tmp_path / "kept").touch()
    programs = KeptPrograms(tmp_path / "kept", "settings", LATER)
    assert [use(programs), use(programs)] == [1, 1]


def test_what_has_no_form_for_a_file_is_compiled_as_it_is(tmp_path, source):
    def function(state: jax.Array, x: jax.Array) -> tuple[jax.Array, dict]:
        return state, {"a": jax.pure_callback(np.sin, x, x)}

    programs, x = KeptPrograms(tmp_path / "kept", "settings", LATER), jnp.ones(2)
    epoch = programs.epoch(jax.jit(function), jax.eval_shape(lambda: (x, x)), None)
    np.testing.assert_allclose(epoch(x, x)[1]["a"], np.sin(1.0), rtol=1e-6)


def test_loaded_files_are_those_of_modules():
    files = sources.loaded_files()
    assert {kept.__file__, json.__file__, jax.__file__} <= set(files)
    stamps = sources.stamps()
    assert stamps is not None
    assert stamps[json.__file__][2] == Path(json.__file__).stat().st_size
    assert sources.are_installed([kept.__file__, json.__file__, jax.__file__])
    assert not sources.are_installed([json.__file__, __file__])


@pytest.fixture
def cache(tmp_path) -> Iterator[None]:
    """JAX's cache in a folder of the test's own."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "cache"))
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def configured(*arguments: str) -> Config:
    return parse(to_container(compose_config(["env=two_step", *arguments])))


def test_only_the_command_keeps_programs(monkeypatch, cache):
    config = configured()
    assert kept_programs(config) is None
    command = types.SimpleNamespace(__spec__=types.SimpleNamespace(name="qmix_jax.train"))
    monkeypatch.setitem(sys.modules, "__main__", command)
    assert kept_programs(config) == programs_of(config) != None  # noqa: E711 - both at once


@pytest.mark.parametrize("text", ["a_run", "my_package.make_env", "my_module:play", "policy.safetensors"])
def test_settings_that_name_files_or_code_of_others_keep_no_programs(tmp_path, monkeypatch, cache, text):
    monkeypatch.chdir(tmp_path)
    config = configured()

    def programs(opponents: object) -> KeptPrograms | None:
        parts = {**config.parts, "env": {**config.parts["env"], "opponents": opponents}}
        return programs_of(dataclasses.replace(config, parts=parts))

    assert programs("random") is not None
    (tmp_path / "a_run").mkdir()
    assert programs(text) is None
    assert programs([{"one": text}]) is None
    (tmp_path / "random").touch()
    assert programs("random") is None


def test_without_jaxs_cache_no_programs_are_kept(cache):
    config, folder = configured(), jax.config.jax_compilation_cache_dir
    for elsewhere in ("gs://bucket/cache", None):
        jax.config.update("jax_compilation_cache_dir", elsewhere)
        assert programs_of(config) is None
    jax.config.update("jax_compilation_cache_dir", folder)
    assert programs_of(config) is not None
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        assert programs_of(config) is None
    finally:
        jax.config.update("jax_enable_compilation_cache", True)


def test_a_runs_own_settings_decide_nothing(cache):
    others = ("seed=3", "run_dir=there", "logger.progress=false", "checkpoint.every_minutes=1")
    assert programs_of(configured()) == programs_of(configured(*others))
    assert programs_of(configured()) != programs_of(configured("gamma=0.5"))


TINY = (
    "env=two_step",
    "total_env_steps=40",
    "rollout.num_envs=5",
    "agent.hidden_size=4",
    "replay.capacity=20",
    "replay.batch_size=4",
    "learner.warmup_env_steps=0",
    "learner.updates_per_iteration=1",
    "evaluation.interval_env_steps=20",
    "evaluation.episodes=2",
)


def test_kept_programs_compute_the_same_bits(tmp_path, source):
    algorithm, hyper = make_algorithm([*TINY, "num_seeds=1"])
    states = []
    for programs in (None, KeptPrograms(tmp_path / "kept", "", LATER), KeptPrograms(tmp_path / "kept", "", LATER)):
        waves = Waves(algorithm, hyper, [1], devices=jax.local_devices()[:1])
        waves.programs = programs
        waves.compile()
        metrics = [waves.epoch(), waves.epoch()]
        states.append((metrics, waves.snapshot()))
    assert len(list((tmp_path / "kept").iterdir())) == 2
    for other in states[1:]:
        jax.tree.map(np.testing.assert_array_equal, states[0], other)


def test_a_changed_source_is_what_a_command_runs(tmp_path):
    """Three starts of a copy of the project; before the third a line of it is changed."""
    copy = tmp_path / "project"
    for folder in ("qmix_jax", "conf"):
        shutil.copytree(PROJECT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    cache = tmp_path / "cache"
    environment = {**os.environ, "PYTHONPATH": str(copy), "JAX_COMPILATION_CACHE_DIR": str(cache)}

    def returns(name: str) -> list[float]:
        time.sleep(2.5)  # so that the sources are older than the process by more than a file system's clock may be off
        arguments = [*TINY, f"run_dir={name}", "logger.wandb.mode=disabled", "logger.plot=false"]
        command = [sys.executable, "-m", "qmix_jax.train", *arguments]
        subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=600)
        rows = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        return [json.loads(row)["eval_return"] for row in rows]

    def times() -> dict[str, int]:
        return {file.name: file.stat().st_mtime_ns for file in (cache / "traced").iterdir()}

    first = returns("first")
    traced = times()
    assert len(traced) == 3  # the epoch, the initial state, and what they take in memory
    assert returns("second") == first
    assert times() == traced  # read, not written
    file = copy / "qmix_jax" / "envs" / "two_step.py"
    with file.open("a") as source:
        source.write("\nPAYOFF *= 100\n")
    third = returns("third")
    assert max(first) <= 8
    assert set(third) <= {0.0, 100.0, 700.0, 800.0}
    assert max(third) > 8
    again = times()
    assert again.keys() == traced.keys()
    assert all(again[name] > traced[name] for name in traced)
