"""Records of finished runs: what is kept of them in the repository, one small folder for each seed.

A record has ``config.json``, ``summary.json`` (with the command, machine and seconds under ``benchmark``) and a
``metrics.jsonl`` with the evaluations only, so that ``python -m qmix_jax.compare`` reads records as it reads runs. The
final policy is played in fresh episodes.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark_plan import PEERS, VARIANTS, Case, Task, algorithms_of, settings, shown_command, tasks
from benchmark_play import PLAYED, fresh_episodes
from benchmark_runs import ABOUT, RECORDS, is_running, machine, read_json, record_folder

from qmix_jax.envs.smax.scenarios import SCENARIOS
from qmix_jax.errors import ConfigError, writing
from qmix_jax.logging import METRICS_FILE, write_json
from qmix_jax.logging.files import read_rows
from qmix_jax.logging.moved import current_settings
from qmix_jax.results.comparison.records import flat, words
from qmix_jax.running.devices import set_up
from qmix_jax.settings.command_line import compose_config
from qmix_jax.settings.reading import to_container

BOOKKEEPING = ("seed", "num_seeds", "total_env_steps", "run_dir", "resume", "on_nonfinite")
BOOKKEEPING_SECTIONS = ("logger", "devices", "distributed", "checkpoint", "sweep")
"""Settings that do not say what is learned."""
CHOSEN = ("replay.capacity",)
"""Settings that the program chooses where the command line leaves them open."""
WALLED = tuple(name for name, scenario in SCENARIOS.items() if scenario.terrain.walls)
"""The maps on which ``env.terrain`` means something."""
KEPT = {"env_steps": 0, "seconds": 1, "eval_return": 4, "eval_win_rate": 4}
"""Columns of an evaluation that are kept, and their decimals."""


def find_runs(paths: Sequence[str]) -> list[Path]:
    """The folders of runs in and below ``paths``.

    Raises :class:`ConfigError` for a path without any.
    """
    found: dict[Path, None] = {}
    for text in paths:
        here = sorted(path.parent for path in Path(text).rglob("config.json") if "wandb" not in path.parts)
        if not here:
            raise ConfigError(f"{text}: no run here (no config.json)")
        found |= dict.fromkeys(here)
    return list(found)


def record(folder: Path, records: Path = RECORDS, changed: bool = False, tiny: bool = False) -> list[Path]:
    """Record all seeds of a finished run; returns the folders of their records.

    Args:
        folder: of the run.
        records: the folder to write to.
        changed: also where settings differ from the plain command's; the summary says which.
        tiny: of the tiny plan.

    Raises :class:`ConfigError` for a run that is not finished, or not of the benchmark.
    """
    config, summary = read_json(folder / "config.json"), read_json(folder / "summary.json")
    if config is None:
        raise ConfigError(f"{folder}: not the folder of a run (it has no config.json)")
    if summary is None or is_running(folder):
        raise ConfigError(f"{folder}: is not finished (no summary.json, or still running)")
    task, algorithm, differing = identify(config, tiny)
    case = Case(task, algorithm, config["total_env_steps"], config["seed"])
    if not case.is_over(summary):
        raise ConfigError(f"{folder}: ended early, at {summary['env_steps']:,} of {case.steps:,} steps")
    if differing and not changed:
        shown = ", ".join(f"{key}={words(now)} (plain: {words(plain)})" for key, (now, plain) in differing.items())
        raise ConfigError(f"{folder}: not the plain command: {shown}; changed=true records it all the same")
    rows = read_rows(folder / METRICS_FILE)
    written = []
    for place, seed in enumerate(summary["seeds"]):
        case = case._replace(seed=seed)
        own = record_folder(records, case)
        with writing("records", own):
            own.mkdir(parents=True, exist_ok=True)
        about = _about(folder, case, summary, differing)
        write_json(own / "summary.json", {**_of_seed(summary, place), PLAYED: _fresh(folder, seed), "benchmark": about})
        write_json(own / "config.json", {**config, "seed": seed, "num_seeds": 1, "run_dir": None})
        (own / METRICS_FILE).write_text("".join(map(_line, (row for row in rows if row["seed"] == seed))))
        written.append(own)
    return written


def _fresh(folder: Path, seed: int) -> dict[str, Any] | None:
    """The final policy of a seed in fresh episodes; None where the run has kept none, as JaxMARL's programs."""
    policy = folder / "policies" / f"seed_{seed}" / "final"
    if not policy.with_suffix(".json").is_file():
        return None
    set_up()
    return fresh_episodes(policy)


def identify(config: Mapping[str, Any], tiny: bool = False) -> tuple[Task, str, dict[str, tuple[Any, Any]]]:
    """The task and the algorithm of a run, and which settings are not the plain command's: both values of each.

    Raises :class:`ConfigError` where the benchmark has no such task.
    """
    algorithm = config["algorithm"]["name"]
    if algorithm in PEERS:
        name = config["env"]["name"].partition("-")[2]
        if name in tasks():
            return tasks()[name], algorithm, {}
        raise ConfigError(f"{config['env']['name']}: not a task of the benchmark")
    env = config["env"]
    name = env.get("scenario") or env.get("task") or str(env["_target_"]).rpartition(".make_")[2]
    if name not in tasks(tiny):
        raise ConfigError(f"{name}: not a task of the benchmark")
    task = tasks(tiny)[name]
    for variant in (name for name in algorithms_of(task) if name in VARIANTS and VARIANTS[name][0] == algorithm):
        if not (differing := _differing(config, task, variant)):
            return task, variant, differing
    return task, algorithm, _differing(config, task, algorithm)


def _differing(config: Mapping[str, Any], task: Task, algorithm: str) -> dict[str, tuple[Any, Any]]:
    now = _learning(current_settings(config))
    plain = _learning(to_container(compose_config(settings(Case(task, algorithm, config["total_env_steps"], 0)))))
    keys = sorted(now.keys() | plain.keys())
    differing = {key: (now.get(key), plain.get(key)) for key in keys if now.get(key) != plain.get(key)}
    if task.name not in WALLED:
        differing.pop("env.terrain", None)
    return {key: both for key, both in differing.items() if not (key in CHOSEN and both[1] is None)}


def _learning(config: Mapping[str, Any]) -> dict[str, Any]:
    leaves = flat(config)
    return {
        key: value
        for key, value in leaves.items()
        if key not in BOOKKEEPING and key.partition(".")[0] not in BOOKKEEPING_SECTIONS
    }


def _about(
    folder: Path, case: Case, summary: Mapping[str, Any], differing: Mapping[str, tuple[Any, Any]]
) -> dict[str, Any]:
    known = read_json(folder / ABOUT) or {}
    changes = " ".join(f"{key}={words(now)}" for key, (now, _) in differing.items())
    return {
        "map": case.task.name,
        "algorithm": case.algorithm,
        "steps": case.steps,
        "command": f"{shown_command(case)} {changes}".strip(),
        "changed": {key: now for key, (now, _) in differing.items()},
        "commit": summary.get("git_commit"),
        "machine": known.get("machine", f"not written down; recorded on {machine()}"),
        "cores": known.get("cores"),
        "num_seeds": summary["num_seeds"],
        "seconds": summary["compile_seconds"] + summary["train_seconds"],
    }


def _of_seed(summary: Mapping[str, Any], place: int) -> dict[str, Any]:
    """The summary of one seed of a run."""

    def of(values: Any) -> Any:
        return [values[place]] if isinstance(values, list) else values

    own = dict(summary)
    for name in ("evaluation", "best"):
        own[name] = {key: of(values) for key, values in summary[name].items()}
    steps = summary.get("env_steps_per_seed")
    seed = summary["seeds"][place]
    return {
        **own,
        "num_seeds": 1,
        "seeds": [seed],
        **({"env_steps_per_seed": of(steps), "env_steps": steps[place]} if steps else {}),
        "nonfinite": [one for one in summary.get("nonfinite") or [] if one["seed"] == seed],
    }


def _line(row: Mapping[str, Any]) -> str:
    kept = {"epoch": row["epoch"], "seed": row["seed"]}
    for name, digits in KEPT.items():
        value = row.get(name)
        kept[name] = value if value is None else round(value, digits) if digits else int(value)
    return json.dumps(kept) + "\n"
