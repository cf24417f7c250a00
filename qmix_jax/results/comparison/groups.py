"""Group seeds by method and environment."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from qmix_jax.errors import ConfigError
from qmix_jax.results.comparison.records import Seed, differing, words
from qmix_jax.settings.spelling import ELSEWHERE

ALL_RUNS = "all runs"


class Groups(NamedTuple):
    """Seeds by method and environment."""

    seeds: Mapping[tuple[str, str], Sequence[Seed]]
    """(method, environment) to its seeds; pairs without seeds are left out."""
    by: Sequence[str]
    """The keys that distinguish the groups."""
    notes: Sequence[str]

    @property
    def methods(self) -> list[str]:
        """In the order of first occurrence."""
        return list(dict.fromkeys(method for method, _ in self.seeds))

    @property
    def envs(self) -> list[str]:
        """In the order of their names."""
        return sorted({env for _, env in self.seeds})

    def of(self, method: str) -> list[Seed]:
        """The seeds of one method in all environments."""
        return [seed for (name, _), seeds in self.seeds.items() if name == method for seed in seeds]


def group(seeds: Sequence[Seed], by: Sequence[str] | None) -> Groups:
    """Group seeds by settings.

    Args:
        seeds: of all runs.
        by: keys of settings, sections of them (``algorithm``, ``mixer``) or ``env``; None is the algorithm and every
            setting that differs between runs of one algorithm in one environment.

    Raises :class:`ConfigError` for a key that no run has, and where one curve would mix different environments.
    """
    full = [_full_key(key, seeds) for key in by] if by is not None else _automatic(seeds)
    method_keys = [key for key in full if not key.startswith("env")]
    env_keys = [key for key in full if key.startswith("env.")]
    names = _env_names(seeds, env_keys)
    shown = _shown(seeds, method_keys) if by is None else {}
    found: dict[tuple[str, str], list[Seed]] = {}
    for seed, env in zip(seeds, names, strict=True):
        keys = [key for key in method_keys if by is not None or key in shown[_algorithm(seed)]]
        found.setdefault((_label(seed, keys), env), []).append(seed)
    for (method, env), own in found.items():
        _check_one_environment(method, env, own, by)
    return Groups(found, full, [*_pooled(found, by), *_twice(found)])


def value_of(seed: Seed, key: str) -> Any:
    """The value of a full key, None where the seed does not have it."""
    return seed.env if key == "env" else seed.settings.get(key)


def _full_key(key: str, seeds: Sequence[Seed]) -> str:
    known = {name for settings in _distinct(seeds) for name in settings} | {"env"}
    for candidate in (key, f"{key}.name", f"{key}._target_"):
        if candidate in known:
            return candidate
    sections = {name.partition(".")[0] for name in known if name.endswith((".name", "._target_"))}
    for name, others in ELSEWHERE.items():
        if name in known and key.rpartition(".")[2] in others:
            raise ConfigError(f"by={key}: no run has this key; did you mean {name}?")
    near = max(sorted(known | sections), key=lambda other: _likeness(key, other))
    raise ConfigError(f"by={key}: no run has this key; did you mean {near}?")


def _likeness(key: str, other: str) -> float:
    def ratio(a: str, b: str) -> float:
        return difflib.SequenceMatcher(None, a, b).ratio()

    return max(ratio(key, other), ratio(key.rpartition(".")[2], other.rpartition(".")[2])) + 0.1 * ratio(key, other)


def _distinct(seeds: Sequence[Seed]) -> list[Mapping[str, Any]]:
    return list({id(seed.settings): seed.settings for seed in seeds}.values())


def _algorithm(seed: Seed) -> str:
    return str(seed.settings.get("algorithm.name", seed.source))


def _automatic(seeds: Sequence[Seed]) -> list[str]:
    keys = dict.fromkeys(["algorithm.name"])
    for own in _shown(seeds, None).values():
        keys |= dict.fromkeys(own)
    return list(keys)


def _shown(seeds: Sequence[Seed], keys: Sequence[str] | None) -> dict[str, list[str]]:
    """For each algorithm the keys (all, or those of ``keys``) that differ between its runs in one environment."""
    found: dict[str, dict[str, None]] = {}
    by_pair: dict[tuple[str, str], list[Seed]] = {}
    for seed in seeds:
        by_pair.setdefault((_algorithm(seed), seed.env), []).append(seed)
    kinds = {seed.settings.get("source") for seed in seeds}
    for (algorithm, _), own in by_pair.items():
        apart = found.setdefault(algorithm, dict.fromkeys(["algorithm.name"]))
        if len({seed.settings.get("source") for seed in own}) > 1 and len(kinds) > 1:
            apart["source"] = None
        apart |= dict.fromkeys(key for key in differing(own) if keys is None or key in keys)
    return {
        algorithm: _needed(list(own), [seed for seed in seeds if _algorithm(seed) == algorithm])
        for algorithm, own in found.items()
    }


def _needed(keys: list[str], seeds: Sequence[Seed]) -> list[str]:
    """Drop the keys that the others imply: names should be short, and the report has a table of all settings."""

    def parts(some: Sequence[str]) -> int:
        return len({tuple(repr(settings.get(key)) for key in some) for settings in _distinct(seeds)})

    for key in keys[:0:-1]:
        others = [other for other in keys if other != key]
        if not key.startswith("env.") and parts(others) == parts(keys):
            keys = others
    return keys


def _label(seed: Seed, keys: Sequence[str]) -> str:
    parts = []
    for key in keys:
        value = value_of(seed, key)
        if key == "algorithm.name":
            parts.append(str(value))
        elif key == "source":
            parts.append(f"({value})" if value else "")
        elif value is not None or key in seed.settings:
            section, _, name = key.rpartition(".")
            built = name == "_target_"
            parts.append(f"{section}={str(value).rpartition('.')[2]}" if built else f"{name}={words(value)}")
    return " ".join(part for part in parts if part) or ALL_RUNS


def _env_names(seeds: Sequence[Seed], env_keys: Sequence[str]) -> list[str]:
    """The environment's name, with the values of ``env_keys`` if the name does not determine them."""
    values: dict[str, dict[str, set[str]]] = {}
    for seed in seeds:
        for key in env_keys:
            values.setdefault(seed.env, {}).setdefault(key, set()).add(repr(seed.settings.get(key)))

    def name(seed: Seed) -> str:
        needed = [key for key in env_keys if len(values[seed.env][key]) > 1]
        told = (f"{key.rpartition('.')[2]}={words(seed.settings.get(key))}" for key in needed)
        return " ".join([seed.env, *told])

    return [name(seed) for seed in seeds]


def _check_one_environment(method: str, env: str, seeds: Sequence[Seed], by: Sequence[str] | None) -> None:
    for key, values in differing(seeds).items():
        if key.startswith("env."):
            given = ",".join(by or ["algorithm"])
            told = ", ".join(words(value) for value in values[:4])
            raise ConfigError(
                f"by={given}: the curve of {method} on {env} would mix environments that differ in {key} ({told}); "
                f"use by={given},{key}"
            )


def _pooled(found: Mapping[tuple[str, str], Sequence[Seed]], by: Sequence[str] | None) -> list[str]:
    if by is None:
        return []
    notes = []
    for (method, env), seeds in found.items():
        keys = list(differing(seeds))
        if keys:
            several = ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")
            notes.append(f"{method} on {env} pools runs that differ in {several}")
    return notes


def _twice(found: Mapping[tuple[str, str], Sequence[Seed]]) -> list[str]:
    """Notes on seeds trained twice with the same settings: they are not independent."""
    notes = []
    for (method, env), seeds in found.items():
        known: dict[str, Seed] = {}
        for seed in seeds:
            name = f"{seed.name} {id(seed.settings) if '/' in seed.name else ''}"
            other = known.setdefault(name, seed)
            if other is not seed and other.source != seed.source and not differing([seed, other]):
                notes.append(
                    f"{method} on {env}: {seed.name} is in {other.source} and in {seed.source}; both count as seeds, "
                    "though they may be the same"
                )
                break
    return notes
