"""Choices and settings that are combined: what one sets must be read by another, and a name must fit."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from qmix_jax.errors import ConfigError
from qmix_jax.settings.cells import KEYS
from qmix_jax.settings.groups import choices, file_of, settings_of


class Combined(NamedTuple):
    """A configuration, and what it was made of."""

    tree: DictConfig
    overrides: Sequence[Override]
    """What was typed."""
    chosen: Mapping[str, str]
    """The choice of each group, typed or not."""

    @property
    def typed(self) -> dict[str, str]:
        """Arguments as they were typed, by key."""
        return {override.key_or_group: override.input_line or "" for override in self.overrides}

    def section(self, group: str) -> dict[str, Any]:
        """The settings of a group, with interpolations as they stand."""
        found = OmegaConf.select(self.tree, group, throw_on_missing=False)
        return dict(OmegaConf.to_container(found)) if isinstance(found, DictConfig) else {}  # type: ignore[arg-type]

    def is_ours(self, group: str) -> bool:
        """Whether a group has one of our choices, and builds what that one does."""
        choice = self.chosen.get(group)
        if choice not in choices(group):
            return False
        return self.section(group).get("_target_") == settings_of(group, choice).get("_target_")


class Unread(NamedTuple):
    """Keys that nothing reads where another setting has a value."""

    keys: tuple[str, ...]
    other: str
    value: object
    choice: str
    """How that is chosen, and why nothing reads the keys then."""
    remedy: str


UNREAD = (
    Unread(
        ("target.update", "target.update_unit", "target.update_interval", "target.tau", "target.double_q"),
        "target.network",
        "online",
        "target.network=online there is no target network",
        "use target.network=target",
    ),
    Unread(
        ("target.tau",), "target.update", "hard", "target.update=hard the network is copied", "use target.update=soft"
    ),
    Unread(
        ("target.update_unit", "target.update_interval"),
        "target.update",
        "soft",
        "target.update=soft the target network moves at every update",
        "use target.update=hard",
    ),
    Unread(
        ("replay.capacity",),
        "replay.on_policy",
        True,
        "replay=on_policy one iteration's sequences are kept",
        "use replay=uniform",
    ),
    Unread(
        ("replay.replacement",),
        "replay.on_policy",
        True,
        "replay=on_policy every sequence is learned from equally often",
        "use replay=uniform",
    ),
    Unread(
        ("learner.burn_in",),
        "agent._target_",
        "qmix_jax.networks.agents.FeedForwardAgent",
        "agent=feed_forward there is no hidden state",
        "use agent=gru",
    ),
    Unread(
        ("optimizer.learning_rate_steps",),
        "optimizer.learning_rate_end",
        None,
        "optimizer.learning_rate_end=null the learning rate is constant",
        "give optimizer.learning_rate_end=0",
    ),
    Unread(
        tuple(f"exploration.preference{name}" for name in ("_smallest", "_largest", "_steps", "s_end")),
        "exploration.preference_share",
        0,
        "exploration.preference_share=0 no team has preferences",
        "use exploration.preference_share=0.5",
    ),
    *(
        Unread(
            ("sweep.samples", "sweep.seed"),
            "sweep.design",
            design,
            f"sweep.design={design} nothing is drawn",
            "use sweep.design=random",
        )
        for design in ("grid", "zip")
    ),
)

FIXED = {"qmix_jax.algorithms.pqn.PQN": ("target.network", "replay.on_policy")}
"""By what an algorithm builds, settings that it takes no other value of."""


def check_effect(combined: Combined) -> None:
    """What is typed must have an effect; what a file says need not, for presets are combined."""
    varied = {path: f"sweep.{key}" for key, path in KEYS.items() if combined.section("sweep").get(key) is not None}
    for key, argument in combined.typed.items():
        if varied.get(key) in combined.typed:
            raise ConfigError(f"{argument}: {varied[key]} sets it in every cell; leave one of the two out")
        for unread in UNREAD:
            other, name = unread.other.split(".")
            there = key in unread.keys and key.partition(".")[2] in combined.section(key.partition(".")[0])
            if there and combined.section(other).get(name, unread) == unread.value:
                fixed = unread.other in FIXED.get(combined.section("algorithm").get("_target_", ""), ())
                remedy = "" if fixed else f", or {unread.remedy}"
                raise ConfigError(f"{argument}: with {unread.choice}; leave it out{remedy}")


OPEN = ("algorithm", "env", "agent", "mixer", "optimizer")
"""Groups whose settings are arguments of what they build, so that it refuses those of another choice."""
PRESETS = ("experiment", "algorithm", "env")
"""Groups whose files also change other sections."""


def check_left_over(combined: Combined) -> None:
    """Raise where a preset sets a key of a group for which another choice was typed, one without that key."""
    typed = combined.typed
    for group in OPEN:
        if group not in typed or not combined.is_ours(group):
            continue
        choice = f"{group}={combined.chosen[group]}"
        unknown = combined.section(group).keys() - settings_of(group, combined.chosen[group]).keys()
        setters = {key: _setter(combined, group, key) for key in sorted(unknown) if f"{group}.{key}" not in typed}
        setters = {key: setter for key, setter in setters.items() if setter}
        for key, setter in setters.items():
            raise ConfigError(
                f"{choice}: {setter} sets {group}.{key}={combined.section(group)[key]}, which {choice} does not have; "
                f"leave one of the two out, or add {' '.join(f'~{group}.{name}' for name in setters)}"
            )


def _setter(combined: Combined, group: str, key: str) -> str | None:
    """The preset of ours that sets a key of another group."""
    for preset in PRESETS:
        choice = combined.chosen.get(preset)
        if preset != group and choice in choices(preset) and key in (file_of(preset, choice).get(group) or {}):
            return f"{preset}={choice}"
    return None


def mixer_of(algorithm: str) -> str:
    """The mixer that one of our algorithms is named after."""
    entries = file_of("algorithm", algorithm).get("defaults", ())
    return next((entry["override /mixer"] for entry in entries if "override /mixer" in entry), "qmix")


def check_mixer(combined: Combined) -> str:
    """A line that says under which name a run trains with a mixer that its algorithm is not named after, or nothing.

    Raises :class:`ConfigError` for a mixer beside independent learners.
    """
    algorithm, typed = combined.chosen.get("algorithm"), combined.typed
    argument = typed.get("mixer._target_", typed.get("mixer"))
    if argument is None or algorithm not in choices("algorithm"):
        return ""
    own = mixer_of(algorithm)
    if combined.section("mixer").get("_target_") == settings_of("mixer", own)["_target_"]:
        return ""
    if own == "none" and combined.is_ours("mixer"):
        raise ConfigError(
            f"{argument}: the agents of algorithm={algorithm} learn without a mixer; leave it out, or choose "
            f"algorithm={_counterpart(algorithm, combined.chosen['mixer'])}"
        )
    if "algorithm.name" in typed:
        return ""
    return (
        f"note: {argument}: the mixer of algorithm={algorithm} is {own}; this run is called "
        f"{combined.section('algorithm').get('name')} all the same, unless you give algorithm.name=..."
    )


def _counterpart(algorithm: str, mixer: str) -> str:
    """The algorithm with this mixer that is most like one of independent learners."""
    names = (f"{algorithm.removesuffix('iql')}{mixer}", mixer, f"{algorithm.removesuffix('iql')}qmix")
    return next((name for name in names if name in choices("algorithm")), "qmix")
