"""A run's folder as an object: its settings, its metrics, its policies."""

import html
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from qmix_jax.envs.base import Env
from qmix_jax.envs.build import as_env
from qmix_jax.errors import ConfigError, unknown_choice
from qmix_jax.logging.files import CONFIG_FILE, METRICS_FILE, near_run, read_rows
from qmix_jax.logging.moved import current_settings
from qmix_jax.settings.cells import Lane

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from qmix_jax.results.acting_team import ActingTeam


def open_run(path: Path | str, *, env: object = None) -> "OpenedRun":
    """Open the folder of a run, finished or not.

    Args:
        path: the folder.
        env: the environment of a run that was trained in an object that :func:`qmix_jax.run` was given; needed only
            to play its policies.

    Raises :class:`ConfigError` where there is no run, or one that cannot be read.
    """
    return OpenedRun(Path(path), None if env is None else as_env(env))


class OpenedRun:
    """The files in a run's folder, read on demand.

    A run that is still running is read up to its current state; open it again to see more.
    """

    def __init__(self, path: Path, env: Env | None = None) -> None:
        self.path = path
        self._env = env
        settings = self._json(CONFIG_FILE)
        if settings is None:
            raise ConfigError(f"{path}: not the folder of a run (it has no {CONFIG_FILE}){near_run(path)}")
        self.settings: dict[str, Any] = current_settings(settings)
        """The resolved configuration, as nested dicts."""
        self.summary: dict[str, Any] = self._json("summary.json") or {}
        """The content of ``summary.json``; empty until the run ends."""

    @property
    def name(self) -> str:
        """``qmix on smax-3m``."""
        algorithm = self.settings.get("algorithm", {}).get("name", "")
        return f"{algorithm} on {self.summary['env']}" if "env" in self.summary else f"{algorithm} in {self.path.name}"

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``."""
        return read_rows(self.path / METRICS_FILE)

    @property
    def lanes(self) -> list[tuple[int | None, int]]:
        """(cell, seed) of each row of the arrays in :attr:`metrics`; the cell is None if the run is not a sweep."""
        return list(dict.fromkeys((row.get("cell"), row["seed"]) for row in self.rows))

    @property
    def seeds(self) -> list[int]:
        """The seeds that have been evaluated."""
        return list(dict.fromkeys(seed for _, seed in self.lanes))

    @cached_property
    def metrics(self) -> dict[str, np.ndarray]:
        """Every metric as an array ``[seeds, evaluations]`` (of a sweep ``[cells x seeds, evaluations]``).

        NaN if a value is not available, and after the end of a seed that was stopped early.
        """
        places = {lane: place for place, lane in enumerate(self.lanes)}
        epochs = sorted({row["epoch"] for row in self.rows})
        columns = {epoch: column for column, epoch in enumerate(epochs)}
        names = dict.fromkeys(name for row in self.rows for name in row if name not in ("epoch", "cell", "seed"))
        found = {name: np.full((len(places), len(epochs)), np.nan) for name in names}
        for row in self.rows:
            place = places[row.get("cell"), row["seed"]], columns[row["epoch"]]
            for name in names:
                value = row.get(name)
                found[name][place] = np.nan if value is None else value
        return found

    def table(self) -> Any:
        """The evaluations as a pandas table, one row each.

        Raises :class:`ConfigError` if pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ConfigError(
                "table() needs pandas: pip install pandas; run.metrics holds the same as arrays"
            ) from error
        return pandas.DataFrame(self.rows)

    def plot(self, metrics: Sequence[str] = ("eval_return", "eval_win_rate")) -> "Figure":
        """Learning curves of all seeds; a notebook shows the figure, ``.savefig(path)`` writes it.

        Raises :class:`ConfigError` for a metric that the run does not have.
        """
        from qmix_jax.results.curves import draw_curves  # Importing it takes a second.

        metrics = [metrics] if isinstance(metrics, str) else list(metrics)
        for metric in metrics:
            if self.rows and metric not in self.metrics:
                raise unknown_choice("metrics", metric, self.metrics)
        return draw_curves(self.rows, title=self.name, metrics=metrics)

    def policy(
        self,
        seed: int | None = None,
        which: Literal["final", "best"] = "final",
        *,
        cell: int | None = None,
        env: object = None,
        agent: Mapping[str, Any] | None = None,
    ) -> "ActingTeam":
        """A saved policy, ready to act.

        Args:
            seed: the training seed; None is the first.
            which: ``final``, or ``best`` by its evaluations in training.
            cell: of a sweep; None is the one with the highest rank.
            env: settings of its environment to change, or an environment to play in. A run in code of yours needs its
                name: ``{"name": "my_package.pasture:make"}``, ``{"_target_": "my_package.make_env"}``.
            agent: settings of its network to change; ``{"_target_": ...}`` for a network of yours.

        Raises :class:`ConfigError` where there is no such policy, or it does not fit.
        """
        from qmix_jax.results.acting_team import load_acting_team  # Imports JAX.
        from qmix_jax.results.team import Choice

        if which not in ("final", "best"):
            raise unknown_choice("which", which, ("final", "best"))
        changes = env if isinstance(env, Mapping) else {}
        given = self._env if env is None else None if changes else as_env(env)
        return load_acting_team(Choice(str(self.path), which, seed, cell, changes, agent or {}), given)

    def _json(self, name: str) -> dict[str, Any] | None:
        path = self.path / name
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise ConfigError(f"{path}: cannot be read: {' '.join(str(error).split())[:100]}") from error

    def _latest(self) -> list[tuple[str, dict[str, Any]]]:
        """The latest evaluation of each seed."""
        return list({Lane(row.get("cell"), row["seed"]).words: row for row in self.rows}.items())

    def __repr__(self) -> str:
        latest = self._latest()
        steps = max((row["env_steps"] for _, row in latest), default=0)
        state = "unfinished" if not self.summary else "interrupted" if self.summary.get("interrupted") else "finished"
        values = [row["eval_return"] for _, row in latest if row.get("eval_return") is not None]
        told = f", greedy return {np.mean(values):.3g}" if values else ""
        lanes = {(row.get("cell"), row["seed"]) for _, row in latest}
        num_cells, num_seeds = (len({lane[place] for lane in lanes}) for place in (0, 1))
        cells = f"{num_cells} cells of " if num_cells > 1 else ""
        return f"<{self.name}: {cells}{num_seeds} seed(s), {steps:,} steps each, {state}{told}; {self.path}>"

    def _repr_html_(self) -> str:
        shown = ("env_steps", "eval_return", "eval_win_rate", "eval_episode_length")
        head = "".join(f"<th>{name.removeprefix('eval_').replace('_', ' ')}</th>" for name in ("", *shown))
        body = "".join(
            f"<tr><td>{name}</td>" + "".join(f"<td>{_number(row.get(key))}</td>" for key in shown) + "</tr>"
            for name, row in self._latest()
        )
        return f"<p>{html.escape(repr(self))}</p><table><tr>{head}</tr>{body}</table>"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
