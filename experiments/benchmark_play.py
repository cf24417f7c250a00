"""How a policy does in episodes that no evaluation of its training has played.

Evaluations in training play the same 128 episodes for every seed, so what these happen to be like is in the mean of
many seeds, too: by chance .02 of a win rate of .92.
"""

from pathlib import Path
from typing import Any

from qmix_jax.results.play import Plan, compile_episodes, play_team, result_rows
from qmix_jax.results.team import Choice, load_team

EPISODES = 1000
PLAYED = "fresh_episodes"
"""Where a policy's description, and a run's record, keep what :func:`fresh_episodes` returns."""


def fresh_episodes(path: Path, episodes: int = EPISODES) -> dict[str, Any]:
    """Greedy episodes with another seed than training's evaluations: means with 95% intervals."""
    team, plan = load_team(Choice("", policy=str(path))), Plan(episodes)
    row = result_rows(play_team(team, compile_episodes(team, plan), plan), team.env.has_win_rate)[0]
    names = ("return", "win_rate", "episode_length")
    return {
        "episodes": episodes,
        "evaluation_seed": plan.evaluation_seed,
        **{name: row[name] and [float(f"{value:.5g}") for value in row[name]] for name in names},
    }
