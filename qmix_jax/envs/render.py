"""Drawing recorded episodes to files. Knows nothing of JaxMARL: its visualisers are handed in."""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qmix_jax.errors import ConfigError, unknown_choice

TEXT_SUFFIXES = (".md", ".txt")
PICTURE_SUFFIXES = (".gif", ".png")


def check_suffix(path: Path, suffixes: Sequence[str]) -> None:
    """Raise :class:`ConfigError` unless the file's name ends in one of ``suffixes``."""
    if path.suffix.lower() not in suffixes:
        raise unknown_choice("render", path.name, [f"{path.stem}{suffix}" for suffix in suffixes])


def write_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], path: Path) -> None:
    """Write a table as Markdown (``.md``, ``.txt``) or as a picture (``.gif``, ``.png``)."""
    check_suffix(path, TEXT_SUFFIXES + PICTURE_SUFFIXES)
    cells = [[f"{cell:g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    if path.suffix.lower() in TEXT_SUFFIXES:
        path.write_text(_markdown(title, columns, cells))
    else:
        _draw_table(title, columns, cells, path)


def _markdown(title: str, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(columns, *cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([title, "", line(columns), rule, *map(line, cells), ""])


def _draw_table(title: str, columns: Sequence[str], cells: Sequence[Sequence[str]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.2 * len(columns) + 1, 0.4 * len(cells) + 1.2), dpi=120)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_title(title)
    table = axes.table(cellText=[list(row) for row in cells], colLabels=list(columns), loc="center", cellLoc="center")
    table.scale(1.0, 1.5)
    figure.savefig(path)


def render_smax(visualizer: type, env: Any, episode: Any, path: Path) -> None:
    raise NotImplementedError


def render_mpe(visualizer: type, env: Any, episode: Any, path: Path) -> None:
    raise NotImplementedError
