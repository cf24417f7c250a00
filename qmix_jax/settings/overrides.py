"""Arguments in Hydra's grammar: paths and names as they stand, and what is wrong with one that cannot be read."""

import importlib.util
import re
from collections.abc import Sequence
from itertools import chain, islice, product
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString

from qmix_jax.errors import ConfigError, unknown_choice

TEXTS = (
    "run_dir",
    "resume",
    "distributed.coordinator",
    "logger.wandb.project",
    "logger.wandb.name",
    "logger.wandb.group",
    "logger.wandb.entity",
)
"""Keys whose value is taken as it stands, whatever characters it holds."""
SAME_AS = {"logger=tensorboard": "logger.tensorboard=true", "logger=wandb": "logger.wandb.mode=offline"}
"""Arguments that are written like the choice of a group, and the keys that they set."""
WORDS = ("null", "true", "false")
BRACKETS = {"[": "]", "{": "}", "(": ")"}


def as_text(argument: str, multirun: bool = False) -> str:
    """An argument whose value is a path or a name, quoted for Hydra; others as they are.

    What is quoted already stays, and so does a list of values for a multirun. Raises :class:`ConfigError` for a logger
    that there is none of.
    """
    argument = SAME_AS.get(argument, argument)
    key, equals, value = argument.partition("=")
    if argument.startswith("logger="):
        raise ConfigError(f"{argument}: unknown; did you mean {' or '.join(SAME_AS)}? (progress, W&B: --help)")
    if not equals or key.lstrip("+") not in TEXTS or value.lower() in WORDS or (multirun and "," in value):
        return argument
    quotes = value[:1] + value[-1:]
    if len(value) > 1 and quotes in ("''", '""') and _is_readable(argument):
        return argument
    return as_value(key, value)


def as_value(key: str, text: str) -> str:
    """An argument with a text, quoted for Hydra; of its search path, a list of one."""
    quoted = QuotedString(text=text, quote=Quote.single).with_quotes()
    return f"{key}=[{quoted}]" if key == "hydra.searchpath" else f"{key}={quoted}"


LAUNCHERS = {
    "slurm": ("submitit", "hydra_submitit_launcher"),
    "submitit_slurm": ("submitit", "hydra_submitit_launcher"),
    "local": ("submitit", "hydra_submitit_launcher"),
    "submitit_local": ("submitit", "hydra_submitit_launcher"),
    "ray_cluster": ("ray", "hydra_ray_launcher"),
    "ray": ("ray", "hydra_ray_launcher"),
}
"""Values of ``hydra/launcher``: the extra that brings them, and the package in it that Hydra looks for."""


def check_hydra(arguments: Sequence[str]) -> None:
    """Raise :class:`ConfigError` for settings of Hydra's own that it would answer with a trace, or not at all."""
    for argument in arguments:
        key, _, name = argument.partition("=")
        if key == "hydra.run.dir":
            raise ConfigError(f"{argument}: has no effect here; use run_dir={name}")
        if key != "hydra/launcher":
            continue
        if name not in (*LAUNCHERS, "basic"):
            raise unknown_choice(key, name, (*LAUNCHERS, "basic"))
        extra, package = LAUNCHERS.get(name, ("", ""))
        plugins = importlib.util.find_spec("hydra_plugins") if package else None
        folders = [] if plugins is None else list(plugins.submodule_search_locations or ())
        if package and not any((Path(folder) / package).is_dir() for folder in folders):
            raise ConfigError(f"{argument}: is not installed; pip install 'qmix_jax[{extra}]'")


def parse_overrides(arguments: Sequence[str]) -> list[Override]:
    """The arguments as Hydra reads them.

    Raises :class:`ConfigError` for the first one that cannot be read, and says how to quote it.
    """
    return [_parsed(argument) for argument in arguments]


def _parsed(argument: str) -> Override:
    try:
        return OverridesParser.create().parse_override(argument)
    except Exception as error:  # Hydra's own, and whatever OmegaConf says of a sweep with parts that do not fit.
        raise ConfigError(_reason(argument)) from error


def jobs(parsed: Sequence[Override]) -> list[list[str]]:
    """The arguments of jobs of a multirun, without those for Hydra itself: of the first, and if there are many, of
    those in which one value differs from it before others.

    Raises :class:`ConfigError` for what cannot be swept over, and where all jobs would have one folder.
    """
    own = [override for override in parsed if override.key_or_group.partition(".")[0].partition("/")[0] != "hydra"]
    each = [_values(override) for override in own]
    for override, values in zip(own, each, strict=True):
        fixed = override.key_or_group == "run_dir" and len(values) == 1 and "${" not in values[0]
        if fixed and any(len(others) > 1 for others in each):
            folder = str(override.value())
            raise ConfigError(
                f"run_dir={folder}: all jobs of a multirun would have this folder; hydra.sweep.dir={folder} has one "
                f"below it for each, or name what differs: 'run_dir={folder}/${{seed}}'"
            )
    first = [values[0] for values in each]
    # The key with the fewest values first: of many seeds a few will do.
    places = sorted(range(len(each)), key=lambda place: len(each[place]))
    one_changed = ([*first[:i], value, *first[i + 1 :]] for i in places for value in each[i][1:])
    found = dict.fromkeys(map(tuple, islice(chain([first], one_changed, product(*each)), 3 * CHECKED_JOBS)))
    return [list(job) for job in islice(found, CHECKED_JOBS)]


CHECKED_JOBS = 32
"""Of a multirun. Others are checked when they start."""


def _values(override: Override) -> list[str]:
    """The arguments of the first jobs that one argument stands for."""
    if not override.is_sweep_override():
        return [override.input_line or ""]
    try:
        if not (override.is_choice_sweep() or override.is_range_sweep()):
            raise ValueError("only a sweeper that is not installed here draws from an interval")
        values = islice(override.sweep_string_iterator(), CHECKED_JOBS)
        return [f"{override.get_key_element()}={value}" for value in values]
    except Exception as error:  # OmegaConf has many.
        raise ConfigError(f"{override.input_line}: cannot be swept over; give values like 1,2,3") from error


def _is_readable(argument: str) -> bool:
    try:
        OverridesParser.create().parse_override(argument)
    except Exception:  # noqa: BLE001 - as in _parsed
        return False
    return True


def _reason(argument: str) -> str:
    """Which argument cannot be read, what is wrong with it and how it is quoted."""
    key, _, value = argument.partition("=")
    if not re.fullmatch(r"[+~]{0,2}[\w./@:-]+", key):
        return f"{argument}: the key {key!r} cannot be read; settings look like key=value, for example gamma=0.95"
    for opening, closing in BRACKETS.items():
        if value.count(opening) != value.count(closing):
            return (
                f"{argument}: {opening} and {closing} do not match; write the value without spaces, or in quotes for "
                "the shell: 'sweep.lr=[1e-4,5e-4]'"
            )
    if value[:1] in BRACKETS:
        return f"{argument}: cannot be read as a list or a section; write '{key}=[a,b]' or '{key}={{a: 1, b: 2}}'"
    inner = value.strip("'\"").replace('"', '\\"')
    return (
        f"{argument}: cannot be read, for characters like these need quotes, and quotes around them for the shell: "
        f"'{key}=\"{inner}\"'"
    )
