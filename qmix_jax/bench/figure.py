"""The figure of a report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from qmix_jax.results.curves import PALETTE, plain

NAMES = {
    "seeds": "seeds",
    "num_envs": "parallel environments",
    "scenarios": "scenario",
    "lengths": "slots per sequence",
}


def draw(report: Mapping[str, Any], path: Path) -> Path:
    """Draw one panel for the pieces of an iteration, one for each curve, and one for ratios if there are any."""
    curves = {
        name: points for name, points in report["curves"].items() if any("error" not in point for point in points)
    }
    ratios = _ratios(report)
    count = 1 + len(curves) + bool(ratios)
    figure = Figure(figsize=(4.6 * count, 3.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(report["title"], x=0.01, horizontalalignment="left", fontsize=12, fontweight="bold")
    panels = [figure.add_subplot(1, count, index + 1) for index in range(count)]
    _pieces(panels[0], report)
    for axes, (name, points) in zip(panels[1:], curves.items(), strict=False):
        _curve(axes, name, points)
    if ratios:
        _draw_ratios(panels[-1], ratios)
    note = f"{report['bench']['repetitions']} repetitions: medians, lines from minimum to maximum"
    figure.supxlabel(note, fontsize=8.5, color="0.35", x=0.01, horizontalalignment="left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _pieces(axes: Axes, report: Mapping[str, Any]) -> None:
    pieces = report["iteration_seconds"]
    _bars(axes, {name: _scaled(pieces[name], 1e3) for name in pieces}, PALETTE[0])
    axes.set_title("one iteration of one seed, ms", loc="left", fontsize=10)


def _curve(axes: Axes, name: str, points: list[Mapping[str, Any]]) -> None:
    measured = [point for point in points if "error" not in point]
    places = range(len(measured))
    rates = [point["env_steps_per_second"] for point in measured]
    low = [rate["median"] - rate["lowest"] for rate in rates]
    high = [rate["highest"] - rate["median"] for rate in rates]
    medians = [rate["median"] for rate in rates]
    axes.errorbar(places, medians, yerr=[low, high], color=PALETTE[1], marker="o", capsize=3)
    axes.set_xticks(places, [str(point["value"]) for point in measured])
    axes.set_xlabel(NAMES[name])
    axes.set_title("environment steps per second, all seeds", loc="left", fontsize=10)
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_ylim(0, 1.1 * max(rate["highest"] for rate in rates))
    plain(axes)


def _ratios(report: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    baseline = report.get("baseline") or {"parts": {}}
    found = {f"{baseline.get('name')}: {what}": part["speedup"] for what, part in baseline["parts"].items()}
    for compared in report.get("peer") or []:
        if "error" not in compared:
            found[f"JaxMARL, {compared['seeds']} seed(s)"] = compared["ratios"]["env_steps_per_second"]
    return found


def _draw_ratios(axes: Axes, ratios: Mapping[str, Mapping[str, float]]) -> None:
    _bars(axes, ratios, PALETTE[2])
    axes.axvline(1, color="0.3", linewidth=0.8)
    axes.set_title("times as fast as", loc="left", fontsize=10)


def _bars(axes: Axes, bars: Mapping[str, Mapping[str, float]], color: str) -> None:
    medians = [bar["median"] for bar in bars.values()]
    low = [bar["median"] - bar["lowest"] for bar in bars.values()]
    high = [bar["highest"] - bar["median"] for bar in bars.values()]
    axes.barh(list(bars), medians, xerr=[low, high], color=color, capsize=3)
    axes.invert_yaxis()
    plain(axes, "x")


def _scaled(values: Mapping[str, float], factor: float) -> dict[str, float]:
    return {name: value * factor for name, value in values.items()}
