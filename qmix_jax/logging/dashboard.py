"""A W&B report of the runs of a project: what it shows, as plain data, and the same made with W&B's own library.

What it names are the metrics that :class:`~qmix_jax.logging.wandb.WandbSink` logs. Runs without one of them (a win
rate, the figure of a sweep) leave its panel empty.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from qmix_jax.errors import ConfigError
from qmix_jax.settings.cells import KEYS

LIBRARY = "wandb_workspaces"
AXES = ("lr", "gamma", "td_lambda", "target_update_interval", "epsilon_steps", "max_grad_norm")
"""Keys of sweeps that have an axis in the parallel coordinates; more could not be told apart."""
LOG_SCALED = ("optimizer.learning_rate",)


class Panel(NamedTuple):
    """One panel of a section."""

    title: str
    metrics: Sequence[str]
    """Of a line plot the metrics over ``env_steps``; of media their keys; of parallel coordinates what ends them."""
    kind: Literal["line", "band", "media", "parallel"] = "line"
    settings: Sequence[str] = ()
    """Of parallel coordinates: the settings, as axes. Of a band: the setting whose values are a line each."""


class Section(NamedTuple):
    """Panels of the same runs."""

    title: str
    text: str
    runs: Literal["aggregate", "seed"]
    """W&B's job type: the aggregate over seeds, or the seeds themselves."""
    panels: Sequence[Panel]


def with_interval(metric: str) -> tuple[str, ...]:
    """An aggregated metric with the ends of its 95% interval."""
    return metric, f"{metric}/low", f"{metric}/high"


SECTIONS = (
    Section(
        "Results",
        "Interquartile means over seeds, with the ends of their 95% bootstrap intervals.",
        "aggregate",
        (
            Panel("greedy win rate", with_interval("eval_win_rate")),
            Panel("greedy return", with_interval("eval_return")),
            Panel("pictures and a greedy episode", ("curves", "sweep", "episode"), "media"),
        ),
    ),
    Section(
        "Methods",
        "The mean over all seeds of an algorithm, of all runs in the report, and a band of one standard error.",
        "seed",
        (
            Panel("greedy win rate", ("eval_win_rate",), "band", ("algorithm.name",)),
            Panel("greedy return", ("eval_return",), "band", ("algorithm.name",)),
        ),
    ),
    Section(
        "Every seed",
        "One line for each seed.",
        "seed",
        (
            Panel("greedy win rate", ("eval_win_rate",)),
            Panel("greedy return", ("eval_return",)),
            Panel("training return", ("train_return",)),
            Panel("greedy episode length", ("eval_episode_length",)),
        ),
    ),
    Section(
        "Learning",
        "q_tot_excess is the largest |q_tot| over the largest possible return: it should be below 1. mixer_slope is "
        "the mixer's mean slope in the agents' values.",
        "seed",
        (
            Panel("loss", ("loss",)),
            Panel("TD error", ("td_error",)),
            Panel("q_tot", ("q_tot_mean", "q_tot_max", "target_mean")),
            Panel("q_tot against the largest possible return", ("q_tot_excess",)),
            Panel("norm of the gradient", ("grad_norm",)),
            Panel("slope of the mixer", ("mixer_slope",)),
            Panel("epsilon", ("epsilon",)),
            Panel("learning rate", ("learning_rate",)),
        ),
    ),
    Section(
        "Speed and sweeps",
        "Environment steps a second of all seeds together, seconds of training since the run started, and what the "
        "settings of a sweep came to.",
        "seed",
        (
            Panel("speed", ("steps_per_second",)),
            Panel("seconds", ("seconds",)),
            Panel("updates", ("updates",)),
            Panel(
                "settings and results", ("final/win_rate", "final/return"), "parallel", tuple(KEYS[key] for key in AXES)
            ),
        ),
    ),
)


def specification(project: str, entity: str | None, group: str | None) -> dict[str, Any]:
    """The report as plain data, which can be written as JSON."""
    return {
        "title": f"{project}: {group}" if group else project,
        "project": project,
        "entity": entity,
        "group": group,
        "x": "env_steps",
        "sections": [
            {**section._asdict(), "panels": [panel._asdict() for panel in section.panels]} for section in SECTIONS
        ],
    }


def build_report(spec: dict[str, Any]) -> Any:
    """The report as an object of W&B's library.

    Raises :class:`ConfigError` where the library is not installed.
    """
    if importlib.util.find_spec(LIBRARY) is None:
        raise ConfigError("wandb-workspaces is not installed; pip install 'qmix_jax[dashboard]'")
    library = importlib.import_module(f"{LIBRARY}.reports.v2")
    expr = importlib.import_module(f"{LIBRARY}.expr")
    place = {"project": spec["project"], **({"entity": spec["entity"]} if spec["entity"] else {})}
    blocks = []
    for section in spec["sections"]:
        filters = [expr.Metric("JobType") == section["runs"]]
        if spec["group"]:
            filters.append(expr.Metric("Group") == spec["group"])
        runs = library.Runset(**place, name=f"{section['runs']} runs", filters=filters)
        panels = [_panel(library, panel, index, spec["x"]) for index, panel in enumerate(section["panels"])]
        blocks += [library.H2(section["title"]), library.P(section["text"])]
        blocks.append(library.PanelGrid(runsets=[runs], panels=panels))
    return library.Report(**place, title=spec["title"], description="made by qmix_jax.dashboard", blocks=blocks)


def _panel(library: Any, panel: dict[str, Any], index: int, x: str) -> Any:
    layout = library.Layout(x=8 * (index % 3), y=6 * (index // 3), w=8, h=6)
    if panel["kind"] == "media":
        return library.MediaBrowser(title=panel["title"], media_keys=list(panel["metrics"]), layout=layout)
    if panel["kind"] == "parallel":
        column = library.ParallelCoordinatesPlotColumn
        columns = [column(metric=library.Config(key), log=key in LOG_SCALED) for key in panel["settings"]]
        columns += [column(metric=library.SummaryMetric(name)) for name in panel["metrics"]]
        return library.ParallelCoordinatesPlot(title=panel["title"], columns=columns, layout=layout)
    bands = {}
    if panel["kind"] == "band":
        groups = library.Config(panel["settings"][0])
        bands = {"groupby": groups, "groupby_aggfunc": "mean", "groupby_rangefunc": "stderr", "aggregate": True}
    return library.LinePlot(title=panel["title"], x=x, y=list(panel["metrics"]), layout=layout, **bands)


def is_logged_in() -> bool:
    """Whether W&B has credentials, without asking for them."""
    import wandb

    return bool(wandb.login(prompt=False))
