"""Policies to play with: the best ones of runs, copied to ``experiments/policies`` and played afresh."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from benchmark_play import PLAYED, fresh_episodes
from benchmark_record import find_runs

from qmix_jax.errors import ConfigError, writing
from qmix_jax.results.policies import FORMAT, SUFFIXES, load_policy, save_policy
from qmix_jax.running.devices import set_up

LARGEST = 300_000
"""Bytes of one policy."""
README = """\
# Policies to play with

Written by `python experiments/benchmark.py policies RUN_FOLDER ...`, which copies the best policy of each environment.

```bash
python -m qmix_jax.evaluate policy={example} episodes=1000
python -m qmix_jax.evaluate policy={example} episodes=100 render=battle.gif
```

*In training* is the evaluation by which the policy was chosen, so it is optimistic. *Fresh* are greedy episodes with
another seed, with 95% intervals.

| policy | algorithm, seed | steps | in training | fresh episodes | fresh win rate | fresh return | KB |
|---|---|---|---|---|---|---|---|
{rows}
"""


def ship(runs: Sequence[Path], folder: Path, episodes: int) -> str:
    """Copy the best policies of runs (large ones in float16), play all that were not played yet, and write the table.

    Args:
        runs: folders of runs, or folders above some.
        folder: of the policies.
        episodes: to play with each.

    Returns the table. A policy replaces another of its environment if it wins more in as many fresh episodes.
    Raises :class:`ConfigError` for a folder without runs or policies, and for a policy that is too large.
    """
    set_up()
    with writing("policies", folder):
        folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[Path]] = {}
    for run in find_runs([str(path) for path in runs]) if runs else ():
        for path in best_of(run):
            found.setdefault(name_of(run), []).append(path)
    for name, candidates in found.items():
        _keep_better(folder / name, max(candidates, key=training_score), episodes)
    rows = [_row(path, _played(path.with_suffix(""), episodes)) for path in sorted(folder.glob("*.json"))]
    if not rows:
        raise ConfigError(f"{folder}: no policy; give the folders of runs")
    text = README.format(rows="\n".join(rows), example=min(folder.glob("*.json")).stem)
    (folder / "README.md").write_text(text, encoding="utf-8")
    return text


def name_of(run: Path) -> str:
    """``smax_3s5z`` for a run on ``smax-3s5z``; no dots, since what follows one would be taken for a suffix."""
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return str(summary["env"]).translate(str.maketrans("-/.", "___"))


def best_of(run: Path) -> list[Path]:
    """The policies of a run, without suffix; none of a run that has not ended."""
    found = sorted(run.glob("policies/**/seed_*/*.json")) if (run / "summary.json").is_file() else []
    return [path.with_suffix("") for path in found if path.stem in ("best", "final")]


def training_score(path: Path) -> float:
    """The evaluation in training: win rate, or return where there is none."""
    evaluation = load_policy(path).description["evaluation"]
    return evaluation["return"] if evaluation.get("win_rate") is None else evaluation["win_rate"]


def _keep_better(kept: Path, candidate: Path, episodes: int) -> None:
    policy = load_policy(candidate)
    description = {key: value for key, value in policy.description.items() if key != "format"}
    params = policy.params
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder) / kept.name
        save_policy(new, params, description)
        if _size(new) > LARGEST:
            params = jax.tree.map(lambda x: x.astype(np.float16), params)
            save_policy(new, params, description)
        if _size(new) > LARGEST:
            raise ConfigError(f"{candidate}: in float16 it has more than {LARGEST:,} bytes, the most for one of these")
        fresh = fresh_episodes(new, episodes)
    if kept.with_suffix(".json").is_file():
        before = load_policy(kept).description.get(PLAYED) or fresh_episodes(kept, episodes)
        if _score(before) >= _score(fresh):
            print(f"kept {kept.name}: {_score(before):.3f} against {_score(fresh):.3f} of {candidate}")
            return
    save_policy(kept, params, {**description, "which": candidate.name, PLAYED: fresh})


def _size(path: Path) -> int:
    return sum(path.with_suffix(suffix).stat().st_size for suffix in SUFFIXES)


def _score(fresh: dict[str, Any]) -> float:
    return fresh["return"][0] if fresh["win_rate"] is None else fresh["win_rate"][0]


def _played(path: Path, episodes: int) -> dict[str, Any]:
    """The description of a policy, played if it has not been."""
    policy = load_policy(path)
    if PLAYED not in policy.description:
        description = {key: value for key, value in policy.description.items() if key != "format"}
        save_policy(path, policy.params, {**description, PLAYED: fresh_episodes(path, episodes)})
    return dict(load_policy(path).description)


def _row(path: Path, description: dict[str, Any]) -> str:
    training, fresh = description["evaluation"], description[PLAYED]
    score = training["return"] if training.get("win_rate") is None else training["win_rate"]
    cells = [
        f"`{path.stem}`",
        f"{description['algorithm']}, {description['seed']} ({description.get('which', 'best')})",
        f"{description['env_steps']:,}",
        f"{score:.3f}",
        str(fresh["episodes"]),
        "" if fresh["win_rate"] is None else _interval(fresh["win_rate"]),
        _interval(fresh["return"]),
        str(round(_size(path) / 1000)),
    ]
    assert description["format"] == FORMAT
    return f"| {' | '.join(cells)} |"


def _interval(values: Sequence[float]) -> str:
    return "{:.3f} ({:.3f} to {:.3f})".format(*values)
