"""Learning curves: their numbers, and that figures are not empty."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qmix_jax.logging import RunInfo
from qmix_jax.results.curves import compare_runs, curves, draw_curves, learning_curves, read_metrics
from qmix_jax.results.report import marl_eval


def write_run(run_dir: Path, seeds: int = 3, epochs: int = 5, interval: int = 100, win_rate: bool = True) -> Path:
    run_dir.mkdir(parents=True)
    rows = [
        {
            "epoch": epoch,
            "seed": seed,
            "env_steps": epoch * interval,
            "eval_return": float(seed + epoch),
            "eval_win_rate": epoch / epochs if win_rate else None,
        }
        for epoch in range(1, epochs + 1)
        for seed in range(seeds)
    ]
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run_dir


def colours(path: Path) -> int:
    with Image.open(path) as picture:
        return len(picture.convert("RGB").getcolors(maxcolors=picture.width * picture.height) or [])


def width(path: Path) -> int:
    with Image.open(path) as picture:
        return picture.width


def test_curves_are_read_back_per_seed(tmp_path):
    found = curves(read_metrics(write_run(tmp_path / "run")), "eval_return")
    assert found is not None
    np.testing.assert_array_equal(found.env_steps, [100, 200, 300, 400, 500])
    np.testing.assert_array_equal(found.values, np.arange(1, 6) + np.arange(3)[:, None])


def test_epochs_without_a_value_are_left_out():
    rows = [{"seed": 0, "env_steps": steps, "eval_return": value} for steps, value in ((1, 5.0), (2, None), (3, 7.0))]
    found = curves(rows, "eval_return")
    assert found is not None
    np.testing.assert_array_equal(found.env_steps, [1, 3])
    assert curves(rows, "eval_win_rate") is None


def test_seeds_evaluated_at_different_steps_are_interpolated_over_their_common_range():
    rows = [{"seed": 0, "env_steps": steps, "eval_return": steps} for steps in (10, 20, 30, 40)]
    rows += [{"seed": 1, "env_steps": steps, "eval_return": -steps} for steps in (15, 25, 35)]
    found = curves(rows, "eval_return")
    assert found is not None
    np.testing.assert_array_equal(found.env_steps, [15, 25, 35])
    np.testing.assert_array_equal(found.values, [[15, 25, 35], [-15, -25, -35]])


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("epochs", [1, 5])
def test_one_run_is_drawn(tmp_path, seeds, epochs):
    rows = read_metrics(write_run(tmp_path / "run", seeds, epochs))
    path = learning_curves(rows, tmp_path / "pictures" / "curves.png", title="QMIX on SMAX 3m")
    assert colours(path) > 20


def test_a_metric_without_values_gets_no_panel(tmp_path):
    both = learning_curves(read_metrics(write_run(tmp_path / "a")), tmp_path / "a.png")
    one = learning_curves(read_metrics(write_run(tmp_path / "b", win_rate=False)), tmp_path / "b.png")
    assert width(both) == 2 * width(one)


def test_a_run_without_evaluations_still_gives_a_figure(tmp_path):
    assert learning_curves([], tmp_path / "curves.png").exists()


def test_several_runs_are_drawn_in_one_figure(tmp_path):
    runs = {
        "QMIX": [write_run(tmp_path / "a"), write_run(tmp_path / "b", seeds=2, interval=70)],
        "VDN": [write_run(tmp_path / "c", win_rate=False)],
    } | {f"variant {index}": [write_run(tmp_path / f"more-{index}", seeds=1)] for index in range(8)}
    assert colours(compare_runs(runs, tmp_path / "compared.png", title="SMAX 3m")) > 20


def test_a_folder_without_metrics_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        compare_runs({"QMIX": [tmp_path]}, tmp_path / "compared.png")


def test_epochs_of_one_run_keep_their_values_if_steps_differ_slightly():
    rows = [
        {"seed": seed, "env_steps": 1000 * epoch + 10 * seed, "eval_return": float(epoch)}
        for epoch in (1, 2, 3)
        for seed in (0, 1)
    ]
    found = curves(rows, "eval_return")
    assert found is not None
    np.testing.assert_array_equal(found.values, [[1, 2, 3], [1, 2, 3]])
    np.testing.assert_array_equal(found.env_steps, [1005, 2005, 3005])


def without_later_returns(shift: int = 0) -> list[dict]:
    """Three seeds of five epochs, the second without a return after its first epoch."""
    return [
        {
            "epoch": epoch,
            "seed": seed,
            "env_steps": 1000 * epoch + shift * seed,
            "seconds": 1.0,
            "eval_return": None if seed == 1 and epoch > 1 else float(epoch + seed),
            "eval_win_rate": None,
        }
        for epoch in range(1, 6)
        for seed in range(3)
    ]


# Steps that are almost equal keep a single value; steps that are not are interpolated, which takes two.
@pytest.mark.parametrize(("shift", "seeds"), [(1, "2 to 3"), (200, "2")])
def test_a_seed_whose_returns_end_does_not_cut_off_the_others(shift, seeds):
    found = curves(without_later_returns(shift), "eval_return")
    assert found is not None
    assert found.env_steps.size >= 4
    assert found.env_steps[-1] >= 4000
    assert found.counts[-1] == 2
    note = draw_curves(without_later_returns(shift)).get_supxlabel()
    assert note.startswith(f"mean of {seeds} seeds")


def test_a_value_that_is_missing_between_two_others_leaves_no_gap():
    steps = [(steps, seed) for steps in (10, 20, 30) for seed in (0, 1)]
    rows: list[dict] = [{"seed": seed, "env_steps": at, "eval_return": at} for at, seed in steps]
    rows[2] |= {"eval_return": None}
    found = curves(rows, "eval_return")
    assert found is not None
    np.testing.assert_array_equal(found.values, [[10, 20, 30], [10, 20, 30]])


def test_returns_that_are_no_numbers_do_not_stop_the_report():
    run = RunInfo(Path(), {}, [0, 1, 2], 5000, "qmix", "game", has_win_rate=False)
    found = marl_eval(run, without_later_returns())["game"]["game"]["qmix"]
    assert found["seed_1"]["step_3"] == {"step_count": 4000, "elapsed_time": 1.0}
    assert found["seed_1"]["absolute_metrics"] == {"return": [2.0]}
    assert found["seed_2"]["absolute_metrics"] == {"return": [7.0]}


@pytest.mark.parametrize("win_rate", [True, False])
def test_a_long_title_is_not_cut_off(tmp_path, win_rate):
    title = "wqmix_cw on a-pretty-long-environment-name-of-somebody-with-MANY-units_v3 and with more " * 2
    figure = draw_curves(read_metrics(write_run(tmp_path / "run", win_rate=win_rate)), title=title)
    figure.canvas.draw()
    (shown,) = (text for text in figure.texts if text.get_text().startswith("wqmix_cw"))
    assert shown.get_window_extent().x1 <= figure.bbox.x1
    assert shown.get_text().replace("\n", "").replace(" ", "") == title.replace(" ", "")
