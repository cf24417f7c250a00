"""The command line ``python -m qmix_jax.check_env``: does an environment keep the promises that training relies on?"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.markup import escape
from rich.table import Table

from qmix_jax.envs.base import Env
from qmix_jax.envs.build import make_env
from qmix_jax.envs.contract import PROMISES, Finding, check_contract
from qmix_jax.envs.contract.findings import complete
from qmix_jax.envs.contract.start import BrokenPromiseError
from qmix_jax.envs.hosted.team import EnvError
from qmix_jax.errors import ConfigError
from qmix_jax.logging import ConsoleSink
from qmix_jax.running.devices import check_platform, set_up
from qmix_jax.settings.arguments import parse_arguments, run_command, split_options
from qmix_jax.settings.command_line import compose_config
from qmix_jax.settings.reading import parse as parse_config
from qmix_jax.settings.reading import to_container
from qmix_jax.settings.values import number

USAGE = f"""\
qmix_jax: check that an environment keeps the promises that training relies on (qmix_jax.envs.base.Env)

Usage: python -m qmix_jax.check_env env=GROUP [env.KEY=VALUE ...] [episodes=32] [seed=0]

  env=GROUP, env.KEY=VALUE   the environment, chosen as for qmix_jax.train; experiment=NAME works, too
  --config-dir FOLDER        with settings files of your own, as for qmix_jax.train
  episodes=32                episodes of random available actions, played side by side; at least 2
  seed=0                     of these episodes

Checks. Each ends as ok, warning, broken or not_checked (because another check failed):

{"".join(f"  {name:<20}{promise}" + chr(10) for name, promise in PROMISES.items())}
Exit status 0: nothing is broken (there may be warnings); 1: something is; 2: settings that cannot be used.
As name=value lines where standard output is not a terminal. Random play shows only what random play meets.

Examples:

  python -m qmix_jax.check_env env=mpe env.task=simple_spread
  python -m qmix_jax.check_env env=custom env._target_=my_package.my_module.make_env +env.size=5"""

STYLES = {"ok": "green", "warning": "yellow", "broken": "bold red", "not_checked": "dim"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What the command line says; see ``USAGE``."""

    episodes: int = number(2, default=32)
    seed: int = number(0, 2**32 - 1, default=0)


class Report(NamedTuple):
    """What was found about an environment, which is None if it could not be made."""

    env: Env | None
    findings: Sequence[Finding]

    def count(self, result: str) -> int:
        """The number of findings with this result."""
        return sum(finding.result == result for finding in self.findings)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line. Exit status 1 for a broken promise; 2, with one line, for settings that cannot be used."""
    run_command(USAGE, argv, _command)


def _command(arguments: list[str]) -> int:
    settings, env_settings = parse(arguments)
    console = ConsoleSink()
    with console.compiling("checking"):
        found = check(settings, env_settings)
    show(console, found)
    return 1 if found.count("broken") else 0


def parse(arguments: Sequence[str]) -> tuple[Settings, Mapping[str, Any]]:
    """The settings in the arguments, and those of the environment, which are composed as for training.

    Raises :class:`ConfigError`.
    """
    flags = split_options(arguments)
    others = [option for option in flags.options if option not in ("--config-dir", "-cd")]
    settings, overrides = parse_arguments(Settings, [*others, *flags.overrides], groups=("env", "experiment"))
    for argument in overrides:
        if "," in argument.partition("=")[2] and argument.partition("=")[0] in ("env", "experiment"):
            raise ConfigError(f"{argument}: name one; environments are checked one at a time")
    return settings, parse_config(to_container(compose_config(overrides, flags.config_dir))).parts["env"]


def check(settings: Settings, env_settings: Mapping[str, Any]) -> Report:
    """Make the environment twice and check it.

    Raises :class:`ConfigError` for settings that the environment refuses.
    """
    set_up()
    check_platform()
    try:
        env, twin = make_env(env_settings, fit=False), make_env(env_settings, fit=False)
    except BrokenPromiseError as broken:
        return Report(None, complete([broken.finding]))
    if env.hosted is not None:
        try:
            env.hosted.rehearse(settings.episodes, settings.seed)
        except EnvError as error:
            raise ConfigError(f"env: {error}") from error
        return Report(env, [_of_hosted(name) for name in PROMISES])
    time_limit = env_settings.get("time_limit")
    findings = check_contract(env, twin, episodes=settings.episodes, seed=settings.seed, time_limit=time_limit)
    return Report(env, findings)


def _of_hosted(name: str) -> Finding:
    """A hosted environment that could be made has kept these promises in all episodes of random play."""
    kept = ("declared", "obs_type", "avail_actions_type", "state_type", "available", "finite", "episode_limit")
    return Finding(name, "ok") if name in kept else Finding(name, "not_checked", "for environments in JAX only")


def show(console: ConsoleSink, found: Report) -> None:
    """A table on a terminal, lines elsewhere."""
    sizes = describe(found.env)
    counts = {name: found.count(name) for name in STYLES}
    if not console.console.is_terminal or console.console.is_dumb_terminal:
        console.message(" ".join(f"{name}={value}" for name, value in sizes.items()))
        for finding in found.findings:
            console.message(finding_line(finding))
        console.message(" ".join(f"{name}={count}" for name, count in counts.items()))
        return
    title = " ".join(f"{value}" if name == "env" else f"{name}={value}" for name, value in sizes.items())
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=escape(title), title_justify="left")
    for column in ("check", "result", "promise, or what is wrong; what to do"):
        table.add_column(column)
    for check, result, words in found.findings:
        table.add_row(check, result.replace("_", " "), escape(words or PROMISES[check]), style=STYLES[result])
    console.console.print(table)
    console.message(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count))


def describe(env: Env | None) -> Mapping[str, Any]:
    """The environment's name and sizes."""
    if env is None:
        return {"env": "not_made"}
    names = ("num_agents", "num_actions", "obs_size", "state_size", "episode_limit")
    return {"env": env.name, **{name: getattr(env, name) for name in names}}


def finding_line(finding: Finding) -> str:
    """One finding as a ``name=value`` line."""
    return f"{finding.check}={finding.result}" + (f": {finding.words}" if finding.words else "")


if __name__ == "__main__":
    main()
