"""The notebook in docs/: its cells run in order. Slow: it trains twice."""

import json
import sys
import types
from pathlib import Path

import pytest

from qmix_jax.library import checked_list
from qmix_jax.settings.command_line import check

NOTEBOOK = Path(__file__).parents[1] / "docs" / "first_steps.ipynb"


def cells() -> list[str]:
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4
    assert not any(cell.get("outputs") for cell in content["cells"]), "saved without outputs"
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]


def test_its_settings_are_understood(monkeypatch: pytest.MonkeyPatch):
    """Every cell compiles, and what it would train is a valid configuration."""
    given = []
    monkeypatch.setattr("qmix_jax.library.run", given.append)
    space: dict = {}
    for source in cells():
        code = compile(source, "cell", "exec")
        if "qmix_jax.run" in source or "import qmix_jax" in source:
            exec(code, space)
    assert len(given) == 2
    for overrides in given:
        check(checked_list(overrides))


@pytest.mark.slow
def test_every_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    display = types.ModuleType("IPython.display")
    shown: list[str] = []

    def show(filename: str) -> None:
        shown.append(filename)

    display.Image = show  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    space: dict = {}
    for source in cells():
        exec(compile(source, "cell", "exec"), space)
    assert Path(shown[0]).read_bytes().startswith(b"GIF8")
