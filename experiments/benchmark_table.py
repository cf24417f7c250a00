"""Tables and curves of the recorded runs, written into the documentation."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from benchmark_plan import ALGORITHMS, PEERS, Task, tasks
from benchmark_play import EPISODES, PLAYED
from benchmark_runs import RECORDS, read_json
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from qmix_jax.errors import ConfigError
from qmix_jax.logging import METRICS_FILE
from qmix_jax.logging.files import read_rows
from qmix_jax.results.comparison.alignment import A_LITTLE, learning_curve
from qmix_jax.results.comparison.records import Seed
from qmix_jax.results.comparison.statistics import bootstrap, iqm
from qmix_jax.results.curves import LABELS, LINE_STYLES, PALETTE

BEGIN, END = "<!-- benchmark: begin -->", "<!-- benchmark: end -->"
PAGE = Path(__file__).parents[1] / "docs" / "results.md"
AT = (1_000_000, 2_000_000)
"""Environment steps of one seed."""
THRESHOLDS = (0.5, 0.9)
"""Win rates whose time is in the table."""
TRAINING_EPISODES = ("peer_mappo",)
"""Algorithms whose numbers are of the episodes that they train on."""


class Group(NamedTuple):
    """The recorded seeds of one algorithm, of one length, on one map."""

    task: Task
    label: str
    seeds: Sequence[Seed]
    abouts: Sequence[Mapping[str, Any]]
    """What each record says of itself."""
    compile_seconds: Sequence[float]
    fresh: Sequence[Mapping[str, Any] | None]
    """How each final policy does in fresh episodes; of older records None."""

    @property
    def algorithm(self) -> str:
        """Its name, without a length."""
        return str(self.abouts[0]["algorithm"])


def read_groups(records: Path = RECORDS, tiny: bool = False) -> list[Group]:
    """All records, map by map and algorithm by algorithm, in the order of the plan."""
    known, order = tasks(tiny), [*ALGORITHMS, *PEERS]
    found = []
    for folder in sorted(records.glob("*/*")):
        names = sorted(folder.glob("seed_*/summary.json"), key=lambda path: int(path.parent.name[5:]))
        if folder.parent.name not in known or not names:
            continue
        summaries = [read_json(name) or {} for name in names]
        found.append(
            Group(
                known[folder.parent.name],
                folder.name,
                [_seed(name.parent, summary) for name, summary in zip(names, summaries, strict=True)],
                [summary["benchmark"] for summary in summaries],
                [float(summary["compile_seconds"]) for summary in summaries],
                [summary.get(PLAYED) for summary in summaries],
            )
        )
    places = list(known)
    return sorted(found, key=lambda one: (places.index(one.task.name), order.index(one.algorithm), one.label))


def _seed(folder: Path, summary: Mapping[str, Any]) -> Seed:
    rows = read_rows(folder / METRICS_FILE)

    def column(name: str) -> np.ndarray:
        return np.array([np.nan if row.get(name) is None else row[name] for row in rows], np.float64)

    metrics = {name: column(name) for name in ("eval_return", "eval_win_rate")}
    return Seed(
        str(folder), folder.name, str(summary["env"]), {}, column("env_steps"), column("seconds"), metrics=metrics
    )


def metric_of(group: Group) -> str:
    """The win rate where there is one."""
    rated = np.isfinite(group.seeds[0].metrics["eval_win_rate"]).any()
    return "eval_win_rate" if rated else "eval_return"


def value_at(seed: Seed, metric: str, at: float) -> float | None:
    """The last evaluation up to ``at`` steps; None where the seed was not trained so far."""
    steps, _, values = seed.points(metric)
    if not steps.size or steps[-1] < (1 - A_LITTLE) * at:
        return None
    within = values[steps <= (1 + A_LITTLE) * at]
    return float(within[-1]) if within.size else None


def seconds_to(group: Group, threshold: float) -> str:
    """Median seconds, compiling included, to the first evaluation at or above a win rate; and of how many seeds.

    Seeds that were trained in one run share its time.
    """
    found = []
    for seed, start, about in zip(group.seeds, group.compile_seconds, group.abouts, strict=True):
        _, seconds, values = seed.points("eval_win_rate")
        places = np.flatnonzero(values >= threshold)
        whole = float(seconds[places[0]]) + start if places.size else math.inf
        found.append(whole / int(about.get("num_seeds", 1)))
    middle, reached = float(np.median(found)), sum(map(math.isfinite, found))
    of = "" if reached == len(found) else f" ({reached} of {len(found)})"
    return f"{middle:,.0f}{of}" if math.isfinite(middle) else f"never{of}" if reached else "never"


def row(group: Group) -> list[str]:
    """A line of the table of one map."""
    metric, cells = metric_of(group), []
    for at in (*AT, None):
        values = [value_at(seed, metric, at if at is not None else float(seed.env_steps[-1])) for seed in group.seeds]
        there = np.array([value for value in values if value is not None])
        cells.append(interval(there) if there.size == len(values) else "")
    cells.append(fresh(group, metric.removeprefix("eval_")))
    seconds = [seconds_to(group, threshold) if metric == "eval_win_rate" else "" for threshold in THRESHOLDS]
    changed = " (settings changed)" if any(about["changed"] for about in group.abouts) else ""
    greedy = " (training episodes)" if group.algorithm in TRAINING_EPISODES else ""
    steps = f"{int(group.abouts[0]['steps']):,}"
    return [f"{group.label}{changed}{greedy}", str(len(group.seeds)), *cells, steps, *seconds]


def fresh(group: Group, metric: str) -> str:
    """Of the final policies in fresh episodes; of how many seeds, where not all were played."""
    played = [one[metric][0] for one in group.fresh if one]
    of = f" ({len(played)} of {len(group.fresh)})" if len(played) < len(group.fresh) else ""
    return interval(np.array(played)) + of if played else ""


def interval(values: np.ndarray) -> str:
    """``0.912 [0.890, 0.934]``: interquartile mean and 95% interval, of one seed its value."""
    found = bootstrap([values], iqm)
    middle = f"{float(found.value):.3f}"
    return middle if np.isnan(found.low) else f"{middle} [{float(found.low):.3f}, {float(found.high):.3f}]"


def markdown(groups: Sequence[Group], figure: str | None) -> str:
    """The tables of all maps, with what they mean."""
    if not groups:
        return "No run has been recorded yet."
    text = [
        "Greedy win rate (return, where there is no win rate) over 128 episodes: interquartile mean over seeds and its "
        "95% bootstrap interval; a single seed has no interval. Seconds: median over seeds to the first evaluation at "
        "or above the win rate, compiling included; seeds that were trained in one run share its time. All "
        "evaluations of all seeds play the same 128 episodes, so what these happen to be like is in the mean of many "
        f'seeds as well. In the column "{EPISODES} fresh" the final policies play {EPISODES} others '
        "(not played for older records)."
    ]
    if any(group.algorithm in PEERS for group in groups):
        text[0] += " `peer_...` are JaxMARL's own programs with their own settings."
    if figure is not None:
        text.append(f"![Learning curves of all recorded runs]({figure})")
    head = ["seeds", *(f"at {at / 1e6:g}M steps" for at in AT), "at the end", f"{EPISODES} fresh", "steps"]
    head += [f"seconds to {threshold:g}" for threshold in THRESHOLDS]
    for task in {group.task.name: group.task for group in groups}.values():
        lines = [[task.name, *head], ["---"] * (len(head) + 1)]
        lines += [row(group) for group in groups if group.task.name == task.name]
        text.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    text.append(_origins(groups))
    return "\n\n".join(text)


def _origins(groups: Sequence[Group]) -> str:
    abouts = [about for group in groups for about in group.abouts]
    commits = sorted({str(about["commit"])[:9] for about in abouts if about["commit"]})
    machines = sorted({str(about["machine"]) for about in abouts})
    return (
        f"{len(abouts)} seeds, at commit{'s' * (len(commits) > 1)} {', '.join(commits)}, on: {'; '.join(machines)}. "
        "Command, commit, machine and curve of each are in `experiments/results/benchmark/`."
    )


def draw(groups: Sequence[Group], path: Path) -> None:
    """One panel for each map: interquartile mean over seeds and its 95% interval over environment steps.

    An algorithm has one colour, whatever its runs' lengths. Runs longer than QMIX's longest are cut where that ends.
    """
    shown = list({group.task.name: group.task for group in groups})
    columns = min(3, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(4.4 * columns + 0.4, 3.0 * rows + 0.8), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    lines, algorithms = {}, [*ALGORITHMS, *PEERS]
    for place, name in enumerate(shown, start=1):
        axes = figure.add_subplot(rows, columns, place)
        for group in (group for group in groups if group.task.name == name):
            index = algorithms.index(group.algorithm)
            color, style = PALETTE[index % len(PALETTE)], LINE_STYLES[index // len(PALETTE) % len(LINE_STYLES)]
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
            if group.task.name == name and group.algorithm == "qmix"
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


def write(records: Path = RECORDS, page: Path = PAGE, tiny: bool = False) -> str:
    """Put the tables between the marks in ``page``, and the curves beside it; returns the tables.

    Raises :class:`ConfigError` for a page without the marks.
    """
    groups = read_groups(records, tiny)
    figure = page.with_name("benchmark.png") if groups else None
    text = markdown(groups, figure and figure.name)
    try:
        content = page.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"page={page}: cannot be read: {error.strerror}") from error
    before, begin, rest = content.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ConfigError(f"page={page}: needs a line {BEGIN} and a line {END}, with the tables between them")
    if figure is not None:
        draw(groups, figure)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
    return text
