"""Learning curves of all recorded runs, a panel for each map."""

import math
from collections.abc import Sequence
from pathlib import Path

from benchmark_groups import Group, metric_of
from benchmark_plan import ALGORITHMS, PEERS, WITH_GRU
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from qmix_jax.results.comparison.alignment import learning_curve
from qmix_jax.results.curves import LABELS, LINE_STYLES, PALETTE


def draw(groups: Sequence[Group], path: Path) -> None:
    """One panel for each map: interquartile mean over seeds and its 95% interval over environment steps.

    An algorithm has one colour, whatever its runs' lengths, and with GRUs on SMAX another style of line. Runs longer
    than QMIX's longest are cut where that ends.
    """
    shown = list({group.task.name: group.task for group in groups})
    columns = min(3, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(4.4 * columns + 0.4, 3.0 * rows + 0.8), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    lines, algorithms = {}, [*ALGORITHMS, *PEERS]
    colours = [name for name in algorithms if name not in WITH_GRU]
    for place, name in enumerate(shown, start=1):
        axes = figure.add_subplot(rows, columns, place)
        for group in (group for group in groups if group.task.name == name):
            index = colours.index(WITH_GRU.get(group.algorithm, [group.algorithm])[0])
            color, turn = PALETTE[index % len(PALETTE)], 2 * (index // len(PALETTE))
            style = LINE_STYLES[(turn + (group.algorithm in WITH_GRU)) % len(LINE_STYLES)]
            curve = learning_curve(group.seeds, metric_of(group))
            if curve is None:
                continue
            axes.fill_between(curve.env_steps, curve.low, curve.high, color=color, alpha=0.16, linewidth=0)
            (lines[group.algorithm],) = axes.plot(curve.env_steps, curve.iqm, style, color=color, linewidth=1.8)
            metric = metric_of(group)
            axes.set_ylabel(LABELS[metric], fontsize=8)
            if metric == "eval_win_rate":
                axes.set_ylim(-0.02, 1.02)
        axes.set_title(name, loc="left", fontsize=10)
        ends = [
            seed.env_steps[-1]
            for group in groups
            if group.task.name == name and group.algorithm in ("qmix", "qmix_gru")
            for seed in group.seeds
        ]
        axes.set_xlim(0, max(ends, default=None))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.tick_params(labelsize=8)
        axes.grid(axis="y", color="0.9", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    names = sorted(lines, key=algorithms.index)
    figure.legend([lines[name] for name in names], names, loc="outside upper left", ncols=6, frameon=False, fontsize=9)
    figure.savefig(path)
