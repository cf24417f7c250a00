"""The comparison as one offline HTML page, with figures, data and scripts embedded."""

import base64
import html
import importlib
import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from qmix_jax.results.comparison.comparison import SHOWN, Comparison
from qmix_jax.results.comparison.figures import wrapped
from qmix_jax.results.comparison.scores import Reached
from qmix_jax.results.comparison.statistics import Estimate
from qmix_jax.results.curves import LABELS, RATES, Style, styles

TEMPLATE = Path(__file__).with_name("page.html")
DASHES = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}


def page(comparison: Comparison, figures: Mapping[str, Path], *, title: str = "", refresh: int | None = None) -> str:
    """The whole page.

    Args:
        comparison: what it shows.
        figures: PNG files by name.
        title: in its heading.
        refresh: seconds after which a browser loads it again.
    """
    plotly = _plotly()
    curves = [f"curves_{metric.removeprefix('eval_')}" for metric in comparison.curves]
    parts = {
        "title": html.escape(title or _title(comparison)),
        "refresh": "" if refresh is None else f'<meta http-equiv="refresh" content="{refresh}">',
        "made": f"{datetime.now():%Y-%m-%d %H:%M}" + (f", loads again every {refresh} s" if refresh else ""),
        "facts": html.escape(_facts(comparison)),
        "notes": "".join(f"<li>{html.escape(note)}</li>" for note in comparison.notes) or "<li>nothing</li>",
        "scores": _scores(comparison),
        "curves": _hover_panels(comparison) if plotly else "".join(_image(figures, name) for name in curves),
        "aggregates": _image(figures, "aggregates") + _image(figures, "curves_over_environments"),
        "profiles": _image(figures, "performance_profiles"),
        "improvement": _image(figures, "probability_of_improvement")
        or "<p>Needs two methods in the same environments.</p>",
        "reached": _image(figures, "time_to_threshold") + _reached(comparison),
        "settings": _settings(comparison),
        "runs": _runs(comparison),
        "metric": html.escape(_sentence(LABELS.get(comparison.metric, comparison.metric))),
        "score": {"final": "last evaluation within", "best": "best evaluation within", "mean": "mean evaluation over"}[
            comparison.score
        ],
        "budgets": html.escape(
            "; ".join(f"{env}: {steps:,.0f} steps" for env, steps in comparison.scores.budgets.items())
        ),
        "scale": html.escape(_scale(comparison)),
        "envs": html.escape(", ".join(comparison.shared_envs) or "the environments of each method"),
        "left_out": f"Drawn: the best {SHOWN} of {len(comparison.methods)}." * (len(comparison.methods) > SHOWN),
        "data": _script_json(_hover_data(comparison)) if plotly else "null",
        "plotly": plotly or "",
        "hover": ""
        if plotly
        else "<p class=small>With pip install 'qmix_jax[compare]' these curves answer the mouse.</p>",
    }
    text = TEMPLATE.read_text(encoding="utf-8")
    for name in sorted(parts, key=lambda name: name in ("plotly", "data")):  # last: their content is not searched
        text = text.replace(f"{{{{{name}}}}}", parts[name])
    return text


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _plotly() -> str | None:
    """The script of Plotly, if it is installed."""
    if importlib.util.find_spec("plotly") is None:
        return None
    offline = importlib.import_module("plotly.offline")
    return offline.get_plotlyjs().replace("</script", "<\\/script")


def _title(comparison: Comparison) -> str:
    methods, envs = comparison.methods, comparison.groups.envs
    shown = ", ".join(methods) if len(methods) <= 4 else f"{len(methods)} methods"
    return f"{shown} on {', '.join(envs) if len(envs) <= 3 else f'{len(envs)} environments'}"


def _facts(comparison: Comparison) -> str:
    seeds = sum(len(source.seeds) for source in comparison.sources)
    states = [source.state for source in comparison.sources]
    told = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return f"{len(states)} run(s) ({told}), {seeds} seed(s), grouped by {', '.join(comparison.groups.by)}"


def _scale(comparison: Comparison) -> str:
    if comparison.metric in RATES:
        return "Scores are win rates as they are."
    ends = (f"{env}: {low:.4g} to {high:.4g}" for env, (low, high) in comparison.scores.scales.items())
    return (
        "Scores are scaled to 0 for the lowest and 1 for the highest evaluation of all runs in an environment "
        f"({'; '.join(ends)}), so they mean something within this report only."
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts, escaped."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _cell(text: str) -> str:
    return f"<td{' class=long' * (len(text) > 40)}>{html.escape(text)}</td>"


def number(value: float, rate: bool = False) -> str:
    """Format a number for readers."""
    return f"{value:.1%}" if rate else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def interval(found: Estimate, rate: bool = False) -> str:
    """``0.52 [0.44, 0.60]``."""
    middle = number(float(found.value), rate)
    return (
        middle
        if np.isnan(found.low)
        else f"{middle} [{number(float(found.low), rate)}, {number(float(found.high), rate)}]"
    )


def _scores(comparison: Comparison) -> str:
    rate, envs = comparison.metric in RATES, comparison.groups.envs
    many = len(envs) > 1
    rows = []
    for method in comparison.methods:
        row = [method]
        for env in envs:
            found = comparison.by_env.get((method, env))
            counted = len(comparison.scores.raw.get((method, env), ()))
            row.append("no score" if found is None else f"{interval(found, rate)} ({counted})")
        if many:
            total = comparison.aggregates["interquartile mean"].get(method)
            row.append("" if total is None else interval(total))
        rows.append(row)
    return table(["method", *(f"{env} (seeds)" for env in envs), *(["all, scaled"] if many else [])], rows)


def _reached(comparison: Comparison) -> str:
    rate = comparison.metric in RATES
    rows = [
        [
            found.env,
            f"{number(found.threshold, rate)}",
            found.method,
            f"{found.num_reached} of {len(found.env_steps)}",
            _spread(found, found.env_steps),
            _spread(found, found.seconds),
        ]
        for found in comparison.reached
    ]
    header = ["environment", "threshold", "method", "seeds that reached it"]
    return table([*header, "steps: median (first to last)", "seconds: median (first to last)"], rows)


def _spread(found: Reached, values: np.ndarray) -> str:
    if not found.num_reached:
        return "never"
    if np.isnan(values).any():
        return "not known"
    middle, last = float(np.median(values)), float(values.max())
    said = f"{middle:,.0f}" if np.isfinite(middle) else "more than half never"
    return f"{said} ({values.min():,.0f} to {f'{last:,.0f}' if np.isfinite(last) else 'never'})"


def _settings(comparison: Comparison) -> str:
    if not comparison.settings:
        return "<p>The settings do not differ.</p>"
    methods = comparison.methods
    if len(methods) > len(comparison.settings):
        rows = [[method, *(values[method] for values in comparison.settings.values())] for method in methods]
        return table(["method", *comparison.settings], rows)
    rows = [[key, *(values[method] for method in methods)] for key, values in comparison.settings.items()]
    return table(["setting", *methods], rows)


def _runs(comparison: Comparison) -> str:
    names = {}
    for (method, env), seeds in comparison.groups.seeds.items():
        for seed in seeds:
            names.setdefault(seed.source, {})[f"{method} on {env}"] = None
    rows = []
    for source in comparison.sources:
        steps = max((float(seed.env_steps.max()) for seed in source.seeds if seed.env_steps.size), default=0.0)
        own = list(names.get(source.path, {}))
        told = ", ".join(own[:3]) + (f" and {len(own) - 3} more" if len(own) > 3 else "")
        evaluations = sum(seed.env_steps.size for seed in source.seeds)
        facts = [str(len(source.seeds)), str(evaluations), f"{steps:,.0f}", source.state, (source.commit or "")[:9]]
        rows.append([source.path, told, *facts])
    return table(["run", "group", "seeds", "evaluations", "steps per seed", "state", "commit"], rows)


def _image(figures: Mapping[str, Path], name: str) -> str:
    if name not in figures:
        return ""
    data = base64.b64encode(figures[name].read_bytes()).decode()
    return f'<img alt="{name}" src="data:image/png;base64,{data}">'


def _hover_panels(comparison: Comparison) -> str:
    return "".join(f'<div class=plot id="plot{place}"></div>' for place in range(len(_panels(comparison))))


def _panels(comparison: Comparison) -> list[tuple[str, str]]:
    return [(metric, env) for metric, found in comparison.curves.items() for env in sorted({pair[1] for pair in found})]


def _hover_data(comparison: Comparison) -> list[dict[str, Any]]:
    """The data of the page's script: for each panel the methods with their curves, intervals and seeds."""
    own = styles(comparison.shown)
    panels = []
    for metric, env in _panels(comparison):
        lines = [
            _line(method, style, comparison.curves[metric][method, env])
            for method, style in own.items()
            if (method, env) in comparison.curves[metric]
        ]
        label = LABELS.get(metric, metric)
        panels.append({"title": f"{env}: {label}", "rate": metric in RATES, "lines": lines, "label": label})
    return panels


def _line(method: str, style: Style, curve: Any) -> dict[str, Any]:
    return {
        "name": html.escape(wrapped(method)).replace("\n", "<br>"),
        "key": method,
        "color": style[0],
        "dash": DASHES[style[1]],
        "x": _rounded(curve.env_steps),
        "y": _rounded(curve.iqm),
        "low": _rounded(curve.low),
        "high": _rounded(curve.high),
        "count": curve.counts.tolist(),
        "seeds": [_rounded(seed) for seed in curve.values],
    }


def _rounded(values: np.ndarray) -> list[float | None]:
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values]


def _script_json(value: Any) -> str:
    """JSON that cannot close the script element around it."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
