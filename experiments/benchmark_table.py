"""Tables and curves of the recorded runs, written into the documentation."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from benchmark_figure import draw
from benchmark_groups import Group, at_the_end, metric_of, read_groups, value_at
from benchmark_plan import ALGORITHMS, PEERS, WITH_GRU, short
from benchmark_play import EPISODES
from benchmark_runs import RECORDS

from qmix_jax.errors import ConfigError, writing
from qmix_jax.results.comparison.statistics import bootstrap, iqm

BEGIN, END = "<!-- benchmark: begin -->", "<!-- benchmark: end -->"
PAGE = Path(__file__).parents[1] / "docs" / "results.md"
AT = (1_000_000, 2_000_000)
"""Environment steps of one seed."""
THRESHOLDS = (0.5, 0.9)
"""Win rates whose time is in the table."""
TRAINING_EPISODES = ("peer_mappo",)
"""Algorithms whose numbers are of the episodes that they train on."""


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
    for at in AT:
        values = [value_at(seed, metric, at) for seed in group.seeds]
        there = np.array([value for value in values if value is not None])
        cells.append(interval(there) if there.size == len(values) else "")
    cells.append(interval(at_the_end(group)))
    cells.append(fresh(group, metric.removeprefix("eval_")))
    seconds = [seconds_to(group, threshold) if metric == "eval_win_rate" else "" for threshold in THRESHOLDS]
    changed = " (settings changed)" if any(about["changed"] for about in group.abouts) else ""
    greedy = " (training episodes)" if group.algorithm in TRAINING_EPISODES else ""
    steps = f"{int(group.abouts[0]['steps']):,}"
    speed = f"{float(np.median(group.speeds)):,.0f}"
    return [f"{group.label}{changed}{greedy}", str(len(group.seeds)), *cells, steps, speed, *seconds]


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
        "or above the win rate, compiling included; seeds that were trained in one run share its time. Seconds and "
        "steps per second are of different machines, some of them busy: they are no comparison of algorithms. All "
        "evaluations of all seeds play the same 128 episodes, so what these happen to be like is in the mean of many "
        f'seeds as well. In the column "{EPISODES} fresh" the final policies play {EPISODES} others '
        "(not played for older records)."
    ]
    if any(group.algorithm in PEERS for group in groups):
        text[0] += " `peer_...` are JaxMARL's own programs with their own settings."
    if table := overview(groups):
        text.append(table)
    if figure is not None:
        text.append(f"![Learning curves of all recorded runs]({figure})")
    head = ["seeds", *(f"at {at / 1e6:g}M steps" for at in AT), "at the end", f"{EPISODES} fresh", "steps", "steps/s"]
    head += [f"seconds to {threshold:g}" for threshold in THRESHOLDS]
    for task in {group.task.name: group.task for group in groups}.values():
        lines = [[task.name, *head], ["---"] * (len(head) + 1)]
        lines += [row(group) for group in groups if group.task.name == task.name]
        text.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    text.append(_origins(groups))
    return "\n\n".join(text)


def overview(groups: Sequence[Group]) -> str:
    """All maps and algorithms in one table, a line for each length of run and, of runs with GRUs, one more.

    Empty where there is one algorithm only.
    """
    cells: dict[tuple[str, int, str], dict[str, str]] = {}
    for group in groups:
        seeds = len(group.seeds)
        middle = f"{float(bootstrap([at_the_end(group)], iqm).value):.3f}"
        if not any(about["changed"] for about in group.abouts):
            agent = ", `agent=gru`" if group.algorithm in WITH_GRU else ""
            line = cells.setdefault((group.task.name, int(group.abouts[0]["steps"]), agent), {})
            algorithm = WITH_GRU[group.algorithm][0] if agent else group.algorithm
            line[algorithm] = middle if seeds == 1 else f"{middle} ({seeds})"
    names = [name for name in (*ALGORITHMS, *PEERS) if any(name in line for line in cells.values())]
    if len(names) < 2:
        return ""
    lines = [["at the end of", *(f"`{name}`" for name in names)], ["---"] * (1 + len(names))]
    for (task, steps, agent), line in cells.items():
        lines.append([f"{task}, {short(steps)}{agent}", *(line.get(name, "") for name in names)])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"All at a glance, the number of seeds in parentheses where it is not one:\n\n{table}"


def _origins(groups: Sequence[Group]) -> str:
    abouts = [about for group in groups for about in group.abouts]
    commits = sorted({str(about["commit"])[:9] for about in abouts if about["commit"]})
    machines = sorted({str(about["machine"]) for about in abouts})
    return (
        f"{len(abouts)} seeds, at commit{'s' * (len(commits) > 1)} {', '.join(commits)}, on: {'; '.join(machines)}. "
        "Command, commit, machine and curve of each are in `experiments/results/benchmark/`."
    )


def write(records: Path = RECORDS, page: Path = PAGE, tiny: bool = False) -> str:
    """Put the tables between the marks in ``page``, and the curves beside it; returns the tables.

    Raises :class:`ConfigError` for a page without the marks.
    """
    groups = read_groups(records, tiny)
    figure = page.with_name("benchmark.png") if groups else None
    text = markdown(groups, figure and figure.name)
    before, after = parts_of(page)
    with writing("page", page):
        if figure is not None:
            draw(groups, figure)
        page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
    return text


def parts_of(page: Path) -> tuple[str, str]:
    """What stands before and after the tables. Raises :class:`ConfigError` for a page without the marks."""
    try:
        content = page.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"page={page}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    before, begin, rest = content.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ConfigError(f"page={page}: needs a line {BEGIN} and a line {END}, with the tables between them")
    return before, after
