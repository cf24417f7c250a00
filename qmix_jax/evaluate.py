"""The command line ``python -m qmix_jax.evaluate``: plays the policies that a run has saved."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.table import Table

from qmix_jax.envs.base import Env
from qmix_jax.envs.render import PICTURE_SUFFIXES, TEXT_SUFFIXES, check_suffix
from qmix_jax.errors import ConfigError, writing
from qmix_jax.logging import ConsoleSink, write_json
from qmix_jax.logging.files import check_folder
from qmix_jax.results.confidence import Interval
from qmix_jax.results.explanation.mixers import Mixer, mixer_of
from qmix_jax.results.play import (
    RESULTS,
    Plan,
    Row,
    compile_episodes,
    first_episode,
    play_team,
    report,
    result_line,
    result_rows,
)
from qmix_jax.results.policies import find_policy, shipped_policies
from qmix_jax.results.team import Choice, load_team
from qmix_jax.running.devices import set_up
from qmix_jax.settings.arguments import parse_arguments, run_command
from qmix_jax.settings.values import number

USAGE = """\
qmix_jax: play the policies that a run has saved, every agent acting greedily on its own observation and history

Usage: python -m qmix_jax.evaluate run_dir=FOLDER|policy=NAME [key=value ...]

  run_dir=FOLDER      folder of a run, with policies/seed_*/final.safetensors and .json
  policy=NAME         instead of a run: a policy that comes with qmix_jax, like smax_3m, or a file of a run, like
                      runs/mine/policies/seed_0/best
  episodes=1000       episodes of each policy
  which=final         final: the policy at the end of training; best: the one with the best evaluation in training
  cell=null           of a sweep: whose policies are played; null is the one with the highest rank
  seed=null           training seed whose policy is played; null is every seed of the run
  evaluation_seed=1   of the episodes; training evaluates with evaluation.seed, 0 unless set
  batch=256           most environments played in parallel; the results do not depend on it
  env.KEY=VALUE       change a setting of the environment that the policy was trained in, like env.scenario=3m
  env._target_=PATH   needed for an environment that does not come with qmix_jax: its code will be run (so is, for an
                      agent, agent._target_=PATH, and for a mixer beside explain=, mixer._target_=PATH)
  render=FILE         draw the first episode of the first policy: .gif for SMAX, MPE, jumanji, predator_prey and
                      Python environments that draw themselves, .md .txt .gif .png for the two-step and matrix games
  explain=FOLDER      draw what happens inside in that episode: values of all actions, credit by the mixer, q_tot
                      against the return that came, hidden states; tables of matrix games
  output=FILE.json    write the results as JSON

Prints return, win rate (where the environment has one) and episode length with 95% intervals (Student's t; Wilson's
for the win rate), for every policy and pooled. They are about these policies: the spread between training runs, which
is usually wider, is the spread of the rows. As name=value lines where standard output is not a terminal.

Examples:

  python -m qmix_jax.evaluate run_dir=runs/2025-01-31/12-00-00-qmix-smax
  python -m qmix_jax.evaluate run_dir=runs/2025-01-31/12-00-00-qmix-smax which=best seed=0 render=episode.gif
  python -m qmix_jax.evaluate policy=smax_3m render=battle.gif"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What the command line says; see ``USAGE``."""

    run_dir: str = ""
    policy: str | None = None
    episodes: int = number(1, default=1000)
    which: Literal["final", "best"] = "final"
    cell: int | None = number(0, default=None)
    seed: int | None = number(0, default=None)
    evaluation_seed: int = number(0, 2**32 - 1, default=1)
    batch: int = number(1, default=256)
    render: str | None = None
    explain: str | None = None
    output: str | None = None
    env: dict[str, Any] = dataclasses.field(default_factory=dict)
    agent: dict[str, Any] = dataclasses.field(default_factory=dict)
    mixer: dict[str, Any] = dataclasses.field(default_factory=dict)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line. Exit status 2, with one line on standard error, for settings that cannot be used."""
    run_command(USAGE, argv, lambda arguments: evaluate(parse(arguments)))


def parse(arguments: Sequence[str]) -> Settings:
    """The settings in ``key=value`` arguments.

    Raises :class:`ConfigError`, also for a file to write whose folder is not there.
    """
    settings, _ = parse_arguments(Settings, arguments)
    if not settings.run_dir and settings.policy is None:
        names = ", ".join(shipped_policies())
        raise ConfigError(f"run_dir: missing; give the folder of a run: run_dir=runs/..., or policy=NAME ({names})")
    if settings.policy is not None:
        find_policy(settings.policy)
        for key, none in (("run_dir", ""), ("seed", None), ("cell", None), ("which", "final")):
            if getattr(settings, key) != none:
                raise ConfigError(f"{key}={getattr(settings, key)}: leave it out beside policy={settings.policy}")
    if settings.render is not None:
        check_suffix(Path(settings.render), TEXT_SUFFIXES + PICTURE_SUFFIXES)
    for key, file in (("render", settings.render), ("output", settings.output)):
        if file is not None and not Path(file).parent.is_dir():
            raise ConfigError(f"{key}={file}: there is no folder {Path(file).parent}")
        if file is not None and Path(file).is_dir():
            raise ConfigError(f"{key}={file}: is a folder; give the name of a file in it")
    if settings.explain is not None:
        check_folder("explain", Path(settings.explain))
    return settings


def evaluate(settings: Settings) -> None:
    """Play, print, and write the files that were asked for.

    Raises :class:`ConfigError` for what does not fit together.
    """
    set_up()
    choice = Choice(**{name: getattr(settings, name) for name in Choice._fields})
    team = load_team(choice)
    if settings.render is not None and team.env.render is None:
        raise ConfigError(f"render={settings.render}: {team.env.name} has nothing to draw episodes with; leave it null")
    if settings.render is not None:
        check_suffix(Path(settings.render), team.env.drawn_as)
    if settings.explain is not None and team.env.hosted is not None:
        raise ConfigError(
            f"explain={settings.explain}: {team.env.name} runs in worker processes; only JAX environments"
        )
    mixer = _mixer(settings, choice, team.env)
    console = ConsoleSink()
    plan = Plan(settings.episodes, settings.batch, settings.evaluation_seed)
    with console.compiling():
        run = compile_episodes(team, plan)
    with console.compiling("playing"):
        played = play_team(team, run, plan)
    rows = result_rows(played, team.env.has_win_rate)
    named = f"policy {settings.policy}" if settings.policy else f"{settings.which} policies"
    _print(console, f"{named} on {team.env.name}: {settings.episodes} greedy episodes each", rows)
    if settings.output is not None:
        about = (
            {"policy": settings.policy} if settings.policy else {"run_dir": settings.run_dir, "which": settings.which}
        )
        with writing("output", settings.output):
            write_json(Path(settings.output), {**about, **report(team, plan, rows)})
        console.message(f"output={settings.output}")
    if settings.explain is not None:
        from qmix_jax.results.explanation.write import explain  # drawing takes a second to import

        for file in explain(choice, team, plan, mixer, Path(settings.explain)):
            console.message(f"explain={file}")
    if settings.render is not None and team.env.render is not None:
        with writing("render", settings.render):
            team.env.render(first_episode(team, plan), Path(settings.render))
        console.message(f"render={settings.render}")


def _mixer(settings: Settings, choice: Choice, env: Env) -> Mixer | None:
    if settings.explain is not None:
        return mixer_of(choice, env)
    if settings.mixer:
        raise ConfigError("mixer: policies act without it; give it beside explain=FOLDER only")
    return None


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


if __name__ == "__main__":
    main()
