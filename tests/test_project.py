"""Packaging, pinned versions and commands: what a newcomer meets before the first line of code runs."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
INSTALL_FILES = ("pyproject.toml", "constraints.txt", "Makefile", ".ci/run", ".pre-commit-config.yaml")


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs), "every line of constraints.txt is name==version"
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def requirements() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"]
    own = [text for name in ("envs", "tensorboard", "dashboard", "dev") for text in extras[name]]
    named = [Requirement(text) for text in [*PROJECT["dependencies"], *own]]
    return [requirement for requirement in named if requirement.name != PROJECT["name"]]


@pytest.mark.parametrize("requirement", requirements(), ids=lambda requirement: requirement.name)
def test_every_dependency_has_a_true_lower_bound_and_a_pin(requirement):
    assert [part.operator for part in requirement.specifier] == [">="]
    pinned = pins()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pinned, prereleases=True)


@pytest.mark.parametrize("extra", ["cuda12", "cuda13", "tpu"])
def test_accelerators_are_jax_extras(extra):
    assert PROJECT["optional-dependencies"][extra] == [f"jax[{extra}]"]


@pytest.mark.parametrize("name", INSTALL_FILES)
def test_nothing_is_installed_from_a_fixed_place(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"index-url|find-links|trusted-host", text)


def test_the_wheel_carries_the_configuration(tmp_path):
    wheel = next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    names = set(zipfile.ZipFile(wheel).namelist())
    in_checkout = {f"qmix_jax/conf/{path.relative_to(ROOT / 'conf')}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert in_checkout
    assert in_checkout <= names
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "qmix_jax").rglob("*.py")}
    assert sources <= names
    assert not [name for name in names if name.startswith(("tests", "experiments", "runs"))]
    policies = {f"qmix_jax/shipped_policies/{path.name}" for path in (ROOT / "experiments" / "policies").iterdir()}
    assert len(policies) >= 3
    assert policies <= names


def test_make_alone_lists_the_targets():
    listed = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for target in ("setup", "train", "test", "check", "bench", "clean"):
        assert f"make {target} " in listed


def test_setup_says_in_one_line_that_python_is_too_old(tmp_path):
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    command = ["make", "--silent", "setup", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert "Python 3.11 or newer" in ended.stderr.splitlines()[0]
    assert not (tmp_path / "venv").exists()


def documents() -> list[Path]:
    return [path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md") if path.exists()]


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_documented_make_commands_exist(document):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = document.read_text(encoding="utf-8")
    commands = re.findall(r"^make ([a-z-]+)", text, re.MULTILINE) + re.findall(r"`make ([a-z-]+)", text)
    assert commands
    assert set(commands) <= targets


def test_the_ci_script_can_be_run():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)


LOAD_ALL = """
import runpy, sys
from pathlib import Path
path = list(sys.path)
for script in sys.argv[1:]:
    sys.path[:] = [str(Path(script).parent), *path]
    runpy.run_path(script, run_name="not_main")
    print(script)
"""


def test_every_experiment_still_finds_what_it_imports():
    """Results take hours and are not repeated by the tests; their scripts must not go stale unseen."""
    scripts = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "experiments").rglob("*.py"))
    assert len(scripts) > 15
    command = [sys.executable, "-c", LOAD_ALL, *scripts]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == scripts
