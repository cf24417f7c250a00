"""Read the folders of runs: ``config.json``, ``metrics.jsonl`` and, once a run has ended, ``summary.json``."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qmix_jax.errors import ConfigError
from qmix_jax.logging.files import CONFIG_FILE, METRICS_FILE, read_rows
from qmix_jax.logging.moved import current_settings
from qmix_jax.results.comparison.peers import is_peer, read_peer
from qmix_jax.results.comparison.records import Seed, Source, State, flat
from qmix_jax.settings.cells import KEYS, Lane, cells
from qmix_jax.settings.reading import parse

NOT_SEARCHED = {"checkpoints", "policies", "wandb"}


def find(paths: Sequence[str]) -> list[Path]:
    """The runs in ``paths``, each a run's folder, a folder that contains some, or a file of another project.

    Links to folders are followed.

    Raises :class:`ConfigError` for a path that does not exist or contains no run.
    """
    found: dict[str, Path] = {}
    for text in paths:
        path = Path(text)
        if not os.path.exists(path):  # noqa: PTH110 - unlike Path.exists, also of a name that is too long
            raise ConfigError(f"{text}: no such file or folder")
        here = [path] if path.is_file() else list(_below(path))
        if not here:
            raise ConfigError(f"{text}: no runs found (no {METRICS_FILE} or {CONFIG_FILE} in it or in folders below)")
        for run in here:
            found.setdefault(os.path.realpath(run), run)  # a run counts once, whatever its paths are
    return list(found.values())


def _below(folder: Path) -> Iterable[Path]:
    seen = set()  # links may lead back
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        if METRICS_FILE in files or CONFIG_FILE in files:
            folders.clear()
            yield Path(parent)
        elif "marl_eval.json" in files:
            yield Path(parent) / "marl_eval.json"
        yield from (Path(parent) / name for name in sorted(files) if name.endswith(f"-{METRICS_FILE}"))
        folders[:] = sorted(set(folders) - NOT_SEARCHED)


def read(paths: Iterable[Path], metrics: Iterable[str], skip_damaged: bool) -> tuple[list[Source], list[str]]:
    """Read every run.

    Args:
        paths: what :func:`find` found.
        metrics: the metrics to keep.
        skip_damaged: leave out what cannot be read.

    Returns the runs, and one sentence for each that was left out.

    Raises :class:`ConfigError` for one that cannot be read, unless ``skip_damaged``.
    """
    metrics = tuple(metrics)
    sources, left_out = [], []
    for path in paths:
        try:
            sources.append(read_peer(path, metrics) if is_peer(path) else read_run(path, metrics))
        except ConfigError as error:
            if not skip_damaged:
                raise ConfigError(f"{error}; skip_damaged=true compares the others") from error
            left_out.append(f"left out: {error}")
    return _with_names(sources), left_out


def read_run(path: Path, metrics: Sequence[str]) -> Source:
    """One run from its folder, or from its metrics file (``qmix-metrics.jsonl`` goes with ``qmix-config.json``)."""
    metrics_path = path / METRICS_FILE if path.is_dir() else path
    prefix = metrics_path.name.removesuffix(METRICS_FILE)
    container = _json(metrics_path.with_name(f"{prefix}{CONFIG_FILE}"))
    if container is None:
        raise ConfigError(f"{metrics_path.with_name(f'{prefix}{CONFIG_FILE}')}: missing")
    container = current_settings(container)
    summary = _json(metrics_path.with_name(f"{prefix}summary.json"))
    try:
        rows = read_rows(metrics_path)
    except OSError as error:
        raise ConfigError(f"{metrics_path}: cannot be read: {error.strerror}") from error
    by_lane: dict[tuple[int | None, int], list[dict[str, Any]]] = {}
    for row in rows:
        by_lane.setdefault((row.get("cell"), row["seed"]), []).append(row)
    own, notes = _settings(container, summary, {cell for cell, _ in by_lane}, path)
    env = str((summary or {}).get("env") or "")
    try:
        seeds = [_seed(path, env, own[cell], cell, seed, rows, metrics) for (cell, seed), rows in by_lane.items()]
    except (TypeError, ValueError, KeyError) as error:
        raise ConfigError(f"{metrics_path}: is damaged: {type(error).__name__} {error}") from error
    state: State = "unfinished" if summary is None else "interrupted" if summary.get("interrupted") else "finished"
    notes += _notes(path, container, summary, {seed for _, seed in by_lane})
    return Source(str(path), "qmix_jax", seeds, state, notes, (summary or {}).get("git_commit"))


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read: {' '.join(str(error).split())[:100]}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: is damaged: not an object of JSON")
    return found


def _seed(
    path: Path,
    env: str,
    settings: Mapping[str, Any],
    cell: int | None,
    seed: int,
    rows: Sequence[Mapping[str, Any]],
    metrics: Sequence[str],
) -> Seed:
    def column(name: str) -> np.ndarray:
        return np.array([np.nan if row.get(name) is None else row[name] for row in rows], np.float64)

    steps = column("env_steps")
    order = np.argsort(steps, kind="stable")
    return Seed(
        source=str(path),
        name=Lane(cell, seed).name,
        env=env,
        settings=settings,
        env_steps=steps[order],
        seconds=column("seconds")[order],
        metrics={name: column(name)[order] for name in metrics},
    )


def _settings(
    container: Mapping[str, Any], summary: Mapping[str, Any] | None, numbers: set[int | None], path: Path
) -> tuple[dict[int | None, dict[str, Any]], list[str]]:
    """The settings of every cell (None: the run is not a sweep)."""
    whole = flat(container)
    if numbers <= {None}:
        return {None: whole}, []
    if summary is not None and summary.get("cells"):
        values: dict[int | None, Any] = {cell["cell"]: cell["values"] for cell in summary["cells"]}
    else:
        try:
            values = {index: cell.values for index, cell in enumerate(cells(container, parse(container)))}
        except (ConfigError, LookupError) as error:
            raise ConfigError(f"{path}: the cells of this sweep cannot be told: {error}") from error
    missing = sorted(number for number in numbers if number not in values and number is not None)
    if missing or None in numbers:
        raise ConfigError(f"{path}: {METRICS_FILE} has cells that the settings do not have: {missing}")
    own: dict[int | None, dict[str, Any]] = {
        number: whole | {KEYS[key]: value for key, value in values[number].items()} for number in numbers
    }
    return own, [f"{path}: a sweep of {len(values)} cells, each a setting of its own"]


def _notes(path: Path, container: Mapping[str, Any], summary: Mapping[str, Any] | None, found: set[int]) -> list[str]:
    notes = []
    if not found:
        return [f"{path}: no evaluation yet"]
    first, count = container.get("seed", 0), container.get("num_seeds", 1)
    missing = sorted(set(range(first, first + count)) - found)
    if missing:
        notes.append(f"{path}: {_listed('seed', missing)} of {count} without an evaluation")
    if summary is None:
        notes.append(f"{path}: no summary.json; the run is still going, or was killed")
    elif summary.get("interrupted"):
        notes.append(f"{path}: was interrupted at {summary.get('env_steps'):,} steps a seed")
    frozen = sorted({lane["seed"] for lane in (summary or {}).get("nonfinite") or []})
    if frozen:
        notes.append(f"{path}: {_listed('seed', frozen)} stopped learning: numbers were not finite")
    return notes


def _listed(noun: str, numbers: Sequence[int]) -> str:
    return f"{noun}{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _with_names(sources: list[Source]) -> list[Source]:
    """Name the environments of runs without a summary: like a run with the same settings, or by their settings."""
    known = {}
    for seed in (seed for source in sources for seed in source.seeds):
        if seed.env:
            known[_env_settings(seed)] = seed.env
    return [
        source._replace(
            seeds=[
                seed if seed.env else seed._replace(env=known.get(_env_settings(seed)) or _guess(seed))
                for seed in source.seeds
            ]
        )
        for source in sources
    ]


def _env_settings(seed: Seed) -> str:
    return repr(sorted((key, repr(value)) for key, value in seed.settings.items() if key.startswith("env.")))


def _guess(seed: Seed) -> str:
    name = str(seed.settings.get("env._target_")).rpartition(".")[2].removeprefix("make_")
    which = next((seed.settings[f"env.{key}"] for key in ("scenario", "task") if f"env.{key}" in seed.settings), None)
    if which is not None:
        return f"{name}-{which}"
    return str(seed.settings.get("env.id", name))
