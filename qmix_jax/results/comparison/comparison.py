"""Compute everything that a comparison shows, from the paths of runs."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from qmix_jax.errors import ConfigError, unknown_choice
from qmix_jax.results.comparison.alignment import AggregateCurve, Curve, aggregate_curve, learning_curve
from qmix_jax.results.comparison.groups import Groups, group
from qmix_jax.results.comparison.records import LINE_METRICS, Seed, Source, differing, words
from qmix_jax.results.comparison.run_folders import find, read
from qmix_jax.results.comparison.scores import KINDS, Reached, Scores, score_seeds, time_to
from qmix_jax.results.comparison.statistics import (
    Estimate,
    bootstrap,
    iqm,
    median,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
)

SHOWN = 10
"""The number of methods in the figures; the tables have all."""
PROFILE_THRESHOLDS = np.linspace(0.0, 1.0, 101)
AGGREGATES = {"interquartile mean": iqm, "median": median, "optimality gap": optimality_gap}


class Comparison(NamedTuple):
    """The content of a comparison."""

    sources: Sequence[Source]
    groups: Groups
    metric: str
    score: str
    methods: Sequence[str]
    """All of them, the best first."""
    curves: Mapping[str, Mapping[tuple[str, str], Curve]]
    """Metric to (method, environment) to its learning curve, of the ``SHOWN`` best."""
    scores: Scores
    by_env: Mapping[tuple[str, str], Estimate]
    """(method, environment) to the interquartile mean of its scores, in the metric's unit."""
    over_envs: Mapping[str, AggregateCurve]
    """Method to its curve over ``shared_envs``, where there are several; of the ``SHOWN`` best."""
    shared_envs: Sequence[str]
    """The environments in the aggregates: those that all methods have."""
    aggregates: Mapping[str, Mapping[str, Estimate]]
    """Name of the aggregate to method to its value, of scores between 0 and 1."""
    profiles: Mapping[str, Estimate]
    improvement: Mapping[tuple[str, str], Estimate]
    """(X, Y) to the probability that X is better than Y."""
    reached: Sequence[Reached]
    settings: Mapping[str, Mapping[str, str]]
    """Setting that differs to method to its value(s)."""
    notes: Sequence[str]

    @property
    def shown(self) -> Sequence[str]:
        """The methods that are drawn."""
        return self.methods[:SHOWN]


def compare(
    paths: Sequence[str],
    *,
    by: Sequence[str] | None = None,
    metric: str | None = None,
    score: str = "final",
    at: float | None = None,
    threshold: Sequence[float] | None = None,
    skip_damaged: bool = False,
) -> Comparison:
    """Read runs and compute all that a report shows.

    Args:
        paths: folders of runs, folders that contain them, or files of other projects.
        by: settings that tell methods apart, see :func:`~qmix_jax.results.comparison.groups.group`.
        metric: what is scored; None is the win rate where every run has one, and the return otherwise.
        score: ``final``, ``best`` or ``mean``.
        at: environment steps of one seed at which methods are compared; None is what every finished run reached.
        threshold: of the time to a threshold, in the metric's unit.
        skip_damaged: leave out what cannot be read.

    Raises :class:`ConfigError` for what cannot be read or does not fit together.
    """
    if score not in KINDS:
        raise unknown_choice("score", score, KINDS)
    wanted = list(dict.fromkeys([metric or LINE_METRICS[0], *LINE_METRICS]))
    sources, notes = read(find(paths), wanted, skip_damaged)
    seeds = [seed for source in sources for seed in source.seeds]
    notes += [note for source in sources for note in source.notes]
    if not seeds:
        raise ConfigError(f"{paths[0]}: no evaluation in any run" + (f" ({notes[0]})" if notes else ""))
    metric = metric or _metric(seeds)
    if not any(seed.points(metric)[0].size for seed in seeds):
        raise ConfigError(f"metric={metric}: no run has a value of it; eval_return or eval_win_rate usually is there")
    groups = group(seeds, by)
    finished = {source.path for source in sources if source.state == "finished"}
    scores = score_seeds(groups, metric, score, at, finished)
    if not scores.raw:
        raise ConfigError(f"at={at}: no run came as far; leave it out, or use less")
    by_env = {pair: bootstrap([values], iqm) for pair, values in scores.raw.items()}
    shared, of_methods, told = _aggregated(groups, scores)
    methods = sorted(of_methods, key=lambda method: -float(iqm(of_methods[method])))
    methods += [method for method in groups.methods if method not in of_methods]
    drawn = [method for method in methods if method in of_methods][:SHOWN]
    lines = [name for name in wanted if any(seed.points(name)[0].size for seed in seeds)]
    return Comparison(
        sources=sources,
        groups=groups,
        metric=metric,
        score=score,
        methods=methods,
        curves={name: _curves(groups, methods[:SHOWN], name) for name in lines},
        scores=scores,
        by_env=by_env,
        over_envs=_over_envs(groups, scores, metric, methods[:SHOWN], shared),
        shared_envs=shared,
        aggregates={
            name: {method: bootstrap(strata, statistic) for method, strata in of_methods.items()}
            for name, statistic in AGGREGATES.items()
        },
        profiles={method: performance_profile(of_methods[method], PROFILE_THRESHOLDS) for method in drawn},
        improvement={
            (x, y): probability_of_improvement(of_methods[x], of_methods[y])
            for x in drawn
            for y in drawn
            if x != y and len(of_methods[x]) == len(of_methods[y]) == len(shared)
        },
        reached=time_to(groups, scores, metric, threshold),
        settings=_settings(groups),
        notes=[*notes, *groups.notes, *scores.notes, *told],
    )


def _metric(seeds: Sequence[Seed]) -> str:
    rated = all(seed.points("eval_win_rate")[0].size for seed in seeds if seed.points("eval_return")[0].size)
    return "eval_win_rate" if rated and any(seed.points("eval_win_rate")[0].size for seed in seeds) else "eval_return"


def _curves(groups: Groups, methods: Sequence[str], metric: str) -> dict[tuple[str, str], Curve]:
    found = {pair: learning_curve(seeds, metric) for pair, seeds in groups.seeds.items() if pair[0] in methods}
    return {pair: curve for pair, curve in found.items() if curve is not None}


def _over_envs(
    groups: Groups, scores: Scores, metric: str, methods: Sequence[str], envs: Sequence[str]
) -> dict[str, AggregateCurve]:
    if len(envs) < 2:
        return {}
    budgets, scales = [scores.budgets[env] for env in envs], [scores.scales[env] for env in envs]
    of_methods = {
        method: [groups.seeds[method, env] for env in envs] for method in methods if (method, envs[0]) in scores.raw
    }
    found = {method: aggregate_curve(seeds, metric, budgets, scales) for method, seeds in of_methods.items()}
    return {method: curve for method, curve in found.items() if curve is not None}


def _aggregated(groups: Groups, scores: Scores) -> tuple[list[str], dict[str, list[np.ndarray]], list[str]]:
    """The environments that all methods have, each method's scores in them, and notes."""
    methods = [method for method in groups.methods if any(pair[0] == method for pair in scores.raw)]
    shared = [env for env in groups.envs if all((method, env) in scores.scaled for method in methods)]
    notes = []
    if not shared:
        notes.append("no environment has scores of every method: each is aggregated over its own environments")
    elif len(shared) < len(groups.envs):
        left_out = ", ".join(env for env in groups.envs if env not in shared)
        notes.append(f"aggregates leave out {left_out}, where not every method has scores")
    strata = {
        method: [scores.scaled[method, env] for env in shared or groups.envs if (method, env) in scores.scaled]
        for method in methods
    }
    single = [method for method, own in strata.items() if min(map(len, own)) < 2]
    if single:
        names = ", ".join(single[:4]) + (" ..." if len(single) > 4 else "")
        notes.append(f"no interval where a method has one seed: {names}")
    return shared, strata, notes


def _settings(groups: Groups) -> dict[str, dict[str, str]]:
    keys = differing([seed for seeds in groups.seeds.values() for seed in seeds])
    table: dict[str, dict[str, str]] = {}
    for key in keys:
        for method in groups.methods:
            settings = {id(seed.settings): seed.settings for seed in groups.of(method)}.values()
            values = dict.fromkeys(words(own[key]) for own in settings if key in own)
            table.setdefault(key, {})[method] = ", ".join(values) or "not set"
    return table
