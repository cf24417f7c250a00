"""Figures of a sweep: learning curves of the best cells, and scores over the swept values."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from qmix_jax.results.curves import LABELS, PALETTE, Row, compare_rows, panels, plain, save
from qmix_jax.settings.values import text_of

SHOWN = 7
"""How many cells get a learning curve: as many as there are distinct colours."""

Summary = Mapping[str, Any]
"""The content of a sweep's ``summary.json``."""


def cell_curves(rows: Sequence[Row], summary: Summary, path: Path | str, *, title: str = "") -> Path:
    """Draw learning curves of the best cells, in the order of their ranks."""
    best = sorted(summary["cells"], key=lambda cell: cell["rank"])[:SHOWN]
    per_cell = {name(cell): [[row for row in rows if row["cell"] == cell["cell"]]] for cell in best}
    left_out = len(summary["cells"]) - len(best)
    return compare_rows(per_cell, path, title=title, note=f"; the best {SHOWN} of {SHOWN + left_out}" * bool(left_out))


def name(cell: Mapping[str, Any]) -> str:
    """``lr=0.0005 td_lambda=0.6``."""
    return " ".join(f"{key}={text_of(value)}" for key, value in cell["values"].items())


def scores(summary: Summary, path: Path | str, *, title: str = "") -> Path:
    """Draw the score of every cell over its values.

    With one swept key: points with 95% intervals. With two keys in a full grid: a heat map. Otherwise parallel axes,
    with one line for each cell, coloured by its score.
    """
    cells, label = summary["cells"], LABELS[f"eval_{summary['score']}"]
    values = {key: [cell["values"][key] for cell in cells] for key in cells[0]["values"]}
    values = {key: found for key, found in values.items() if len(set(found)) > 1}
    figure, (axes,) = panels(1, title)
    distinct = [len(set(found)) for found in values.values()]
    note = f"interquartile mean over {len(summary['seeds'])} seed(s) of the final {label}"
    if len(values) == 1:
        _points(axes, *next(iter(values.items())), cells, label)
        note += ", 95% bootstrap intervals" * bool(np.isfinite(_of_score(cells, "low")).any())
    elif len(values) == 2 and np.prod(distinct) == len(cells):
        _heat_map(figure, axes, values, cells)
    else:
        _parallel(figure, axes, values, cells)
    return save(figure, path, note)


def _of_score(cells: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """[cells]: NaN where there is none."""
    return np.array([np.nan if cell["score"][name] is None else cell["score"][name] for cell in cells])


def _points(axes: Axes, key: str, values: list[float], cells: Sequence[Mapping[str, Any]], label: str) -> None:
    # Equal spacing: values are often powers of something, with 0 among them.
    order = np.argsort(values, kind="stable")
    places = np.argsort(order)
    low, high = _of_score(cells, "low"), _of_score(cells, "high")
    axes.vlines(places, low, high, color=PALETTE[0], linewidth=2, alpha=0.5)
    axes.plot(places, _of_score(cells, "iqm"), "o", color=PALETTE[0], markersize=7)
    _ticks(axes, "x", [values[place] for place in order])
    axes.set_xlim(-0.5, len(values) - 0.5)
    axes.set_xlabel(key)
    axes.set_title(label, loc="left", fontsize=11)
    plain(axes)


def _ticks(axes: Axes, which: str, values: Sequence[float]) -> None:
    """Values along an axis at places 0, 1, 2, ...: turned, and every second one or fewer, where there are many."""
    every = -(-len(values) // MOST_TICKS)
    places = range(0, len(values), every)
    labels = [text_of(values[place]) for place in places]
    if which == "y":
        axes.set_yticks(places, labels)
    else:
        crowded = len(labels) * max(map(len, labels)) > MOST_LETTERS
        axes.set_xticks(
            places, labels, rotation=60 * crowded, ha="right" if crowded else "center", rotation_mode="anchor"
        )


MOST_TICKS, MOST_LETTERS = 24, 50
"""What fits along an axis, upright and side by side."""


def _heat_map(
    figure: Figure, axes: Axes, values: Mapping[str, list[float]], cells: Sequence[Mapping[str, Any]]
) -> None:
    (row_key, row_values), (column_key, column_values) = values.items()
    rows, columns = sorted(set(row_values)), sorted(set(column_values))
    grid = np.full((len(rows), len(columns)), np.nan)
    for row, column, score in zip(row_values, column_values, _of_score(cells, "iqm"), strict=True):
        grid[rows.index(row), columns.index(column)] = score
    figure.set_size_inches(max(6.2, 0.6 * len(columns) + 2), max(4.0, 0.3 * len(rows) + 1.5))
    image = axes.imshow(grid, cmap="viridis", aspect="auto")
    middle = np.mean(image.get_clim())
    for (row, column), score in np.ndenumerate(grid):
        color = "white" if score < middle else "black"
        if np.isnan(score):
            continue  # numbers went wrong: no colour, no score
        axes.text(column, row, f"{score:.3g}", ha="center", va="center", color=color)
    _ticks(axes, "x", columns)
    _ticks(axes, "y", rows)
    axes.set_xlabel(column_key)
    axes.set_ylabel(row_key)
    figure.colorbar(image, ax=axes)


def _parallel(
    figure: Figure, axes: Axes, values: Mapping[str, list[float]], cells: Sequence[Mapping[str, Any]]
) -> None:
    iqm = _of_score(cells, "iqm")
    finite = iqm[np.isfinite(iqm)] if np.isfinite(iqm).any() else np.zeros(1)
    norm = Normalize(finite.min(), max(finite.max(), finite.min() + 1e-9))
    figure.set_figwidth(max(6.2, 0.1 * len(values) * max(map(len, values)) + 1))  # the keys' names side by side
    heights = np.array([_height(np.array(found)) for found in values.values()])  # [keys, cells]
    for place in np.argsort(iqm):  # the best on top
        axes.plot(heights[:, place], color=colormaps["viridis"](norm(iqm[place])), linewidth=1.8, alpha=0.85)
    for x, (key, found) in enumerate(values.items()):
        axes.axvline(x, color="0.6", linewidth=0.8, zorder=0)
        for value in {min(found), max(found)}:
            height = heights[x, found.index(value)]
            axes.annotate(f"{value:g}", (x, height), xytext=(4, 3), textcoords="offset points", fontsize=8, color="0.3")
        axes.text(x, 1.07, key, ha="center", fontsize=9.5)
    axes.set_axis_off()
    axes.set_ylim(-0.05, 1.12)
    figure.colorbar(ScalarMappable(norm, "viridis"), ax=axes)


def _height(values: np.ndarray) -> np.ndarray:
    """Scale values to 0 to 1, logarithmically if they span more than a factor of 30."""
    if values.min() > 0 and values.max() / values.min() > 30:
        values = np.log(values)
    span = np.ptp(values)
    return (values - values.min()) / span if span else np.full(values.shape, 0.5)
