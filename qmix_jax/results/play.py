"""The command line ``python -m qmix_jax.evaluate``: plays the policies that a run has saved.

Each agent acts on its own observation and history; no mixer is loaded. What is in a run's folder is data: nothing in
it is executed, and it can only name environments and agents that this package comes with.
"""

import dataclasses
import difflib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key
from rich import box
from rich.table import Table

from qmix_jax.acting.explore import masked_argmax
from qmix_jax.acting.greedy_episodes import Episodes, greedy_episodes
from qmix_jax.envs.base import Env, Episode
from qmix_jax.envs.build import make_env
from qmix_jax.envs.render import PICTURE_SUFFIXES, TEXT_SUFFIXES, check_suffix
from qmix_jax.errors import ConfigError
from qmix_jax.logging import ConsoleSink, write_json
from qmix_jax.networks.agents import NO_ACTION, AnyAgent
from qmix_jax.results.policies import check_policy, load_policy
from qmix_jax.running.devices import set_up
from qmix_jax.settings.arguments import parse_arguments, run_command
from qmix_jax.settings.build import build_agent
from qmix_jax.settings.command_line import shipped_targets
from qmix_jax.settings.values import number
from qmix_jax.types import EnvState, Outcome, TimeStep

USAGE = """\
qmix_jax: play the policies that a run has saved, every agent acting greedily on its own observation and history

Usage: python -m qmix_jax.evaluate run_dir=FOLDER [key=value ...]

  run_dir=FOLDER      folder of a run, with policies/seed_*/final.safetensors and .json
  episodes=1000       episodes of each policy
  which=final         final: the policy at the end of training; best: the one with the best evaluation in training
  cell=null           of a sweep: whose policies are played; null is the one with the highest rank
  seed=null           training seed whose policy is played; null is every seed of the run
  evaluation_seed=1   of the episodes; training evaluates with evaluation.seed, 0 unless set
  batch=256           most environments played in parallel; episodes are counted alike whatever it is
  env.KEY=VALUE       change a setting of the environment that the policy was trained in, like env.scenario=3m
  env._target_=PATH   needed for an environment that does not come with qmix_jax: its code will be run (so is, for an
                      agent, agent._target_=PATH)
  render=FILE         draw the first episode of the first policy: .gif for SMAX and MPE, .md .txt .gif .png for the
                      two-step and matrix games
  output=FILE.json    write the results as JSON

Prints return, win rate (where the environment has one) and episode length with 95% intervals (Student's t; Wilson's
for the win rate), for every policy and pooled. They are about these policies: the spread between training runs, which
is usually wider, is the spread of the rows. As name=value lines where standard output is not a terminal.

Examples:

  python -m qmix_jax.evaluate run_dir=runs/2025-01-31/12-00-00-qmix-smax
  python -m qmix_jax.evaluate run_dir=runs/2025-01-31/12-00-00-qmix-smax which=best seed=0 render=episode.gif"""

CONFIDENCE = 0.95
RESULTS = ("return", "win_rate", "episode_length")
Row = Mapping[str, Any]
"""``seed``, ``episodes`` and an :class:`Interval`, or None, for each of ``RESULTS``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What the command line says; see ``USAGE``."""

    run_dir: str = ""
    episodes: int = number(1, default=1000)
    which: Literal["final", "best"] = "final"
    cell: int | None = number(0, default=None)
    seed: int | None = number(0, default=None)
    evaluation_seed: int = number(0, 2**32 - 1, default=1)
    batch: int = number(1, default=256)
    render: str | None = None
    output: str | None = None
    env: dict[str, Any] = dataclasses.field(default_factory=dict)
    agent: dict[str, Any] = dataclasses.field(default_factory=dict)


class Interval(NamedTuple):
    """A mean and its 95% confidence interval, NaN where one episode is all there is."""

    mean: float
    low: float
    high: float


class Team(NamedTuple):
    """The policies of one run, and what they have in common."""

    env: Env
    agent: AnyAgent
    env_settings: Mapping[str, Any]
    policies: Mapping[int, Any]
    """Parameters by training seed."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line. Exit status 2, with one line on standard error, for settings that cannot be used."""
    run_command(USAGE, argv, lambda arguments: evaluate(parse(arguments)))


def parse(arguments: Sequence[str]) -> Settings:
    """The settings in ``key=value`` arguments.

    Raises :class:`ConfigError`, also for a file to write whose folder is not there.
    """
    settings, _ = parse_arguments(Settings, arguments)
    if not settings.run_dir:
        raise ConfigError("run_dir: missing; give the folder of a run: run_dir=runs/...")
    if settings.render is not None:
        check_suffix(Path(settings.render), TEXT_SUFFIXES + PICTURE_SUFFIXES)
    for key, file in (("render", settings.render), ("output", settings.output)):
        if file is not None and not Path(file).parent.is_dir():
            raise ConfigError(f"{key}={file}: there is no folder {Path(file).parent}")
    return settings


def evaluate(settings: Settings) -> None:
    """Play, report, and write the files that were asked for.

    Raises :class:`ConfigError` for what does not fit together.
    """
    set_up()
    team = load_team(settings)
    render = team.env.render
    if settings.render is not None and render is None:
        raise ConfigError(f"render={settings.render}: {team.env.name} has nothing to draw episodes with; leave it null")
    console = ConsoleSink()
    size = batch_size(settings.episodes, settings.batch)
    first_seed, first_params = next(iter(team.policies.items()))
    with console.compiling():
        run = _greedy_episodes.lower(team.env, team.agent, first_params, jax.random.key(0), size).compile()
    with console.compiling("playing"):
        played = {
            seed: play(run, params, episode_keys(settings, seed, size), settings.episodes)
            for seed, params in team.policies.items()
        }
    rows = result_rows(played, team.env.has_win_rate)
    _print(console, f"{settings.which} policies on {team.env.name}: {settings.episodes} greedy episodes each", rows)
    if settings.output is not None:
        write_json(Path(settings.output), report(settings, team, rows))
        console.message(f"output={settings.output}")
    if settings.render is not None and render is not None:
        key = episode_keys(settings, first_seed, size)[0]
        render(record(team.env, team.agent, first_params, key, size), Path(settings.render))
        console.message(f"render={settings.render}")


def load_team(settings: Settings) -> Team:
    """The chosen policies of a run, and the environment and network that they are for.

    Raises :class:`ConfigError` unless the files are policies of one kind whose sizes and parameters fit what is built.
    """
    paths = _policy_paths(settings)
    policies = {seed: load_policy(path) for seed, path in paths.items()}
    first = next(iter(policies))
    for seed, policy in policies.items():
        for name in ("env", "agent"):
            if policy.description.get(name) != policies[first].description.get(name):
                raise ConfigError(f"{paths[seed]}.json: {name} is not that of seed {first}; play one with seed=...")
    env_settings = _part("env", policies[first].description, settings.env, paths[first])
    agent_settings = _part("agent", policies[first].description, settings.agent, paths[first])
    env = make_env(env_settings)
    agent = build_agent(agent_settings, env)
    for seed, policy in policies.items():
        check_policy(paths[seed], policy, agent, env)
    return Team(env, agent, env_settings, {seed: policy.params for seed, policy in policies.items()})


def batch_size(episodes: int, batch: int) -> int:
    """The number of environments in each of the fewest equal batches that hold ``episodes``."""
    return math.ceil(episodes / math.ceil(episodes / batch))


def episode_keys(settings: Settings, seed: int, size: int) -> Key[Array, " batches"]:
    """One key a batch. They differ between training seeds, so that pooled episodes are independent."""
    key = jax.random.fold_in(jax.random.key(settings.evaluation_seed), seed)
    return jax.random.split(key, math.ceil(settings.episodes / size))


def play(
    run: Callable[[Any, Key[Array, ""]], Episodes], params: Any, keys: Key[Array, " batches"], episodes: int
) -> Episodes:
    """The first ``episodes`` of the batches that ``run(params, key)`` plays."""
    return _join([jax.device_get(run(params, key)) for key in keys], episodes)


def record(env: Env, agent: AnyAgent, agent_params: Any, key: Key[Array, ""], episodes: int) -> Episode:
    """The first of the episodes that ``greedy_episodes`` plays with these arguments, transition by transition."""
    reset_key, step_key = jax.random.split(key)
    env_state, step = jax.jit(env.reset)(jax.random.split(reset_key, episodes)[0])
    hidden = agent.initial_hidden()
    action = jnp.full(env.num_agents, NO_ACTION, jnp.int32)
    env_states, keys, actions, rewards = [env_state], [], [], []
    for time in range(env.episode_limit):
        env_key = jax.random.split(jax.random.fold_in(step_key, time), episodes)[0]
        hidden, action, env_state, step, outcome = _greedy_step(
            env, agent, agent_params, env_key, hidden, action, env_state, step
        )
        env_states.append(env_state)
        keys.append(env_key)
        actions.append(np.asarray(action))
        rewards.append(float(outcome.reward))
        if outcome.last:
            break
    return Episode(env_states=env_states, keys=keys, actions=actions, rewards=rewards)


def mean_interval(values: np.ndarray) -> Interval:
    """Student's t interval of the mean of independent values."""
    from scipy import stats  # Not at the top: it takes a second.

    values = np.asarray(values, np.float64)
    mean = float(values.mean())
    if values.size < 2:
        return Interval(mean, math.nan, math.nan)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, values.size - 1) * values.std(ddof=1) / math.sqrt(values.size))
    return Interval(mean, mean - half, mean + half)


def rate_interval(happened: np.ndarray) -> Interval:
    """Wilson's score interval of a rate, which stays within 0 and 1 and does not shrink to nothing there."""
    from scipy import stats

    count, total = int(np.sum(happened)), int(np.size(happened))
    interval = stats.binomtest(count, total).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(count / total, float(interval.low), float(interval.high))


def result_rows(played: Mapping[int, Episodes], has_win_rate: bool) -> list[Row]:
    """One row per policy and one of all their episodes together."""
    return [
        {
            "seed": seed,
            "episodes": len(episodes.won),
            "return": mean_interval(np.asarray(episodes.episode_return)),
            "win_rate": rate_interval(np.asarray(episodes.won)) if has_win_rate else None,
            "episode_length": mean_interval(np.asarray(episodes.episode_length)),
        }
        for seed, episodes in [*played.items(), ("pooled", _join(list(played.values())))]
    ]


def report(settings: Settings, team: Team, rows: Sequence[Row]) -> dict[str, Any]:
    """What ``output=`` holds."""
    content = [
        {name: value._asdict() if isinstance(value, Interval) else value for name, value in row.items()} for row in rows
    ]
    return {
        "run_dir": settings.run_dir,
        "which": settings.which,
        "env": team.env.name,
        "env_settings": team.env_settings,
        "episodes": settings.episodes,
        "evaluation_seed": settings.evaluation_seed,
        "confidence": CONFIDENCE,
        "policies": content[:-1],
        "pooled": content[-1],
    }


def result_line(row: Row) -> str:
    """One row as ``name=value`` pairs, without what is not available."""
    pairs = {"seed": str(row["seed"]), "episodes": str(row["episodes"])}
    for name in RESULTS:
        if row[name] is not None:
            mean, low, high = row[name]
            numbers = {name: mean, f"{name}_low": low, f"{name}_high": high}
            pairs |= {key: f"{value:.6g}" for key, value in numbers.items() if not math.isnan(value)}
    return " ".join(f"{name}={value}" for name, value in pairs.items())


def _join(parts: Sequence[Episodes], episodes: int | None = None) -> Episodes:
    return jax.tree.map(lambda *values: np.concatenate(values)[:episodes], *parts)


def _print(console: ConsoleSink, title: str, rows: Sequence[Row]) -> None:
    if not console.console.is_terminal or console.console.is_dumb_terminal:
        for row in rows:
            console.message(result_line(row))
        return
    shown = [name for name in RESULTS if rows[0][name] is not None]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 1), title=title, title_justify="left")
    for name in ("seed", *(f"{name.replace('_', ' ')} [95%]" for name in shown)):
        table.add_column(name.replace("[", r"\["), justify="right")
    for row in rows:
        cells = (_cell(row[name], 3 if name == "win_rate" else 2) for name in shown)
        table.add_row(str(row["seed"]), *cells, style="bold" if row is rows[-1] else "", end_section=row is rows[-2])
    console.console.print(table)


def _cell(interval: Interval, digits: int) -> str:
    mean, low, high = interval
    return f"{mean:.{digits}f}" + ("" if math.isnan(low) else rf" \[{low:.{digits}f}, {high:.{digits}f}]")


_greedy_episodes = jax.jit(greedy_episodes, static_argnums=(0, 1, 4))


def _step(
    env: Env,
    agent: AnyAgent,
    agent_params: Any,
    key: Key[Array, ""],
    hidden: Float[Array, "N H"],
    last_action: Int[Array, " N"],
    env_state: EnvState,
    step: TimeStep,
) -> tuple[Float[Array, "N H"], Int[Array, " N"], EnvState, TimeStep, Outcome]:
    hidden, q = cast(Any, agent.apply(agent_params, hidden, step.obs, last_action))
    action = masked_argmax(q, step.avail_actions).astype(jnp.int32)
    return hidden, action, *env.step(key, env_state, action)


_greedy_step = jax.jit(_step, static_argnums=(0, 1))


def _policy_paths(settings: Settings) -> dict[int, Path]:
    """The chosen policy files, without suffix, by training seed."""
    folder = Path(settings.run_dir)
    if not folder.is_dir():
        raise ConfigError(f"run_dir={settings.run_dir}: no such folder{_sibling(folder)}")
    policies = _policies_folder(settings)
    matches = ((re.fullmatch(r"seed_(\d+)", path.name), path) for path in policies.glob("seed_*"))
    found = sorted((int(match[1]), path / settings.which) for match, path in matches if match)
    if not found:
        raise ConfigError(f"run_dir={settings.run_dir}: holds no policies (policies/seed_*/{settings.which}.json)")
    paths = dict(found)
    if settings.seed is None:
        return paths
    if settings.seed not in paths:
        wanted = settings.seed
        near = min(paths, key=lambda seed: abs(seed - wanted))
        raise ConfigError(
            f"seed={settings.seed}: not in this run; did you mean {near}? (choices: {', '.join(map(str, paths))})"
        )
    return {settings.seed: paths[settings.seed]}


def _policies_folder(settings: Settings) -> Path:
    """Where the policies are; of a sweep, those of the chosen cell or of the best one."""
    folder = Path(settings.run_dir) / "policies"
    cells = sorted(int(path.name[5:]) for path in folder.glob("cell_*") if path.name[5:].isdigit())
    if settings.cell is not None and settings.cell not in cells:
        there = f"choices: {', '.join(map(str, cells))}" if cells else "the run is no sweep"
        raise ConfigError(f"cell={settings.cell}: not in this run ({there})")
    if not cells:
        return folder
    return folder / f"cell_{_best_cell(settings, cells) if settings.cell is None else settings.cell}"


def _best_cell(settings: Settings, cells: Sequence[int]) -> int:
    path = Path(settings.run_dir) / "summary.json"
    try:
        ranks = {cell["cell"]: cell["rank"] for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]}
        return min(cells, key=lambda cell: ranks[cell])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{path}: does not say which cell is the best; choose one with cell=...") from error


def _sibling(folder: Path) -> str:
    """A hint at the folder beside it with the most similar name."""
    others = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
    near = difflib.get_close_matches(folder.name, others, n=1)
    return f"; did you mean {folder.parent / near[0]}?" if near else ""


def _part(name: str, description: Mapping[str, Any], overrides: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """A section of the saved settings with what the command line changes.

    A saved ``_target_`` is followed only to what this package's own configuration builds: the import path of anything
    else, and many within the package, would run code of the file's choice.
    """
    saved = description.get(name)
    if not isinstance(saved, Mapping):
        raise ConfigError(f"{path}.json: has no settings under {name!r}")
    target = saved.get("_target_")
    if overrides.get("_target_") is None:
        if not (isinstance(target, str) and target.startswith("qmix_jax.") and target in shipped_targets(name)):
            raise ConfigError(
                f"{path}.json: {name}._target_={target!r} does not come with qmix_jax; if you trust it, name it on the "
                f"command line: {name}._target_={target}"
            )
    elif overrides["_target_"] != target:
        return overrides  # The saved settings were another's.
    return {**saved, **overrides}
