"""Drawing recorded battles to a GIF or a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qmix_jax.envs.base import Episode
from qmix_jax.envs.render import check_suffix, picture_of, write_gif
from qmix_jax.envs.smax.rules import MAP_SIZE, MOVES, NOBODY, Rules
from qmix_jax.envs.smax.slots import targets
from qmix_jax.envs.smax.units import BLAST_RADIUS, MAX_ENERGY, SMAC_UNIT_TYPES, TABLE, UNIT_TYPES, Stats

FRAMES = 3
"""Frames of one transition; in between, units are drawn on the straight line from where they were."""
MARGIN = 1.2
"""Of the picture around the map, in its units: units at the edge and their bars are whole."""
AROUND = 2.5
"""Of the picture around all places where units are in a battle."""
LEAST_WIDTH = 14.0
"""Of the picture, in the map's units: more would show little but bars."""
View = tuple[float, float, float]
"""Left, bottom and width of the square of the map that is shown."""
WHOLE_MAP: View = (-MARGIN, -MARGIN, MAP_SIZE + 2 * MARGIN)
EDGE_COLOUR = "#d5d5d5"
WALL_COLOUR = "#b8b2a7"
SHIELD_COLOUR = "#3498db"
SIDES = ("#2f6fb5", "#c0392b")
FRAME_MILLISECONDS = 160


def render(rules: Rules, episode: Episode, path: Path) -> None:
    """Draw an episode: circles with a letter for the type, blue for allies; bars of health, shield and energy.

    The picture shows the part of the map where units are in this episode. Lines are shots that were fired in a
    transition, green where a healer healed; a ring is a blast.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    check_suffix(path, (".gif",))
    states = [jax.device_get(state) for state in episode.env_states]
    figure = Figure(figsize=(6, 6), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.02, 0.02, 0.96, 0.93))
    view = view_of(states)
    pictures = []
    moments = [(number, at / FRAMES) for number in range(len(states) - 1) for at in range(FRAMES)]
    for number, part in [*moments, (len(states) - 1, 0.0)]:
        after = states[min(number + 1, len(states) - 1)]
        draw(axes, rules, states[number], after, part, view)
        axes.set_title(
            f"allies blue, enemies red; transition {number}, return {sum(episode.rewards[:number]):.2f}", fontsize=10
        )
        pictures.append(picture_of(figure))
    write_gif(pictures, path, FRAME_MILLISECONDS)


def view_of(states: Sequence[Any]) -> View:
    """The square around all units that live in some states, within the whole map."""
    living = [state.battle.position[:, state.battle.health > 0] for state in states]
    places = np.concatenate(living, axis=1).astype(np.float64)  # [2, units of all states]
    if not places.size:
        return WHOLE_MAP
    low, high = places.min(axis=1), places.max(axis=1)
    width = float(np.clip((high - low).max() + 2 * AROUND, LEAST_WIDTH, WHOLE_MAP[2]))
    left, bottom = np.clip((low + high - width) / 2, -MARGIN, MAP_SIZE + MARGIN - width).tolist()
    return left, bottom, width


def draw(axes: Any, rules: Rules, before: Any, after: Any, part: float, view: View = WHOLE_MAP) -> None:
    """Draw the battle on its way from one state to the next, ``part`` of it done."""
    from matplotlib.patches import Rectangle

    axes.clear()
    left, bottom, width = view
    axes.set(xlim=(left, left + width), ylim=(bottom, bottom + width), aspect="equal")
    axes.set_axis_off()
    axes.add_patch(Rectangle((0, 0), MAP_SIZE, MAP_SIZE, fill=False, linewidth=1))
    axes.add_patch(Rectangle((left, bottom), width, width, fill=False, linewidth=2, edgecolor=EDGE_COLOUR))
    for left, bottom, right, top in np.clip(rules.terrain.walls, 0, MAP_SIZE):
        axes.add_patch(Rectangle((left, bottom), right - left, top - bottom, color=WALL_COLOUR, linewidth=0))
    position = (1 - part) * before.battle.position + part * after.battle.position
    health = (1 - part) * before.battle.health + part * after.battle.health
    kinds = SMAC_UNIT_TYPES if rules.smac else UNIT_TYPES
    for unit in np.flatnonzero(before.battle.health > 0):
        kind = kinds[before.types[unit]]
        _unit(axes, position[:, unit], kind, SIDES[int(unit >= rules.num_allies)], health[unit] / kind.health)
        if kind.heals:
            _bar(axes, position[:, unit], kind.radius, 0.3, before.battle.energy[unit] / MAX_ENERGY, "#8e44ad")
        if kind.shield:
            shield = (1 - part) * before.battle.shield[unit] + part * after.battle.shield[unit]
            _bar(axes, position[:, unit], kind.radius, 0.3, shield / kind.shield, SHIELD_COLOUR)
    for unit, other in exchanged(rules, before, after):
        _exchange(axes, position, unit, other, UNIT_TYPES[before.types[unit]])


def exchanged(rules: Rules, before: Any, after: Any) -> list[tuple[int, int]]:
    """Who attacked or healed whom between two states."""
    types, actions = before.types, after.last_action
    stats = Stats(*(column[types] for column in TABLE))
    sides = np.split(actions, [rules.num_allies])
    named = np.concatenate(
        [np.asarray(targets(rules, stats, side, jnp.asarray(chosen))) for side, chosen in enumerate(sides)]
    )
    battle, later = before.battle, after.battle
    fired = (later.cooldown > battle.cooldown) | ((battle.cooldown <= 0) & (later.cooldown > 0))
    healed = stats.heals & (later.patient != NOBODY)
    did = (battle.health > 0) & (named != NOBODY) & (actions >= MOVES) & (fired | healed)
    return [(int(unit), int(named[unit])) for unit in np.flatnonzero(did)]


def _unit(axes: Any, position: np.ndarray, kind: Any, colour: str, health: float) -> None:
    from matplotlib.patches import Circle

    axes.add_patch(
        Circle((position[0], position[1]), kind.radius, color=colour, alpha=0.55 if kind.flies else 0.9, linewidth=0)
    )
    left, right = axes.get_xlim()
    size = 7 * WHOLE_MAP[2] / (right - left)
    axes.text(*position, kind.letter, color="white", fontsize=size, ha="center", va="center", clip_on=True)
    _bar(axes, position, kind.radius, 0.0, health, "#27ae60")


def _bar(axes: Any, position: np.ndarray, radius: float, above: float, full: float, colour: str) -> None:
    x, y = position[0] - radius, position[1] + radius + 0.15 + above
    axes.plot([x, x + 2 * radius], [y, y], color="#bbbbbb", linewidth=2, solid_capstyle="butt")
    if full > 0:
        axes.plot([x, x + 2 * radius * full], [y, y], color=colour, linewidth=2, solid_capstyle="butt")


def _exchange(axes: Any, position: np.ndarray, unit: int, other: int, kind: Any) -> None:
    from matplotlib.patches import Circle

    if kind.blast:
        axes.add_patch(
            Circle((position[0, unit], position[1, unit]), BLAST_RADIUS, fill=False, color="#e67e22", linewidth=2)
        )
        return
    colour = "#27ae60" if kind.heals else "#e67e22" if kind.beam else "#555555"
    axes.plot(*position[:, [unit, other]], color=colour, linewidth=2.5 if kind.beam else 1.0, alpha=0.8)
