"""Reading, grouping and scoring runs, and the statistics over them."""

import json
import re
import sys

import numpy as np
import pytest
from compared_runs import write_run

from qmix_jax.errors import ConfigError
from qmix_jax.results.comparison.alignment import FRACTIONS, aggregate_curve, common_steps, learning_curve
from qmix_jax.results.comparison.comparison import compare
from qmix_jax.results.comparison.records import Seed
from qmix_jax.results.comparison.report import write
from qmix_jax.results.comparison.run_folders import find, read
from qmix_jax.results.comparison.statistics import (
    bootstrap,
    iqm,
    median,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
)

# Scores [seeds, environments] and what rliable 1.2.0's functions say of them.
X = np.array([[0.11, 0.31, 1.04], [0.76, 0.12, 0.56], [0.62, 0.21, 0.95], [0.15, 0.51, 0.67], [0.56, 0.76, 0.96]])
Y = np.array([[1.15, 0.34, 0.78], [0.84, 0.35, 0.0], [1.17, 0.36, 0.38], [1.07, 0.7, 0.57], [0.93, 0.04, 0.85]])


def test_statistics_are_those_of_rliable():
    assert iqm(list(X.T)) == pytest.approx(0.5511111111)
    assert median(list(X.T)) == pytest.approx(0.44)
    assert optimality_gap(list(X.T)) == pytest.approx(0.45)
    assert probability_of_improvement(list(X.T), list(Y.T)).value == pytest.approx(0.4266666667)


def test_ties_count_half():
    assert probability_of_improvement([np.ones(3)], [np.ones(2)]).value == 0.5


def test_an_interval_holds_the_value_and_seeds_are_resampled_within_their_environment():
    found = bootstrap(list(X.T), iqm)
    assert found.low < found.value < found.high
    apart = bootstrap([np.zeros(5), np.ones(5)], lambda strata: np.concatenate(strata, axis=-1).mean(axis=-1))
    assert (apart.value, apart.low, apart.high) == (0.5, 0.5, 0.5)


def test_one_seed_has_no_interval():
    found = bootstrap([np.array([0.3])], iqm)
    assert found.value == 0.3
    assert np.isnan(found.low)


def test_a_profile_falls_from_all_to_none():
    profile = performance_profile(list(X.T), np.array([0.0, 0.6, 1.1]))
    np.testing.assert_allclose(profile.value, [1.0, 7 / 15, 0.0])
    assert profile.low[1] < profile.value[1] < profile.high[1]


def test_seeds_that_end_early_stay_at_the_steps_they_were_evaluated_at():
    steps = np.array([100.0, 200.0, 300.0])
    grid, values = common_steps([(steps, np.array([1.0, 2, 3])), (steps[:2] + 1, np.array([4.0, 5]))])
    np.testing.assert_allclose(grid, [100.5, 200.5, 300])
    np.testing.assert_array_equal(values, [[1, 2, 3], [4, 5, np.nan]])


def test_other_evaluation_intervals_are_interpolated_at_the_rarest():
    often, rarely = np.arange(1.0, 11) * 50, np.array([200.0, 400.0])
    grid, values = common_steps([(often, often), (rarely, -rarely)])
    np.testing.assert_allclose(grid, [200, 400])
    np.testing.assert_allclose(values, [[200, 400], [-200, -400]])
    grid, values = common_steps([(often * 2, often), (rarely, -rarely)])
    np.testing.assert_allclose(grid, [200, 400, 600, 800])
    assert np.isnan(values[1, 2:]).all()


def test_a_curve_goes_on_with_the_seeds_that_are_left(tmp_path):
    write_run(tmp_path / "a", epochs=6, seeds=2)
    write_run(tmp_path / "b", epochs=3, seeds=3, first_seed=2, finished=False)
    sources, _ = read(find([str(tmp_path)]), ["eval_win_rate"], skip_damaged=False)
    curve = learning_curve([seed for source in sources for seed in source.seeds], "eval_win_rate")
    assert curve is not None
    assert curve.counts.tolist() == [5, 5, 5, 2, 2, 2]
    assert (curve.low <= curve.iqm).all()


def test_methods_are_told_apart_by_what_differs_and_no_more(tmp_path):
    write_run(tmp_path / "a", gamma=0.99)
    write_run(tmp_path / "b", gamma=0.95, optimizer={"learning_rate": 1e-3})
    write_run(tmp_path / "c", "vdn", env="8m", optimizer={"_target_": "qmix_jax.optimizers.adam"})
    write_run(tmp_path / "d", "vdn", first_seed=4)
    found = compare([str(tmp_path)])
    assert set(found.methods) == {"qmix learning_rate=0.0005", "qmix learning_rate=0.001", "vdn"}
    assert found.settings["gamma"]["qmix learning_rate=0.001"] == "0.95"
    assert "optimizer._target_" not in found.settings
    assert found.groups.envs == ["smax-3m", "smax-8m"]
    assert any("leave out smax-8m" in note for note in found.notes)


def test_explicit_keys_pool_the_others_and_say_so(tmp_path):
    write_run(tmp_path / "a", gamma=0.99)
    write_run(tmp_path / "b", gamma=0.95, first_seed=4)
    found = compare([str(tmp_path)], by=["algorithm"])
    assert found.methods == ["qmix"]
    assert len(found.scores.raw["qmix", "smax-3m"]) == 8
    assert any("pools runs that differ in gamma" in note for note in found.notes)
    assert set(compare([str(tmp_path)], by=["algorithm", "env.scenario", "gamma"]).methods) == {
        "qmix gamma=0.99",
        "qmix gamma=0.95",
    }


def test_one_curve_is_of_one_environment(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", first_seed=4)
    tree = json.loads((tmp_path / "b" / "config.json").read_text())
    tree["env"]["max_steps"] = 50
    (tmp_path / "b" / "config.json").write_text(json.dumps(tree))
    with pytest.raises(ConfigError, match=r"differ in env.max_steps \(100, 50\); use by=algorithm,env.max_steps"):
        compare([str(tmp_path)], by=["algorithm"])
    assert compare([str(tmp_path)]).groups.envs == ["smax-3m max_steps=100", "smax-3m max_steps=50"]
    assert compare([str(tmp_path)]).methods == ["qmix"]


def test_runs_of_different_length_are_compared_where_all_have_been(tmp_path):
    write_run(tmp_path / "short", "vdn", epochs=3, level=0.3)
    write_run(tmp_path / "long", epochs=6, level=0.6)
    write_run(tmp_path / "unfinished", "iql", epochs=1, finished=False)
    found = compare([str(tmp_path)])
    assert found.scores.budgets["smax-3m"] == pytest.approx(3000, abs=5)
    assert found.by_env["qmix", "smax-3m"].value == pytest.approx(0.3, abs=0.05)
    assert ("iql", "smax-3m") not in found.by_env
    assert found.methods[-1] == "iql"
    for words in ("the longest run has 6,00", "iql on smax-3m: 4 of 4 seed(s) have no evaluation", "still going"):
        assert any(words in note for note in found.notes), words


def test_a_seed_without_values_at_its_end_does_not_take_the_others_back(tmp_path):
    write_run(tmp_path / "a", level=0.6)
    rewrite(
        write_run(tmp_path / "b", "vdn", level=0.3),
        lambda row: {**row, "eval_win_rate": None} if row["seed"] == 2 and row["epoch"] > 1 else row,
    )
    found = compare([str(tmp_path)])
    assert found.scores.budgets["smax-3m"] == pytest.approx(6000, abs=5)
    assert found.by_env["qmix", "smax-3m"].value == pytest.approx(0.6, abs=0.05)
    assert len(found.scores.raw["vdn", "smax-3m"]) == 3
    assert any("vdn on smax-3m: 1 of 4 seed(s) have no evaluation at 6,00" in note for note in found.notes)


def test_cells_that_halving_stopped_do_not_take_the_others_back(tmp_path):
    run = write_run(tmp_path / "a", seeds=2)
    rewrite(run, lambda row: {**row, "cell": 0}, lambda row: {**row, "cell": 1} if row["epoch"] <= 2 else None)
    cells = [{"cell": index, "values": {"lr": value}} for index, value in enumerate((1e-3, 1e-4))]
    (run / "summary.json").write_text(json.dumps({"env": "smax-3m", "cells": cells}))
    found = compare([str(tmp_path)])
    assert found.scores.budgets["smax-3m"] == pytest.approx(6000, abs=5)
    assert set(found.scores.raw) == {("qmix learning_rate=0.001", "smax-3m")}


def rewrite(run_dir, *changes):
    """Each row of a run's metrics, changed in each of these ways; None leaves it out."""
    path = run_dir / "metrics.jsonl"
    rows = [change(json.loads(line)) for line in path.read_text().splitlines() for change in changes]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows if row is not None))


def test_a_run_counts_once_and_links_are_followed(tmp_path):
    run = write_run(tmp_path / "disk" / "a")
    linked = tmp_path / "runs"
    linked.mkdir()
    (linked / "b").symlink_to(run)
    (linked / "back").symlink_to(linked)
    assert find([str(linked)]) == [linked / "b"]
    assert find([str(run), str(linked), str(linked / ".." / "disk")]) == [run]


def test_time_to_a_threshold(tmp_path):
    write_run(tmp_path / "a", level=0.9, seeds=2)
    write_run(tmp_path / "b", "vdn", level=0.2, seeds=2)
    reached = {found.method: found for found in compare([str(tmp_path)], threshold=[0.5]).reached}
    np.testing.assert_array_equal(reached["qmix"].env_steps, [4000, 4001])
    np.testing.assert_array_equal(reached["qmix"].seconds, [8, 8])
    assert reached["vdn"].num_reached == 0


def test_returns_are_scaled_within_each_environment(tmp_path):
    write_run(tmp_path / "a", level=0.9, win_rate=False)
    write_run(tmp_path / "b", "vdn", level=0.2, win_rate=False)
    found = compare([str(tmp_path)])
    assert found.metric == "eval_return"
    low, high = found.scores.scales["smax-3m"]
    assert found.scores.scaled["qmix", "smax-3m"].max() <= 1
    assert found.by_env["qmix", "smax-3m"].value == pytest.approx(1.8, abs=0.1)
    assert low < high


def test_seeds_without_an_evaluation_and_seeds_that_are_there_twice_are_told(tmp_path):
    write_run(tmp_path / "a", seeds=3)
    write_run(tmp_path / "b", seeds=3)
    lines = (tmp_path / "a" / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "a" / "metrics.jsonl").write_text("".join(x for x in lines if '"seed": 1' not in x) + '{"cut sho')
    notes = compare([str(tmp_path)]).notes
    assert any("seed 1 of 3 without an evaluation" in note for note in notes)
    assert any("seed_0 is in" in note for note in notes)


def test_cells_of_a_sweep_are_methods(tmp_path):
    write_run(tmp_path / "a", seeds=2)
    rows = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    both = [{**row, "cell": cell} for row in rows for cell in (0, 1)]
    (tmp_path / "a" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in both))
    cells = [{"cell": index, "values": {"lr": value}} for index, value in enumerate((1e-3, 1e-4))]
    (tmp_path / "a" / "summary.json").write_text(json.dumps({"env": "smax-3m", "cells": cells}))
    assert set(compare([str(tmp_path)]).methods) == {"qmix learning_rate=0.001", "qmix learning_rate=0.0001"}


@pytest.mark.parametrize("damage", ["line", "config", "no config", "summary", "not rows"])
def test_a_damaged_folder_is_told_or_left_out(tmp_path, damage):
    write_run(tmp_path / "whole")
    broken = write_run(tmp_path / "broken", "vdn")
    match damage:
        case "line":
            (broken / "metrics.jsonl").write_text('{"epoch": 1,\n{"epoch": 1, "seed": 0}\n')
        case "config":
            (broken / "config.json").write_bytes(b"\xff\x00{")
        case "no config":
            (broken / "config.json").unlink()
        case "summary":
            (broken / "summary.json").write_text("[]")
        case "not rows":
            (broken / "metrics.jsonl").write_text('{"epoch": 1, "seed": 0, "env_steps": "many"}\n')
    with pytest.raises(ConfigError, match=r"broken.*skip_damaged=true"):
        compare([str(tmp_path)])
    found = compare([str(tmp_path)], skip_damaged=True)
    assert found.methods == ["qmix"]
    assert any(note.startswith("left out: ") for note in found.notes)


def test_peers_are_read_beside_our_runs(tmp_path):
    write_run(tmp_path / "ours")
    step = {"step_0": {"step_count": 3000, "elapsed_time": 4.0, "win_rate": [0.2, 0.4], "return": [1.0]}}
    step["step_1"] = {"step_count": 6000, "elapsed_time": 8.0, "win_rate": [0.6, 0.8], "return": [2.0]}
    tree = {"smax": {"3m": {"ippo": {"seed_0": step, "seed_1": step}}}}
    (tmp_path / "theirs.json").write_text(json.dumps(tree))
    sacred = tmp_path / "sacred" / "1"
    sacred.mkdir(parents=True)
    (sacred / "run.json").write_text("{}")
    (sacred / "config.json").write_text(json.dumps({"name": "qmix", "seed": 7, "env_args": {"map_name": "smax-3m"}}))
    info = {
        "test_return_mean": [{"dtype": "float64", "value": 1.0}, {"value": 2.0}],
        "test_return_mean_T": [3000, 6000],
    }
    info |= {"test_battle_won_mean": [0.1, 0.3], "test_battle_won_mean_T": [3000, 6000]}
    (sacred / "info.json").write_text(json.dumps(info))
    chart = (
        '"Step","mappo-seed-0 - returned_won_episode","mappo-seed-1 - returned_won_episode"\n3000,0.5,\n6000,0.9,0.8\n'
    )
    (tmp_path / "smax-3m.csv").write_text(chart)
    paths = [str(tmp_path / name) for name in ("ours", "theirs.json", "sacred", "smax-3m.csv")]
    found = compare(paths)
    assert {method for method, _ in found.by_env} == {"qmix", "qmix (sacred)", "ippo", "mappo"}
    assert found.by_env["ippo", "smax-3m"].value == pytest.approx(0.7)
    assert found.by_env["mappo", "smax-3m"].value == pytest.approx(0.85)


def test_a_file_of_something_else_is_refused(tmp_path):
    for name, content in (("a.json", "{}"), ("a.csv", "x\n"), ("a.txt", "x"), ("b.json", "{")):
        (tmp_path / name).write_text(content)
        with pytest.raises(ConfigError, match=name):
            compare([str(tmp_path / name)])


def test_a_report_needs_no_network_and_says_what_there_is_to_know(tmp_path):
    write_run(tmp_path / "runs" / "a", "<b>qmix</b>")
    write_run(tmp_path / "runs" / "b", "vdn", level=0.3)
    page = write(compare([str(tmp_path / "runs")]), tmp_path / "report", refresh=5)
    own = page.read_text()
    assert 'content="5"' in own
    assert "&lt;b&gt;qmix" in own
    assert "<b>qmix" not in own
    assert 'src="http' not in own
    assert "{{" not in own.split("<script>")[0]
    for name in (
        "curves_win_rate",
        "curves_return",
        "aggregates",
        "performance_profiles",
        "probability_of_improvement",
    ):
        for suffix in (".png", ".pdf"):
            assert (page.parent / f"{name}{suffix}").stat().st_size > 5000


def test_curves_answer_the_mouse_where_plotly_is_installed(tmp_path, monkeypatch):
    (tmp_path / "plotly").mkdir()
    (tmp_path / "plotly" / "__init__.py").write_text("")
    (tmp_path / "plotly" / "offline.py").write_text("def get_plotlyjs(): return 'the library'")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("plotly", "plotly.offline"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    write_run(tmp_path / "run", "</script>", seeds=2)
    own = write(compare([str(tmp_path / "run")]), tmp_path / "report").read_text()
    for name in ("plotly", "plotly.offline"):
        monkeypatch.delitem(sys.modules, name)
    assert own.count("</script>") == 2
    assert "<script>the library</script>" in own
    panels = json.loads(re.search(r"const panels = (.*);\n", own)[1])
    assert [panel["title"] for panel in panels] == ["smax-3m: greedy win rate", "smax-3m: greedy return"]
    assert panels[0]["lines"][0]["key"] == "</script>"
    assert panels[0]["lines"][0]["count"] == [2] * 6


def seed_of(steps: list[float], values: list[float]) -> Seed:
    return Seed("", "seed", "env", {}, np.array(steps), np.zeros(len(steps)), {"eval_return": np.array(values)})


def test_a_curve_over_environments_is_the_interquartile_mean_of_scaled_scores_at_fractions_of_the_budgets():
    first = [seed_of([100, 1000], [0.0, 9.0]), seed_of([100, 1000], [9.0, 18.0])]
    second = [seed_of([10, 20, 40], [1.0, 2.0, 2.0]), seed_of([10, 20, 40], [0.0, 1.0, 2.0])]
    short = seed_of([100, 500], [3.0, 3.0])
    found = aggregate_curve([[*first, short], second], "eval_return", [1000, 40], [(0.0, 18.0), (0.0, 2.0)])
    assert found is not None
    # Evaluations begin at a tenth of the first budget and at a quarter of the second.
    np.testing.assert_allclose(found.fraction, FRACTIONS[FRACTIONS > 0.24])
    for fraction, value, low, high in zip(found.fraction, found.iqm, found.low, found.high, strict=True):
        scores = []
        for seeds, budget, scale in ((first, 1000, 18), (second, 40, 2)):
            for seed in seeds:
                steps, _, values = seed.points("eval_return")
                scores.append(np.interp(fraction * budget, steps, values) / scale)
        assert value == pytest.approx(np.mean(sorted(scores)[1:3]))
        assert low <= value <= high
    assert aggregate_curve([first, [short]], "eval_return", [1000, 1000], [(0, 1), (0, 1)]) is None


def test_curves_over_environments_and_times_to_thresholds_are_drawn(tmp_path):
    for algorithm, level in (("qmix", 0.9), ("vdn", 0.3)):
        for env in ("3m", "8m"):
            write_run(tmp_path / algorithm / env, algorithm, env, level=level)
    compared = compare([str(tmp_path)], threshold=[0.5])
    assert list(compared.over_envs) == ["qmix", "vdn"]
    assert compared.over_envs["qmix"].iqm[-1] == pytest.approx(
        compared.aggregates["interquartile mean"]["qmix"].value, abs=0.02
    )
    page = write(compared, tmp_path / "report").read_text()
    for name in ("curves_over_environments", "time_to_threshold"):
        assert (tmp_path / "report" / f"{name}.pdf").stat().st_size > 1000
        assert f'alt="{name}"' in page


def test_dots_are_drawn_where_seeds_are_missing_and_long_names_are_not_cut_off(tmp_path, monkeypatch):
    """Dots below a dashed line would make another style of it."""
    from qmix_jax.results.comparison import figures

    drawn, save = {}, figures.Figure.savefig

    def saved(figure, path, **options):
        drawn[path.stem] = figure
        if path.name == "curves_win_rate.png":
            save(figure, path, **options)

    monkeypatch.setattr(figures.Figure, "savefig", saved)
    name = "a_very_long_scenario_name_of_somebody_with_many_units_of_many_kinds_v3"
    write_run(tmp_path / "a", env=name, seeds=2)
    write_run(tmp_path / "b", env=name, seeds=2, first_seed=2, epochs=4, finished=False)
    write_run(tmp_path / "c", "vdn", env=name, seeds=2)
    figures.draw(compare([str(tmp_path / part) for part in "abc"]), tmp_path)
    figure = drawn["curves_win_rate"]
    figure.canvas.draw()
    (axes,) = figure.axes
    dots = [np.isfinite(line.get_ydata()).tolist() for line in axes.lines if line.get_linestyle() == ":"]
    assert sorted(dots) == [[False] * 6, [False, False, False, True, True, True]]
    (title,) = (text for text in axes.get_children() if getattr(text, "get_text", str)().startswith("smax-a_very"))
    assert title.get_window_extent().x1 <= figure.bbox.x1


def test_one_environment_has_no_curve_over_environments(tmp_path):
    compared = compare([str(write_run(tmp_path / "run"))])
    assert compared.over_envs == {}
    assert "curves_over_environments" not in write(compared, tmp_path / "report").read_text()
