"""Drawing recorded hunts to a GIF."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from qmix_jax.envs.base import Episode
from qmix_jax.envs.predator_prey.hunt import CATCH, GONE, Hunt, Rules
from qmix_jax.envs.render import check_suffix, picture_of, write_gif

FRAME_MILLISECONDS = 250
AGENT, PREY, CAUGHT, ALONE = "#2f6fb5", "#c77d2a", "#27ae60", "#c0392b"


def render(rules: Rules, sight: int, episode: Episode, path: Path) -> None:
    """Draw an episode: numbered squares are agents, circles are prey, the shade is what the first agent sees.

    A frame shows the state and what follows: a green line from each agent that helps to catch a prey, a red frame
    around those that try in vain.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    check_suffix(path, (".gif",))
    hunts = [jax.device_get(state).hunt for state in episode.env_states]
    figure = Figure(figsize=(5, 5.2), dpi=90)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.02, 0.02, 0.96, 0.92))
    pictures = []
    for number, hunt in enumerate(hunts):
        playing = number < len(hunts) - 1
        after, action = (hunts[number + 1], np.asarray(episode.actions[number])) if playing else (hunt, None)
        draw(axes, rules, sight, hunt, after, action)
        caught = int((hunt.prey == GONE).sum())
        axes.set_title(f"transition {number}, {caught} caught, return {sum(episode.rewards[:number]):g}", fontsize=10)
        pictures.append(picture_of(figure))
    write_gif(pictures, path, FRAME_MILLISECONDS)


def draw(axes: Any, rules: Rules, sight: int, hunt: Hunt, after: Hunt, action: np.ndarray | None) -> None:
    """Draw one state, and who catches in it."""
    from matplotlib.patches import Circle, Rectangle

    size = rules.size
    axes.clear()
    axes.set(xlim=(0, size), ylim=(size, 0), xticks=range(size), yticks=range(size), aspect="equal")
    axes.tick_params(length=0, labelbottom=False, labelleft=False)
    axes.grid(color="#dddddd", linewidth=0.8)
    if hunt.agents[0] != GONE:
        row, column = divmod(int(hunt.agents[0]), size)
        edge = 2 * sight + 1
        axes.add_patch(Rectangle((column - sight, row - sight), edge, edge, color=AGENT, alpha=0.08, linewidth=0))
    for cell in hunt.prey[hunt.prey != GONE]:
        axes.add_patch(Circle(_middle(cell, size), 0.32, color=PREY, linewidth=0))
    pairs = captures(rules, hunt, after, action)
    helpers = {agent for agent, _ in pairs}
    for agent in np.flatnonzero(hunt.agents != GONE):
        x, y = _middle(hunt.agents[agent], size)
        catches = action is not None and action[agent] == CATCH
        edge = (CAUGHT if agent in helpers else ALONE) if catches else AGENT
        axes.add_patch(
            Rectangle((x - 0.34, y - 0.34), 0.68, 0.68, facecolor=AGENT, edgecolor=edge, linewidth=3 if catches else 0)
        )
        axes.text(x, y, str(agent), color="white", fontsize=9, ha="center", va="center_baseline")
    for agent, prey in pairs:
        ends = np.array([_middle(hunt.agents[agent], size), _middle(hunt.prey[prey], size)])
        axes.plot(*ends.T, color=CAUGHT, linewidth=3, solid_capstyle="round")


def captures(rules: Rules, hunt: Hunt, after: Hunt, action: np.ndarray | None) -> list[tuple[int, int]]:
    """Pairs of an agent that catches and a prey beside it that is gone in ``after``."""
    if action is None:
        return []
    caught = np.flatnonzero((hunt.prey != GONE) & (after.prey == GONE))
    catching = np.flatnonzero((hunt.agents != GONE) & (action == CATCH))
    return [(int(agent), int(prey)) for agent in catching for prey in caught if _beside(rules, hunt, agent, prey)]


def _beside(rules: Rules, hunt: Hunt, agent: Any, prey: Any) -> bool:
    rows, columns = np.divmod(np.array([hunt.agents[agent], hunt.prey[prey]]), rules.size)
    return int(np.abs(np.diff(rows)).sum() + np.abs(np.diff(columns)).sum()) == 1


def _middle(cell: Any, size: int) -> tuple[float, float]:
    row, column = divmod(int(cell), size)
    return column + 0.5, row + 0.5
