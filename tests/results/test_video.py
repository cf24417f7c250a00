"""The episode that W&B is shown."""

from pathlib import Path

import pytest
from toy_env import make_toy

from qmix_jax.logging import RunInfo
from qmix_jax.results.video import best_seed, draw_best_episode

SUMMARY = {"seeds": [3, 4], "best": {"return": [2.0, 1.0], "win_rate": [0.5, 0.5]}}
RUN = RunInfo(Path("nowhere"), {}, [3, 4], 10, "qmix", "toy", has_win_rate=True)


def test_the_best_seed_is_that_of_the_highest_win_rate_then_return():
    assert best_seed(SUMMARY) == 3
    assert best_seed({"seeds": [3, 4], "best": {"return": [2.0, 1.0], "win_rate": [0.5, 0.6]}}) == 4
    assert best_seed({"seeds": [3, 4], "best": {"return": [1.0, 2.0], "win_rate": None}}) == 4
    cells = [{"rank": 2, "best": SUMMARY["best"]}, {"rank": 1, "best": {"return": [1.0, 2.0], "win_rate": None}}]
    assert best_seed({**SUMMARY, "cells": cells}) == 4


def test_an_environment_without_a_picture_has_no_video():
    assert draw_best_episode(RUN, make_toy(), SUMMARY, pytest.fail) is None


def test_a_video_that_cannot_be_drawn_is_told():
    told = []
    assert draw_best_episode(RUN, make_toy()._replace(render=print), SUMMARY, told.append) is None
    assert told[0].startswith("no video: ConfigError: run_dir=nowhere")
