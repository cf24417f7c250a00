"""The picture of an episode: frames, action values, credit, q_tot against the return, hidden states."""

import tempfile
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image

from qmix_jax.envs.base import Env, Episode
from qmix_jax.results.curves import PALETTE, plain
from qmix_jax.results.explanation.trace import Table, Trace

FRAMES = 6
MOST_AGENTS = 8
"""Agents that have a panel; all are in ``episode.json``."""


def draw_trace(trace: Trace, frames: list[np.ndarray], title: str) -> Figure:
    """The whole episode on one page."""
    agents = min(trace.q.shape[1], MOST_AGENTS)
    columns = min(agents, 4)
    rows = -(-agents // columns)
    height = 2.5 * bool(frames) + 2.3 * rows + 2.8
    figure = Figure(figsize=(14, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, horizontalalignment="left", fontsize=13, fontweight="bold")
    ratios = [2.5] * bool(frames) + [2.3 * rows, 2.8]
    parts = list(np.ravel(figure.subfigures(len(ratios), 1, height_ratios=ratios, squeeze=False)))
    if frames:
        _frames(parts.pop(0), frames)
    _values(parts[0], trace, agents, rows, columns)
    _below(parts[1], trace)
    return figure


def _frames(part: SubFigure, frames: list[np.ndarray]) -> None:
    for index, axes in enumerate(np.atleast_1d(part.subplots(1, len(frames)))):
        axes.imshow(frames[index])
        axes.set_axis_off()


def _values(part: SubFigure, trace: Trace, agents: int, rows: int, columns: int) -> None:
    """Per agent the values of its available actions over time, and what it chose."""
    shown = np.where(trace.avail_actions, trace.q, np.nan)[:, :agents]
    low, high = np.nanmin(shown), np.nanmax(shown)
    all_axes = part.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    image = None
    for agent, axes in enumerate(all_axes):
        if agent >= agents:
            axes.set_axis_off()
            continue
        image = axes.imshow(
            shown[:, agent].T, aspect="auto", cmap="viridis", vmin=low, vmax=high, origin="lower", interpolation="none"
        )
        axes.plot(trace.action[:, agent], "o", color=PALETTE[1], markersize=3.5, markeredgewidth=0)
        axes.set_title(f"agent {agent}: values of its actions", loc="left", fontsize=9)
        axes.set_ylabel("action", fontsize=8)
        axes.tick_params(labelsize=8)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
    if image is not None:
        part.colorbar(image, ax=list(all_axes), pad=0.01)
    part.supxlabel("step (white: not available; dots: chosen, which is the best available)", fontsize=8, color="0.35")


def _below(part: SubFigure, trace: Trace) -> None:
    credit, value, hidden = part.subplots(1, 3)
    if trace.slope is None or trace.q_tot is None:
        for axes, what in ((credit, "no mixer was saved with this policy"), (value, "so there is no q_tot")):
            axes.text(0.5, 0.5, what, ha="center", va="center", color="0.4", transform=axes.transAxes)
            axes.set_axis_off()
    else:
        image = credit.imshow(trace.slope.T, aspect="auto", cmap="magma", interpolation="none", origin="lower")
        credit.set_title("credit: d q_tot / d q_a", loc="left", fontsize=9)
        credit.set_ylabel("agent", fontsize=8)
        credit.yaxis.set_major_locator(MaxNLocator(integer=True))
        part.colorbar(image, ax=credit)
        value.plot(trace.q_tot, color=PALETTE[0], label="q_tot", marker="o", markersize=3)
        value.plot(trace.returns, color=PALETTE[1], label="discounted return that came", marker="o", markersize=3)
        value.set_title("q_tot against the return", loc="left", fontsize=9)
        value.legend(fontsize=8, frameon=False)
        _plain(value)
        for axes in (credit, value):
            axes.set_xlabel("step", fontsize=8)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    points, share = principal_components(trace.hidden)
    for agent in range(points.shape[1]):
        color = PALETTE[agent % len(PALETTE)]
        hidden.plot(*points[:, agent].T, color=color, linewidth=0.8, alpha=0.7)
        hidden.scatter(*points[:, agent].T, color=color, s=np.linspace(4, 22, len(points)), label=f"agent {agent}")
    hidden.set_title(f"hidden states: first two components ({share:.0%} of the variance)", loc="left", fontsize=9)
    hidden.set_xlabel("dots grow with the step", fontsize=8)
    if points.shape[1] <= len(PALETTE):
        hidden.legend(fontsize=7, frameon=False)
    _plain(hidden)


def principal_components(hidden: np.ndarray) -> tuple[np.ndarray, float]:
    """The first two principal components ``[L, N, 2]`` of hidden states ``[L, N, H]``, and their share."""
    if hidden.size == 0:  # agents without memory
        return np.zeros((*hidden.shape[:2], 2)), 0.0
    flat = hidden.reshape(-1, hidden.shape[-1])
    centred = flat - flat.mean(axis=0)
    _, scales, directions = np.linalg.svd(centred, full_matrices=False)
    points = centred @ directions[:2].T
    points = np.pad(points, ((0, 0), (0, 2 - points.shape[-1])))
    total = float((scales**2).sum())
    return points.reshape(*hidden.shape[:2], 2), float((scales[:2] ** 2).sum()) / total if total else 0.0


def _plain(axes: Axes) -> None:
    plain(axes, "both", "0.92")
    axes.tick_params(labelsize=8)


def draw_tables(tables: list[Table]) -> Figure:
    """For every state the rewards and the values of all joint actions, side by side."""
    figure = Figure(figsize=(9, 3.1 * len(tables)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(len(tables), 2, squeeze=False)
    for table, (reward, value) in zip(tables, all_axes, strict=True):
        _table(reward, table.reward, f"step {table.time}: reward", table.action)
        if table.q_tot is None:
            _table(value, table.q, f"step {table.time}: values of each agent (rows)", None)
        else:
            _table(value, table.q_tot, f"step {table.time}: q_tot", table.action)
    return figure


def _table(axes: Axes, values: np.ndarray, title: str, action: np.ndarray | None) -> None:
    shown = np.ma.masked_invalid(values)
    axes.imshow(shown, cmap="viridis", alpha=0.75)
    for (row, column), value in np.ndenumerate(values):
        axes.text(column, row, "" if np.isnan(value) else f"{value:.3g}", ha="center", va="center", fontsize=9)
    if action is not None:
        corner = (action[1] - 0.48, action[0] - 0.48)
        axes.add_patch(Rectangle(corner, 0.96, 0.96, fill=False, edgecolor=PALETTE[1], linewidth=2))
        axes.set_ylabel("action of agent 0", fontsize=8)
        axes.set_xlabel("action of agent 1 (framed: chosen)", fontsize=8)
    axes.set_title(title, loc="left", fontsize=9)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))


def frames_of(env: Env, episode: Episode) -> list[np.ndarray]:
    """Some frames of an episode, evenly spaced; none where the environment draws no film."""
    if env.render is None:
        return []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "episode.gif"
        env.render(episode, path)
        with Image.open(path) as film:
            count = getattr(film, "n_frames", 1)
            if count < 2:
                return []
            places = np.linspace(0, count - 1, min(FRAMES, count)).round().astype(int)
            frames = []
            for place in places:
                film.seek(int(place))
                frames.append(np.asarray(film.convert("RGB")))
    return frames
