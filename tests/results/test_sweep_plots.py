"""Figures of a sweep: what is said below them."""

import numpy as np
import pytest

from qmix_jax.results import sweep_plots


def cell(index: int, values: dict, iqm: float | None, spread: float | None) -> dict:
    ends = (None, None) if iqm is None or spread is None else (iqm - spread, iqm + spread)
    score = {"iqm": iqm, "low": ends[0], "high": ends[1]}
    return {"cell": index, "rank": index + 1, "values": values, "score": score}


def summary(cells: list[dict], seeds: int) -> dict:
    return {"score": "return", "seeds": list(range(seeds)), "cells": cells}


@pytest.fixture
def notes(monkeypatch):
    told = []
    monkeypatch.setattr(sweep_plots, "save", lambda figure, path, note: told.append((figure, note)))
    return told


def test_intervals_are_named_where_there_are_some(notes, tmp_path):
    for spread, seeds in ((0.5, 4), (None, 1), (np.nan, 1)):
        cells = [cell(index, {"lr": lr}, 1.0 + index, spread) for index, lr in enumerate((1e-3, 1e-4))]
        sweep_plots.scores(summary(cells, seeds), tmp_path / "sweep.png")
    assert ["intervals" in note for _, note in notes] == [True, False, False]


def test_a_cell_without_a_score_takes_no_interval_from_the_others(notes, tmp_path):
    cells = [cell(0, {"lr": 1e-3}, 1.0, 0.5), cell(1, {"lr": 1e-4}, None, None)]
    sweep_plots.scores(summary(cells, 4), tmp_path / "sweep.png")
    ((figure, note),) = notes
    assert note.endswith("95% bootstrap intervals")
    (lines,) = figure.axes[0].collections
    assert sum(bool(np.isfinite(line.vertices).all()) for line in lines.get_paths()) == 1


@pytest.mark.parametrize("second", [{}, {"gamma": (0.9, 0.99)}, {"gamma": (0.9, 0.99), "tau": (0.1, 0.2)}])
def test_cells_that_all_lack_a_score_are_drawn(tmp_path, second):
    pairs = [(i, j) for i in range(2) for j in range(2)]
    cells = [
        cell(index, {"lr": (1e-3, 1e-4)[i], **{key: values[j] for key, values in second.items()}}, None, None)
        for index, (i, j) in enumerate(pairs)
    ]
    assert sweep_plots.scores(summary(cells, 4), tmp_path / "sweep.png").stat().st_size > 1000
