"""What the user typed, checked before JAX is imported: errors are one line with key, value and nearest choice."""

import contextlib
import functools
import re
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from qmix_jax.envs.settings import say
from qmix_jax.errors import ConfigError
from qmix_jax.settings.arguments import HELP, check_form, split_options
from qmix_jax.settings.cells import cells, check_key, several_values
from qmix_jax.settings.combined import Combined, check_effect, check_left_over, check_mixer
from qmix_jax.settings.config import Config
from qmix_jax.settings.groups import (
    all_keys,
    check_folder,
    choices,
    choices_with,
    conf_dir,
    group_names,
    keys_in,
    where,
)
from qmix_jax.settings.overrides import WORDS, as_text, as_value, check_hydra, jobs, parse_overrides
from qmix_jax.settings.reading import parse, to_container
from qmix_jax.settings.spelling import (
    PASSING_ON,
    check_scenario,
    nearest_key,
    of_another_choice,
    unknown_env_setting,
    unknown_group_choice,
)


def shipped_targets(group: str) -> set[str]:
    """What the files of a configuration group build: every ``_target_`` in them."""
    files: list[Any] = [OmegaConf.load(path) for path in (conf_dir() / group).glob("*.yaml")]
    sections = [file.get(group, file) for file in files]  # an algorithm's file also changes other sections
    return {section["_target_"] for section in sections if not OmegaConf.is_missing(section, "_target_")}


def check(arguments: Sequence[str]) -> list[Config]:
    """Compose and parse the configuration that the arguments describe; of a multirun, that of each of the first jobs.

    Returns the configurations. Raises :class:`ConfigError`.
    """
    if any(argument in HELP for argument in arguments):
        return []
    flags = split_options(arguments)
    check_form(flags.overrides)
    check_hydra(flags.overrides)
    if not flags.multirun:
        return [_check_run(flags.overrides, flags.config_dir)]
    parsed = parse_overrides([as_text(argument, multirun=True) for argument in flags.overrides])
    return [_check_run(job, flags.config_dir) for job in jobs(parsed)]


def for_hydra(arguments: Sequence[str]) -> list[str]:
    """The arguments with paths and names quoted for Hydra, which takes settings only after the last option."""
    flags = split_options(arguments)
    options = [f"{name}={value}" if value else name for name, value in flags.options.items()]
    return [*options, *(as_text(argument, flags.multirun) for argument in flags.overrides)]


@contextlib.contextmanager
def naming_the_file(overrides: Sequence[str], config_dir: Path | None) -> Iterator[None]:
    """Add the user's file and line that a :class:`ConfigError` is about, where it is about one."""
    try:
        yield
    except ConfigError as error:
        key = str(error).partition("=")[0].partition(":")[0]
        typed = {argument.lstrip("+~").partition("=")[0] for argument in overrides}.difference(group_names())
        if any(key == name or key.startswith(f"{name}.") for name in typed):
            raise  # What is typed comes after the file.
        raise ConfigError(f"{error}{where(config_dir, _chosen(overrides), key)}") from error


def _check_run(overrides: Sequence[str], config_dir: Path | None) -> Config:
    with naming_the_file(overrides, config_dir):
        return _parsed(overrides, config_dir)


def _parsed(overrides: Sequence[str], config_dir: Path | None) -> Config:
    try:
        combined = _combined(overrides, config_dir)
        note = check_mixer(combined)
        container = to_container(combined.tree)
        config = parse(container)
        check_scenario(config.parts["env"])
        cells(container, config)
        if note:
            say(note)
        return config
    except ConfigError as error:
        if "nterpolation" in str(error).partition(":")[0]:
            references = [argument for argument in overrides if "${" in argument]
            raise ConfigError(
                f"{' '.join(references)}: {error}; ${{...}} stands for a setting, like ${{seed}}"
            ) from error
        raise


def _chosen(overrides: Sequence[str]) -> list[tuple[str, str]]:
    return [(group, choice) for group, _, choice in (item.lstrip("+").partition("=") for item in overrides)]


def compose_config(overrides: Sequence[str], config_dir: Path | None = None) -> DictConfig:
    """The configuration as Hydra composes it from the defaults and ``overrides``.

    Args:
        overrides: the arguments.
        config_dir: a user's own configuration folder.

    Raises :class:`ConfigError` where Hydra would print a trace or several lines, and for choices that do not fit.
    """
    combined = _combined(overrides, config_dir)
    check_mixer(combined)
    return combined.tree


def _combined(overrides: Sequence[str], config_dir: Path | None) -> Combined:
    check_form(overrides, once=False)
    if config_dir is not None:
        check_folder(config_dir, _chosen(overrides))
    overrides = [as_text(argument) for argument in overrides]
    parsed = parse_overrides(overrides)
    for override in parsed:
        if override.is_sweep_override():
            raise _several(override)
        if isinstance(override.value(), list) and several_values(override.key_or_group):
            inside = several_values(override.key_or_group)
            raise ConfigError(f"{override.input_line}: takes one number; {inside}")
        _check_choice(override, config_dir)
    try:
        tree = _compose(overrides, config_dir)
    except (HydraException, OmegaConfBaseException) as error:
        # Where the choices alone compose, a key is at fault.
        with contextlib.suppress(HydraException, OmegaConfBaseException):
            _check_keys(parsed, config_dir)
        files = [f"{config_dir}/{group}/{name}.yaml" for group, name in _chosen(overrides) if config_dir is not None]
        own = [file for file in files if Path(file).is_file()]
        references = [argument for argument in overrides if "${" in argument]
        raise ConfigError(f"{' '.join([*own, *references, ''])}{first_line(error)}{_remedy(error)}") from error
    with open_dict(tree):
        chosen = OmegaConf.to_container(tree.pop("hydra").runtime.choices)
    combined = Combined(tree, parsed, typing.cast(dict, chosen))
    _check_added(combined, config_dir)
    check_left_over(combined)
    check_effect(combined)
    return combined


def _compose(overrides: Sequence[str], config_dir: Path | None) -> DictConfig:
    GlobalHydra.instance().clear()
    own = [] if config_dir is None else [as_value("hydra.searchpath", f"file://{config_dir.absolute()}")]
    with initialize_config_dir(str(conf_dir()), version_base=None):
        return compose("config", overrides=[*overrides, *own], return_hydra_config=True)


def _several(override: Override) -> ConfigError:
    """The error for several values where there is one run."""
    argument, value = override.input_line or "", (override.input_line or "").partition("=")[2]
    if re.fullmatch(r"\d{1,3}(,\d{3})+", value):
        return ConfigError(f"{argument}: several values need --multirun; a number is {value.replace(',', '_')}")
    remedy = several_values(override.key_or_group) or "a list is [a,b]"
    is_group = (conf_dir() / override.key_or_group).is_dir()
    return ConfigError(f"{argument}: several values need --multirun{'' if is_group else f'; {remedy}'}")


def _check_choice(override: Override, config_dir: Path | None) -> None:
    """A group must be given the name of one of its files."""
    folder = conf_dir() / override.key_or_group
    if not folder.is_dir() or override.is_sweep_override():
        return
    value = override.value()
    if override.is_delete():
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"{override.input_line}: a group is left out by its name alone: ~{override.key_or_group}")
        return
    if value is None and override.key_or_group == "experiment":
        return
    names = choices(override.key_or_group, config_dir)
    if isinstance(value, list):
        listed = f"[{','.join(map(str, value))}]"
        raise ConfigError(f"{override.key_or_group}={listed}: takes one name; put what differs into one file")
    if value not in names:
        raise unknown_group_choice(override.key_or_group, "null" if value is None else str(value), names)


def _check_keys(overrides: Iterable[Override], config_dir: Path | None) -> None:
    """Raise for the first key that is not there, naming the nearest one that is."""
    groups = [o for o in overrides if (conf_dir() / o.key_or_group).is_dir()]
    chosen = tuple(o.input_line for o in groups if o.input_line)
    known = _known_keys(chosen, config_dir)
    for override in overrides:
        key, value = override.key_or_group, _value_of(override)
        if override.is_add() and key in known:
            raise ConfigError(f"{override.input_line}: {key} is a setting already; write it without +")
        if override in groups or _adds(override) or key.startswith("hydra") or key in known:
            continue
        check_key(key, value)
        if key.startswith("env.") and _takes_more(chosen, config_dir):
            raise unknown_env_setting(key, value, known)
        others = {name for name in known if not name.startswith("sweep.") or key.startswith("sweep")}
        near = nearest_key(key, others | set(group_names()), all_keys())
        tree = _with_choices(chosen, config_dir)
        if near not in others and near in all_keys():
            raise of_another_choice(key, value, near, tree.hydra.runtime.choices)
        fits = value not in WORDS or isinstance(OmegaConf.select(tree, near), bool)
        raise ConfigError(f"{key}={value}: unknown key; did you mean {near}={value if fits else '...'}?")


def _check_added(combined: Combined, config_dir: Path | None) -> None:
    """Raise for a key that is added with a plus, although only another choice of its group reads it.

    Environments are left out: theirs may hand it on.
    """
    groups = tuple(o.input_line for o in combined.overrides if (conf_dir() / o.key_or_group).is_dir() and o.input_line)
    for override in combined.overrides:
        key = override.key_or_group
        group = key.partition(".")[0]
        if not _adds(override) or group == "env" or not choices_with(key) or not combined.is_ours(group):
            continue
        if key not in _known_keys(groups, config_dir):
            raise of_another_choice(key, _value_of(override), key, combined.chosen)


def _adds(override: Override) -> bool:
    return override.is_add() or override.is_force_add()


def _value_of(override: Override) -> str:
    value = override.get_value_element_as_str()
    return value.lower() if value.lower() in WORDS else value


@functools.cache
def _with_choices(groups: tuple[str, ...], config_dir: Path | None) -> DictConfig:
    return _compose(groups, config_dir)


def _known_keys(groups: tuple[str, ...], config_dir: Path | None) -> frozenset[str]:
    """Dotted paths of all settings and sections with these choices."""
    tree = OmegaConf.to_container(_with_choices(groups, config_dir))
    return frozenset(key for key in keys_in(tree, "") if not key.startswith("hydra"))


def _takes_more(groups: tuple[str, ...], config_dir: Path | None) -> bool:
    """Whether the chosen environment has settings beside those in its file."""
    target = str(OmegaConf.select(_with_choices(groups, config_dir), "env._target_"))
    return target in PASSING_ON or not target.startswith("qmix_jax.")


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _remedy(error: Exception) -> str:
    """What to write in a file instead, where Hydra says only what is wrong."""
    text = str(error)
    if "appears more than once" in text:
        group = text.partition(" ")[0].strip("'")
        return f"; in the defaults of an experiment write 'override /{group}: choice'"
    if "Could not find" in text:
        return "; see the names of the files in that group"
    return ""
