"""Learning curves of one run with its seeds, or of several runs in one figure."""

import io
import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

from qmix_jax.logging.files import METRICS_FILE, whole

LABELS = {
    "eval_return": "greedy return",
    "eval_win_rate": "greedy win rate",
    "eval_episode_length": "greedy episode length",
    "train_return": "training return",
    "train_win_rate": "training win rate",
}
RATES = {"eval_win_rate", "train_win_rate"}

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, which remain distinct with any common colour blindness."""
LINE_STYLES = ("-", "--", "-.", ":")
LETTER = 0.14
"""Inches that a letter of the title takes, wide ones too."""

Style = tuple[str, str]
"""Colour and line style."""

Row = Mapping[str, Any]
"""One line of ``metrics.jsonl``: one epoch of one seed."""


class Picture(Figure):
    """A figure that a notebook shows by itself."""

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png")
        return content.getvalue()


class Curves(NamedTuple):
    """One metric of S seeds at E common points of training."""

    env_steps: np.ndarray
    """[E]"""
    values: np.ndarray
    """[S, E]; NaN before the first and after the last value of a seed. Every point has a value of one seed or more."""

    @property
    def counts(self) -> np.ndarray:
        """[E]: seeds at each point."""
        return np.isfinite(self.values).sum(axis=0)


def read_metrics(run_dir: Path | str) -> list[dict[str, Any]]:
    """The rows of a run's ``metrics.jsonl``.

    Raises:
        FileNotFoundError: the folder has no such file.
    """
    with (Path(run_dir) / METRICS_FILE).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def curves(rows: Iterable[Row], metric: str) -> Curves | None:
    """One metric of one run, or None if it has no values. Epochs and seeds without a value are left out."""
    per_seed: dict[int, list[tuple[float, float]]] = {}
    for row in rows:
        value = row.get(metric)
        per_seed.setdefault(row["seed"], []).append((row["env_steps"], np.nan if value is None else value))
    return _on_common_steps([np.asarray(points, float).T for points in per_seed.values()])


def learning_curves(
    rows: Iterable[Row],
    path: Path | str,
    *,
    title: str = "",
    metrics: Sequence[str] = ("eval_return", "eval_win_rate"),
) -> Path:
    """:func:`draw_curves`, saved at ``path``."""
    return _write(draw_curves(rows, title=title, metrics=metrics), path)


def draw_curves(
    rows: Iterable[Row], *, title: str = "", metrics: Sequence[str] = ("eval_return", "eval_win_rate")
) -> Figure:
    """Draw ``metrics`` of one run over its environment steps, one panel each.

    Thin lines are seeds, the thick line is their mean, and the band reaches from the lowest to the highest seed.
    Metrics without values are left out; if none is left, the figure says so.
    """
    rows = list(rows)
    drawn = {metric: found for metric in metrics if (found := curves(rows, metric)) is not None}
    figure, all_axes = panels(len(drawn), title)
    for axes, (metric, found) in zip(all_axes, drawn.items(), strict=True):
        _draw(axes, found, PALETTE[0], "-", "")
        if len(found.values) > 1:
            axes.plot(found.env_steps, found.values.T, color=PALETTE[0], linewidth=0.7, alpha=0.45)
        _describe(axes, metric)
    return _with_note(figure, _note(drawn.values()))


def compare_runs(
    runs: Mapping[str, Sequence[Path | str]],
    path: Path | str,
    *,
    title: str = "",
    metrics: Sequence[str] = ("eval_return", "eval_win_rate"),
) -> Path:
    """Draw several experiments in one figure; ``runs`` maps a label to run folders, whose seeds are pooled.

    Lines are means over seeds and bands reach from the lowest to the highest seed, as in :func:`learning_curves`.
    Seeds evaluated at different steps are interpolated over their common range.

    Raises:
        FileNotFoundError: a folder has no ``metrics.jsonl``.
    """
    rows = {label: [read_metrics(run_dir) for run_dir in run_dirs] for label, run_dirs in runs.items()}
    return compare_rows(rows, path, title=title, metrics=metrics)


def compare_rows(
    rows: Mapping[str, Sequence[Sequence[Row]]],
    path: Path | str,
    *,
    title: str = "",
    metrics: Sequence[str] = ("eval_return", "eval_win_rate"),
    note: str = "",
) -> Path:
    """As :func:`compare_runs`, for rows already read; ``note`` is added below the figure."""
    drawn = {metric: _by_label(rows, metric) for metric in metrics}
    drawn = {metric: by_label for metric, by_label in drawn.items() if by_label}
    figure, all_axes = panels(len(drawn), title)
    own = styles(rows)
    for axes, (metric, by_label) in zip(all_axes, drawn.items(), strict=True):
        for label, found in by_label.items():
            _draw(axes, found, *own[label], label)
        _describe(axes, metric)
    if drawn:
        handles, labels = all_axes[0].get_legend_handles_labels()
        # Beside the title if there is room: in inches, an entry's line and space and its letters.
        room = figure.get_figwidth() - LETTER * len(title)
        if sum(0.6 + 0.08 * len(label) for label in labels[:4]) <= room and max(map(len, labels)) <= 15:
            figure.legend(handles, labels, loc="outside upper right", ncols=min(len(labels), 4), frameon=False)
        else:
            figure.set_figwidth(figure.get_figwidth() + 0.09 * max(len(label) for label in labels))
            figure.legend(handles, labels, loc="outside right upper", frameon=False)
    told = _note(found for by_label in drawn.values() for found in by_label.values())
    return save(figure, path, told + note)


def _by_label(rows: Mapping[str, Sequence[Sequence[Row]]], metric: str) -> dict[str, Curves]:
    pooled = {}
    for label, runs in rows.items():
        parts = [found for run in runs if (found := curves(run, metric)) is not None]
        joined = _on_common_steps([np.stack([part.env_steps, seed]) for part in parts for seed in part.values])
        if joined is not None:
            pooled[label] = joined
    return pooled


def _on_common_steps(seeds: Sequence[np.ndarray]) -> Curves | None:
    """Bring seeds, each [2, E] of steps and values, to common steps.

    Seeds evaluated at almost the same steps (the epochs of one run, whose episodes differ in length) keep their values,
    at the mean of their steps. Others are interpolated at the steps of the seed with the fewest points. Values that a
    seed lacks between two others are interpolated, too; a seed without values at its end does not shorten the others.
    """
    seeds = [seed for seed in seeds if np.isfinite(seed[1]).any()]
    if not seeds:
        return None
    if len({seed.shape for seed in seeds}) == 1:
        all_steps, values = np.stack(seeds, axis=1)
        if np.all(np.ptp(all_steps, axis=0) <= 0.05 * all_steps.max(axis=0)):
            filled = np.stack([_interpolated(seed[0], seed) for seed in seeds])
            there = np.isfinite(values).any(axis=0)
            return Curves(all_steps.mean(axis=0)[there], filled[:, there])
    first, last = max(seed[0][0] for seed in seeds), min(seed[0][-1] for seed in seeds)
    steps = min((seed[0] for seed in seeds), key=len)
    steps = steps[(steps >= first) & (steps <= last)]
    values = np.stack([_interpolated(steps, seed) for seed in seeds])
    there = np.isfinite(values).any(axis=0)
    return Curves(steps[there], values[:, there]) if there.any() else None


def _interpolated(steps: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """A seed's values at ``steps``, NaN outside of those that it has."""
    return np.interp(steps, *seed[:, np.isfinite(seed[1])], left=np.nan, right=np.nan)


def panels(count: int, title: str) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` axes in a row."""
    figure = Picture(figsize=(6.2 * max(count, 1), 4.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        lines = "\n".join(textwrap.wrap(title, int(figure.get_figwidth() / LETTER)))
        figure.suptitle(lines, x=0.01, horizontalalignment="left", fontsize=13, fontweight="bold")
    return figure, [figure.add_subplot(1, count, index + 1) for index in range(count)]


def styles(labels: Iterable[str]) -> dict[str, Style]:
    """A colour and a line style for each label, the same in every figure."""
    return {
        label: (PALETTE[index % len(PALETTE)], LINE_STYLES[index // len(PALETTE) % len(LINE_STYLES)])
        for index, label in enumerate(labels)
    }


def plain(axes: Axes, grid: Literal["both", "x", "y"] = "y", color: str = "0.9") -> None:
    """A light grid in the background, and no lines above and on the right."""
    axes.grid(axis=grid, color=color, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw(axes: Axes, found: Curves, color: str, style: str, label: str) -> None:
    marker = "o" if found.env_steps.size == 1 else None  # a single point has no line
    if len(found.values) > 1:
        low, high = np.nanmin(found.values, axis=0), np.nanmax(found.values, axis=0)
        axes.fill_between(found.env_steps, low, high, color=color, alpha=0.15, linewidth=0)
    mean = np.nanmean(found.values, axis=0)
    axes.plot(found.env_steps, mean, style, color=color, linewidth=2.2, label=label, marker=marker)


def _describe(axes: Axes, metric: str) -> None:
    axes.set_title(LABELS.get(metric, metric), loc="left", fontsize=11)
    axes.set_xlabel("environment steps per seed")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(left=0)
    plain(axes)
    axes.margins(x=0.01)
    if metric in RATES:
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _note(drawn: Iterable[Curves]) -> str:
    """The caption that explains lines and bands."""
    counts = [found.counts for found in drawn]
    if not counts:
        return "no evaluation was recorded"
    least, most = min(count.min() for count in counts), max(count.max() for count in counts)
    if most == 1:
        return "one seed"
    counted = f"{least} to {most}" if least < most else f"{most}"
    return f"mean of {counted} seeds, band from the lowest to the highest seed"


def save(figure: Figure, path: Path | str, note: str) -> Path:
    """Save the figure with a small note below it."""
    return _write(_with_note(figure, note), path)


def _with_note(figure: Figure, note: str) -> Figure:
    figure.supxlabel(note, fontsize=8.5, color="0.35", x=0.01, horizontalalignment="left")
    return figure


def _write(figure: Figure, path: Path | str) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        figure.savefig(partial, format=path.suffix[1:] or "png")
    return path
