"""The files that ``python -m qmix_jax.evaluate ... explain=FOLDER`` writes."""

from pathlib import Path

from qmix_jax.errors import writing
from qmix_jax.logging import write_json
from qmix_jax.results.explanation.figures import draw_tables, draw_trace, frames_of
from qmix_jax.results.explanation.mixers import Mixer
from qmix_jax.results.explanation.trace import trace
from qmix_jax.results.play import Plan
from qmix_jax.results.team import Choice, Team


def explain(choice: Choice, team: Team, plan: Plan, mixer: Mixer | None, folder: Path) -> list[Path]:
    """Draw the first episode of the first policy, with what agents and mixer computed in it.

    Policies of older runs, and those that come with the project, have no mixer; of them the agents are shown.

    Args:
        choice: which policies ``team`` has.
        team: whose first policy is shown.
        plan: the episodes that are played.
        mixer: what the policy was trained with, if it was saved.
        folder: made as needed.

    Returns the files: ``episode.png``, ``.pdf`` and ``.json``, and ``tables.png`` for two agents with few actions.
    Raises :class:`ConfigError` where a file cannot be read or written.
    """
    seed = next(iter(team.policies))
    found = trace(team, plan, mixer)
    total = f"{sum(found.episode.rewards):.4g}"
    title = f"{choice.policy or choice.which} policy of seed {seed} on {team.env.name}: return {total}"
    if mixer is not None and mixer.standardised:
        title += " (q_tot is of standardised rewards, returns are not)"
    figure = draw_trace(found, frames_of(team.env, found.episode), title)
    numbers = {
        name: getattr(found, name) for name in ("q", "avail_actions", "action", "returns", "q_tot", "slope", "hidden")
    }
    with writing("explain", folder):
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / name for name in ("episode.png", "episode.pdf", "episode.json")]
        for file in files[:2]:
            figure.savefig(file)
        write_json(files[2], {"env": team.env.name, "seed": seed, "rewards": found.episode.rewards, **numbers})
        if found.tables:
            files.append(folder / "tables.png")
            draw_tables(found.tables).savefig(files[-1])
    return files
