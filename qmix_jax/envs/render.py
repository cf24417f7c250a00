"""Draw recorded episodes to files. JaxMARL is not imported here: its visualisers are passed in."""

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from qmix_jax.envs.base import Episode
from qmix_jax.errors import ConfigError, nearest

TEXT_SUFFIXES = (".md", ".txt")
PICTURE_SUFFIXES = (".gif", ".png")
FRAMES_PER_TRANSITION = 4
"""Frames are slow to draw, and half of SMAX's eight simulation steps already look smooth."""


def check_suffix(path: Path, suffixes: Sequence[str]) -> None:
    """Raise a ``ConfigError`` unless the file's name ends in one of ``suffixes``."""
    if path.suffix.lower() not in suffixes:
        near = nearest(path.suffix[1:], [suffix[1:] for suffix in suffixes], cutoff=0.5) or "gif"
        raise ConfigError(f"render={path.name}: must end in {' or '.join(suffixes)}; did you mean {path.stem}.{near}?")


def write_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], path: Path) -> None:
    """Write a table as Markdown (``.md``, ``.txt``) or as a picture (``.gif``, ``.png``)."""
    check_suffix(path, TEXT_SUFFIXES + PICTURE_SUFFIXES)
    cells = [[f"{cell:g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    if path.suffix.lower() in TEXT_SUFFIXES:
        path.write_text(_markdown(title, columns, cells))
    else:
        _draw_table(title, columns, cells, path)


def _markdown(title: str, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(columns, *cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([title, "", line(columns), rule, *map(line, cells), ""])


def _draw_table(title: str, columns: Sequence[str], cells: Sequence[Sequence[str]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.2 * len(columns) + 1, 0.4 * len(cells) + 1.2), dpi=120)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_title(title)
    table = axes.table(cellText=[list(row) for row in cells], colLabels=list(columns), loc="center", cellLoc="center")
    table.scale(1.0, 1.5)
    figure.savefig(path)


def render_mpe(visualizer: Callable[..., Any], env: Any, episode: Episode, path: Path) -> None:
    """Draw an episode with JaxMARL's ``MPEVisualizer`` as a GIF, one frame per state."""
    import matplotlib
    from matplotlib import pyplot

    check_suffix(path, (".gif",))
    states = [jax.device_get(state) for state in episode.env_states]
    # It prints details of the agents' communication.
    with _no_window(), matplotlib.rc_context({"animation.writer": "pillow"}), contextlib.redirect_stdout(io.StringIO()):
        drawn = visualizer(env, states)
        drawn.animate(str(path), view=False)
        pyplot.close(drawn.fig)


def render_smax(visualizer: Callable[..., Any], env: Any, episode: Episode, path: Path) -> None:
    """Draw an episode with JaxMARL's ``SMAXVisualizer`` as a GIF, at most ``FRAMES_PER_TRANSITION`` per transition.

    Only its drawing of one frame is used. Its expansion of transitions into simulation steps derives other random keys
    (it assumes ``env.step``) and counts one frame too few per transition, so that shots are drawn at the wrong time.
    """
    from matplotlib import pyplot
    from PIL import Image

    check_suffix(path, (".gif",))
    frames = expand_smax(env, episode)
    per_transition = env.world_steps_per_env_step
    stride = -(-per_transition // FRAMES_PER_TRANSITION)
    pictures = []
    # SMAX draws with eager lax.cond, which would compile again for every unit and frame.
    with _no_window(), jax.disable_jit():
        drawn = visualizer(env, frames)
        width, height = drawn.fig.canvas.get_width_height()
        for index in range(0, len(frames), stride):
            transition, simulated = divmod(max(index - 1, 0), per_transition)
            picture = env.init_render(drawn.ax, frames[index], simulated, transition).get_array()
            # The image of the whole figure, but its shape has width and height swapped.
            rgba = np.asarray(picture, np.uint8).reshape(height, width, 4)
            pictures.append(Image.fromarray(rgba).quantize(64, method=Image.Quantize.FASTOCTREE))
        pyplot.close(drawn.fig)
    milliseconds = round(1000 * env.time_per_step * stride)
    write_gif(pictures, path, milliseconds)


def render_jumanji(env: Any, episode: Episode, path: Path) -> None:
    """Draw an episode with a jumanji game's own viewer as a GIF, one frame per state."""
    import matplotlib

    check_suffix(path, (".gif",))
    states = [jax.device_get(state.replace(key=None)) for state in episode.env_states]
    with _no_window(), matplotlib.rc_context({"animation.writer": "pillow"}):
        env.animate(states, interval=200, save_path=str(path))


def draw_frames(episode: Episode, path: Path) -> None:
    """Write an episode whose states are pictures, ``uint8 [height, width, 3]``, as a GIF, one frame per state."""
    from PIL import Image

    check_suffix(path, (".gif",))
    pictures = [Image.fromarray(np.asarray(frame, np.uint8)).convert("RGB") for frame in episode.env_states]
    write_gif(pictures, path, 200)


def picture_of(figure: Any) -> Any:
    """What a figure shows, as a picture of 64 colours."""
    from PIL import Image

    with io.BytesIO() as file:
        figure.savefig(file, format="png")
        return Image.open(file).convert("RGB").quantize(64)


def write_gif(pictures: Sequence[Any], path: Path, milliseconds: int) -> None:
    """Write pictures, shown for ``milliseconds`` each, as a GIF that plays again and again."""
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0)


def expand_smax(env: Any, episode: Episode) -> list[tuple[None, Any, dict[str, Any]]]:
    """The underlying game's states after every simulation step, preceded by the first state of the episode.

    Each is (None, state, attacks by unit), the form that SMAX draws.
    """
    expand = jax.jit(lambda key, state, actions: env.step_env(key, state, actions, True))
    frames: list[tuple[None, Any, dict[str, Any]]] = []
    for key, env_state, action in zip(episode.keys, episode.env_states, episode.actions, strict=False):
        actions = {agent: action[index] for index, agent in enumerate(env.agents)}
        states = jax.device_get(expand(key, env_state, actions))
        simulated = [jax.tree.map(lambda leaf, at=at: leaf[at], states) for at in range(len(states.unit_alive))]
        attacks = dict(zip(env.all_agents, simulated[-1].prev_attack_actions, strict=True))
        if not frames:
            frames.append((None, jax.device_get(env_state.state), attacks))
        frames.extend((None, state, attacks) for state in simulated)
    return frames


@contextlib.contextmanager
def _no_window() -> Iterator[None]:
    """JaxMARL's visualisers draw with pyplot, which opens windows if it can."""
    from matplotlib import get_backend, pyplot

    before = get_backend()
    pyplot.switch_backend("agg")
    try:
        yield
    finally:
        pyplot.switch_backend(before)
