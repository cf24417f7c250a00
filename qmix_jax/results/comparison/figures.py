"""The figures of a comparison, each as PNG and PDF."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

from qmix_jax.results.comparison.comparison import PROFILE_THRESHOLDS, Comparison
from qmix_jax.results.comparison.statistics import Estimate
from qmix_jax.results.curves import LABELS, RATES, Style, plain, styles

MOST_THRESHOLDS = 8
"""Pairs of environment and threshold in a figure; the page's table has all."""
LONGEST_LINE = 48
"""Characters per line of a method's name."""

DARK = 0.3
"""Probabilities farther than this from a half have a colour on which black cannot be read."""


def draw(comparison: Comparison, folder: Path) -> dict[str, Path]:
    """Draw all figures into ``folder``; return the name of each figure and its PNG."""
    own = styles(comparison.shown)
    figures = {
        f"curves_{metric.removeprefix('eval_')}": _curves(comparison, metric, own) for metric in comparison.curves
    }
    if comparison.over_envs:
        figures["curves_over_environments"] = _over_envs(comparison, own)
    figures["aggregates"] = _aggregates(comparison, own)
    figures["performance_profiles"] = _profiles(comparison, own)
    if comparison.improvement:
        figures["probability_of_improvement"] = _improvement(comparison)
    if comparison.reached:
        figures["time_to_threshold"] = _time_to(comparison, own)
    saved = {}
    for name, figure in figures.items():
        for suffix in (".png", ".pdf"):
            # Without the time of drawing, so that equal results give equal files.
            metadata = {"CreationDate": None} if suffix == ".pdf" else {}
            figure.savefig(folder / f"{name}{suffix}", metadata=metadata)
            figure.set_layout_engine("none")  # the layout is computed
        saved[name] = folder / f"{name}.png"
    return saved


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _curves(comparison: Comparison, metric: str, own: Mapping[str, Style]) -> Figure:
    """One panel for each environment: interquartile mean and 95% interval, dotted where seeds are missing."""
    found = comparison.curves[metric]
    envs = sorted({env for _, env in found})
    columns = min(3, len(envs))
    rows = math.ceil(len(envs) / columns)
    figure = _figure(max(5.4 * columns, 7.0), 3.6 * rows + 0.2 * _tall(list(own)))
    for place, env in enumerate(envs, start=1):
        axes = figure.add_subplot(rows, columns, place)
        for method, (color, style) in own.items():
            if (curve := found.get((method, env))) is None:
                continue
            whole = curve.counts == curve.counts.max()
            axes.fill_between(curve.env_steps, curve.low, curve.high, color=color, alpha=0.16, linewidth=0)
            marker = "o" if curve.env_steps.size == 1 else None
            # Not below the whole line: dots would fill the gaps of a dashed one.
            axes.plot(curve.env_steps, np.where(_beside(~whole), curve.iqm, np.nan), ":", color=color, linewidth=1.2)
            full = np.where(whole, curve.iqm, np.nan)
            axes.plot(curve.env_steps, full, style, color=color, linewidth=2.0, label=method, marker=marker)
        axes.set_title(wrapped(env), loc="left", fontsize=11)
        axes.set_xlabel("environment steps per seed", fontsize=9)
        axes.set_ylabel(LABELS.get(metric, metric), fontsize=9)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlim(left=0)
        if metric in RATES:
            axes.set_ylim(-0.02, 1.02)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        _plain(axes)
    _legend(figure, own)
    return figure


def _beside(places: np.ndarray) -> np.ndarray:
    """[E]: these places and their neighbours, to which their line leads."""
    found = places.copy()
    found[1:] |= places[:-1]
    found[:-1] |= places[1:]
    return found


def _plain(axes: Axes, grid: Literal["x", "y"] = "y") -> None:
    plain(axes, grid)
    axes.tick_params(labelsize=9)


def _legend(figure: Figure, own: Mapping[str, Style]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=color, ls=style, linewidth=2) for color, style in own.values()]
    labels = [wrapped(method) for method in own]
    columns = max(1, min(len(own), int(figure.get_figwidth() / (0.6 + 0.085 * widest(own)))))
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, frameon=False, fontsize=9)


def wrapped(method: str) -> str:
    """A long name on several lines."""
    return "\n".join(textwrap.wrap(method, LONGEST_LINE, break_on_hyphens=False))


def widest(methods: Iterable[str]) -> int:
    """Characters in the longest line of the names."""
    return max(len(line) for method in methods for line in wrapped(method).splitlines())


def _tall(methods: Sequence[str]) -> int:
    """Number of lines of all names."""
    return sum(wrapped(method).count("\n") + 1 for method in methods)


def _aggregates(comparison: Comparison, own: Mapping[str, Style]) -> Figure:
    """Each aggregate of all shown methods: a point and its 95% interval."""
    names = list(comparison.aggregates)
    methods = [method for method in comparison.shown if method in comparison.aggregates[names[0]]]
    figure = _figure(2.6 * len(names) + 0.075 * widest(methods) + 1.2, 0.2 * (len(methods) + _tall(methods)) + 1.0)
    all_axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, name in zip(all_axes, names, strict=True):
        for place, method in enumerate(reversed(methods)):
            value, low, high = (float(x) for x in comparison.aggregates[name][method])
            color = own[method][0]
            axes.plot([low, high], [place, place], color=color, linewidth=6, alpha=0.3, solid_capstyle="butt")
            axes.plot([value], [place], "|", color=color, markersize=12, markeredgewidth=2.5)
        axes.set_yticks(range(len(methods)), [wrapped(method) for method in reversed(methods)])
        axes.set_ylim(-0.6, len(methods) - 0.4)
        axes.set_title(name + (" (lower is better)" if name == "optimality gap" else ""), loc="left", fontsize=10)
        axes.margins(x=0.08)
        _plain(axes, "x")
    return figure


def _profiles(comparison: Comparison, own: Mapping[str, Style]) -> Figure:
    """The fraction of seeds above every threshold."""
    own = {method: own[method] for method in comparison.profiles}
    figure = _figure(7.0, 3.8 + 0.2 * _tall(list(own)))
    axes = figure.add_subplot()
    for method, profile in comparison.profiles.items():
        color, style = own[method]
        axes.fill_between(PROFILE_THRESHOLDS, profile.low, profile.high, color=color, alpha=0.16, linewidth=0)
        axes.plot(PROFILE_THRESHOLDS, profile.value, style, color=color, linewidth=2, drawstyle="steps-post")
    axes.set_xlabel("score τ", fontsize=9)
    axes.set_ylabel("seeds with a score above τ", fontsize=9)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.02, 1.02)
    _plain(axes)
    _legend(figure, own)
    return figure


def _over_envs(comparison: Comparison, own: Mapping[str, Style]) -> Figure:
    """Scaled scores over all shared environments, against the fraction of each environment's budget."""
    own = {method: own[method] for method in comparison.over_envs}
    figure = _figure(7.0, 3.8 + 0.2 * _tall(list(own)))
    axes = figure.add_subplot()
    for method, curve in comparison.over_envs.items():
        color, style = own[method]
        axes.fill_between(curve.fraction, curve.low, curve.high, color=color, alpha=0.16, linewidth=0)
        axes.plot(curve.fraction, curve.iqm, style, color=color, linewidth=2)
    axes.set_xlabel("fraction of the environment steps at which methods are compared", fontsize=9)
    axes.set_ylabel(f"scaled score over {len(comparison.shared_envs)} environments", fontsize=9)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlim(0, 1)
    _plain(axes)
    _legend(figure, own)
    return figure


def _time_to(comparison: Comparison, own: Mapping[str, Style]) -> Figure:
    """When seeds reached a threshold, in steps and in seconds: the median, and the first to the last that did."""
    wanted = list(dict.fromkeys((found.env, found.threshold) for found in comparison.reached))[:MOST_THRESHOLDS]
    methods = [method for method in comparison.shown if any(found.method == method for found in comparison.reached)]
    height = (0.24 * len(methods) + 0.9) * len(wanted) + 0.4
    figure = _figure(0.075 * widest(methods) + 8.6, height)
    all_axes = figure.subplots(len(wanted), 2, squeeze=False, sharey=True)
    for row, (env, threshold) in zip(all_axes, wanted, strict=True):
        there = [found for found in comparison.reached if (found.env, found.threshold) == (env, threshold)]
        for axes, unit in zip(row, ("env_steps", "seconds"), strict=True):
            for found in there:
                if found.method in methods:
                    place = len(methods) - 1 - methods.index(found.method)
                    _first_to_last(axes, place, getattr(found, unit), own[found.method][0])
            axes.set_yticks(range(len(methods)), [wrapped(method) for method in reversed(methods)])
            axes.set_ylim(-0.6, len(methods) - 0.4)
            latest = max((x for found in there for x in getattr(found, unit) if np.isfinite(x)), default=None)
            axes.set_xlim(0, 1.0 if latest is None else 1.15 * latest)  # room for the words after the last
            if latest is None:
                axes.set_xticks([])  # nobody came so far
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.set_xlabel({"env_steps": "environment steps per seed", "seconds": "seconds"}[unit], fontsize=8)
            _plain(axes, "x")
        told = f"{threshold:.0%}" if comparison.metric in RATES else f"{threshold:.4g}"
        row[0].set_title(f"{env}: {LABELS.get(comparison.metric, comparison.metric)} {told}", loc="left", fontsize=10)
    return figure


def _first_to_last(axes: Axes, place: int, values: np.ndarray, color: str) -> None:
    """The seeds that reached a threshold as a bar and their median over all seeds as a mark; how many never did."""
    finite = values[np.isfinite(values)]
    never = int(np.isposinf(values).sum())
    if finite.size:
        ends = [float(finite.min()), float(finite.max())]
        axes.plot(ends, [place, place], "|-", color=color, linewidth=6, alpha=0.3, solid_capstyle="butt")
        middle = float(np.median(values))
        if np.isfinite(middle):
            axes.plot([middle], [place], "|", color=color, markersize=12, markeredgewidth=2.5)
    if never:
        end = float(finite.max()) if finite.size else 0.0
        axes.annotate(f" {never} never", (end, place), va="center", fontsize=8, color="0.4")


def _improvement(comparison: Comparison) -> Figure:
    """P(row is better than column), with its interval below."""
    methods = [method for method in comparison.shown if any(method in pair for pair in comparison.improvement)]
    count, longest = len(methods), widest(methods)
    labels = [wrapped(method) for method in methods]
    figure = _figure(1.15 * count + 0.085 * longest + 2.2, 0.62 * count + 0.06 * longest + 1.0)
    axes = figure.add_subplot()
    grid = np.full((count, count), np.nan)
    for (x, y), found in comparison.improvement.items():
        row, column = methods.index(x), methods.index(y)
        grid[row, column] = found.value
        ink = "white" if abs(float(found.value) - 0.5) > DARK else "black"
        axes.text(column, row, _in_words(found), ha="center", va="center", fontsize=8, color=ink)
    image = axes.imshow(grid, cmap="PuOr_r", vmin=0, vmax=1, aspect="auto")
    turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if longest > 12 else {}
    axes.set_xticks(range(count), labels, fontsize=9, **turned)
    axes.set_yticks(range(count), labels, fontsize=9)
    axes.set_xlabel("Y", fontsize=9)
    axes.set_ylabel("X", fontsize=9, rotation=0, labelpad=10)
    axes.set_title("P(X > Y)", loc="left", fontsize=10)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes)
    return figure


def _in_words(found: Estimate) -> str:
    interval = "" if np.isnan(found.low) else f"\n{found.low:.2f} to {found.high:.2f}"
    return f"{found.value:.2f}{interval}"
