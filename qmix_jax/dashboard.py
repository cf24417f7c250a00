"""The command line ``python -m qmix_jax.dashboard``: makes a W&B report of a project's runs."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from qmix_jax.errors import ConfigError, writing
from qmix_jax.logging import write_json
from qmix_jax.logging.dashboard import build_report, is_logged_in, specification
from qmix_jax.settings.arguments import parse_arguments, run_command

USAGE = """\
qmix_jax: make a W&B report of a project's runs: results with intervals, every seed, learning, speed, sweeps, videos

Usage: python -m qmix_jax.dashboard [key=value ...]

  project=qmix_jax    W&B's project, as logger.wandb.project
  entity=null         whose project; null is W&B's default for the account
  group=null          only the runs of one group, as logger.wandb.group (a run's folder, unless set)
  draft=true          a draft, seen by you only
  out=dashboard.json  what the report shows, as JSON; written with and without an account

Needs the extra dashboard, and an account (`wandb login`). Prints the report's address.

Examples:

  python -m qmix_jax.dashboard project=qmix_jax
  python -m qmix_jax.dashboard entity=my-team group=smax_3m draft=false"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What the command line says; see ``USAGE``."""

    project: str = "qmix_jax"
    entity: str | None = None
    group: str | None = None
    draft: bool = True
    out: str = "dashboard.json"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line. Exit status 2, with one line on standard error, where no report can be made."""
    run_command(USAGE, argv, lambda arguments: make(parse_arguments(Settings, arguments)[0]))


def make(settings: Settings) -> None:
    """Write what the report shows, then make it.

    Raises :class:`ConfigError` without an account or the library, and for what W&B refuses.
    """
    spec = specification(settings.project, settings.entity, settings.group)
    with writing("out", settings.out):
        write_json(Path(settings.out), spec)
    print(f"out={settings.out}")
    if not is_logged_in():
        raise ConfigError(
            f"not logged in to W&B: run `wandb login`, then this again; {settings.out} says what it shows"
        )
    report = build_report(spec)
    try:
        report.save(draft=settings.draft)
    except Exception as error:  # Whatever W&B's library raises, from the network or from its server.
        raise ConfigError(f"W&B did not take the report: {type(error).__name__}: {error}") from error
    print(f"report={report.url}")


if __name__ == "__main__":
    main()
