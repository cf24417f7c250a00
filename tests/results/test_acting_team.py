"""A saved policy from Python: what it plays and how it tells the result."""

import math
from typing import Any, cast

import numpy as np
from toy_env import make_toy

from qmix_jax.acting.greedy_episodes import Episodes
from qmix_jax.results import acting_team
from qmix_jax.results.acting_team import ActingTeam, Evaluation
from qmix_jax.results.confidence import Interval
from qmix_jax.results.team import Team


def test_of_a_run_with_several_seeds_one_policy_is_played(monkeypatch):
    played = []

    def play(team, run, plan):
        del run
        played.append(list(team.policies))
        episodes = cast(Any, Episodes)(*(np.ones(plan.episodes) for _ in Episodes._fields))
        return dict.fromkeys(team.policies, episodes)

    monkeypatch.setattr(acting_team, "compile_episodes", lambda team, plan: None)
    monkeypatch.setattr(acting_team, "play_team", play)
    team = Team(make_toy(), None, {}, {3: {}, 4: {}, 5: {}})  # pyright: ignore[reportArgumentType]
    assert ActingTeam(team).evaluate(episodes=2).episode_return.mean == 1
    assert played == [[3]]


def test_a_single_episode_has_no_interval():
    nothing = Interval(7.0, math.nan, math.nan)
    one = Evaluation(1, nothing, Interval(1.0, 0.2, 1.0), nothing)
    assert repr(one) == "<1 greedy episode: return 7; win rate 1 (0.2 to 1); length 7>"
    assert "nan" not in one._repr_html_()
    two = Evaluation(2, Interval(7.0, 6.0, 8.0), None, nothing)
    assert repr(two) == "<2 greedy episodes: return 7 (6 to 8); length 7>"
