"""Random play of several episodes in parallel, recorded on the host for the checks in ``values``.

The loop over transitions is in Python. A ``scan`` could not carry an environment whose types change during an episode;
here it can still be played, and its other faults found.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from qmix_jax.envs.base import Env
from qmix_jax.envs.contract.restarts import Ends
from qmix_jax.envs.contract.trees import is_key, plain, true
from qmix_jax.envs.contract.types import parts
from qmix_jax.types import EnvState, Outcome, TimeStep

QUICKLY = {"xla_backend_optimization_level": 0}
if jax.__version_info__ < (0, 11):  # later ones have no such option
    QUICKLY["xla_cpu_use_fusion_emitters"] = False
"""Compiler options for the CPU: for a few hundred transitions optimising does not pay."""
MOMENTS_ALONE, ROWS_ALONE = 4, 3
"""How many time steps of how many episodes are also computed without ``vmap``."""
TOLERANCE = 1e-4
"""Between a batch and single environments: XLA may sum in another order."""


class Programs(NamedTuple):
    """``reset`` and ``step`` of a batch of environments, compiled."""

    reset: Callable[..., tuple[EnvState, TimeStep]]
    step: Callable[..., tuple[EnvState, TimeStep, Outcome]]


class Plan(NamedTuple):
    """Which episodes to play; all randomness comes from ``seed``."""

    seed: int
    episodes: int
    limit: int
    """Stop after this many transitions."""


class Moment(NamedTuple):
    """B episodes after ``time`` transitions, and the last of these transitions (None at the start)."""

    time: int
    keys: Key[Array, " B"]
    """The keys that ``reset`` or ``step`` was called with."""
    before: EnvState | None
    action: Int[np.ndarray, "B N"] | None
    env_state: EnvState
    step: TimeStep
    outcome: Outcome | None
    plays: Bool[np.ndarray, " B"]
    """Whether the episode was still running before this step."""

    def parts(self) -> dict[str, Any]:
        """The values returned, by name."""
        return parts(self.env_state, self.step, self.outcome)


class Record(NamedTuple):
    """A record of B episodes of at most T transitions. Only entries where ``plays`` is true belong to an episode."""

    length: Int[np.ndarray, " B"]
    """Transitions until ``last``; 0 for an episode that has not ended."""
    plays: Bool[np.ndarray, "T+1 B"]
    reward: Float[np.ndarray, "T B"]
    discount: Float[np.ndarray, "T B"]
    last: Bool[np.ndarray, "T B"]
    won: Bool[np.ndarray, "T B"]
    finite: Mapping[str, Bool[np.ndarray, "T+1 B"]]
    """Whether ``obs`` and ``state`` are finite."""
    largest: Mapping[str, Float[np.ndarray, "T+1 B"]]
    """Largest finite absolute values of ``obs`` and ``state``."""
    stuck: Bool[np.ndarray, "T+1 B N"]
    """Agents without an available action."""
    restarts: bool
    """Whether steps with ``last`` return the start of another episode."""
    alone: str | None
    """Where a batch differs from single environments."""
    fingerprints: list[dict[str, str]]


def compile_env(env: Env, batched: bool = True) -> Programs:
    """New, untraced programs (functions that the environment itself has jitted may already be traced)."""
    options = QUICKLY if jax.default_backend() == "cpu" else None
    reset, step = (jax.vmap(env.reset), jax.vmap(env.step)) if batched else (env.reset, env.step)
    return Programs(jax.jit(reset, compiler_options=options), jax.jit(step, compiler_options=options))


def moments(programs: Programs, plan: Plan) -> Iterator[Moment]:
    """Play until all episodes are over, at most to the plan's limit."""
    # NumPy's random numbers: JAX would compile programs for its own, each time that everything is traced again.
    rng = np.random.default_rng(plan.seed)
    keys = _keys(rng, plan.episodes)
    env_state, step = programs.reset(keys)
    plays = np.ones(plan.episodes, bool)
    yield Moment(0, keys, None, None, env_state, step, None, plays)
    for time in range(1, plan.limit + 1):
        keys, action = _keys(rng, plan.episodes), _random_action(rng, true(step.avail_actions))
        after, step, outcome = programs.step(keys, env_state, action)
        yield Moment(time, keys, env_state, action, after, step, outcome, plays)
        env_state, plays = after, plays & ~true(outcome.last)
        if not plays.any():
            return


def fingerprints(programs: Programs, plan: Plan) -> list[dict[str, str]]:
    """A short hash of every value that every call returned, by name: equal hashes mean equal bits."""
    return [_fingerprint(moment) for moment in moments(programs, plan)]


def difference(first: Sequence[Mapping[str, str]], again: Sequence[Mapping[str, str]]) -> str | None:
    """The first difference between two plays, if any."""
    for time, (one, other) in enumerate(zip(first, again, strict=False)):
        for name, digest in one.items():
            if other[name] != digest:
                return f"{name} differs after {'reset' if time == 0 else f'transition {time}'}"
    return None


def record(env: Env, programs: Programs, plan: Plan) -> Record:
    """Play and record what the checks need."""
    alone = compile_env(env, batched=False)
    ends, rows, prints, differs = Ends(plan.episodes), [], [], None
    for moment in moments(programs, plan):
        rows.append(_summary(moment))
        prints.append(_fingerprint(moment))
        last = None if moment.outcome is None else true(moment.outcome.last)
        ends.see(moment.time, moment.keys, moment.env_state, moment.step, moment.plays, last)
        if differs is None and moment.time < MOMENTS_ALONE:
            differs = _difference_alone(alone, moment)
    columns = {name: np.stack([row[name] for row in rows if name in row]) for name in rows[-1]}
    over = columns["last"] & columns["plays"][1:]
    return Record(
        length=np.where(over.any(axis=0), over.argmax(axis=0) + 1, 0),
        plays=columns["plays"],
        **{name: columns[name] for name in Outcome._fields},
        finite={name: columns[f"finite_{name}"] for name in ("obs", "state")},
        largest={name: columns[f"largest_{name}"] for name in ("obs", "state")},
        stuck=columns["stuck"],
        restarts=ends.are_beginnings(programs.reset),
        alone=differs,
        fingerprints=prints,
    )


def _keys(rng: np.random.Generator, episodes: int) -> Key[Array, " B"]:
    like = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
    bits = rng.integers(0, 2**32, (episodes, *like.shape), np.uint32)
    return jax.random.wrap_key_data(jnp.asarray(bits))


def _random_action(rng: np.random.Generator, avail: Bool[np.ndarray, "B N A"]) -> Int[np.ndarray, "B N"]:
    """A random available action for every agent, or any action if none is available (reported elsewhere)."""
    return np.where(avail, rng.random(avail.shape), -1.0).argmax(axis=-1).astype(np.int32)


def _summary(moment: Moment) -> dict[str, Shaped[np.ndarray, "B ..."]]:
    """The columns of a :class:`Record` at one time step."""
    episodes = len(moment.plays)
    summary = {"plays": moment.plays, "stuck": ~true(moment.step.avail_actions).any(axis=-1)}
    for name in ("obs", "state"):
        values = np.asarray(getattr(moment.step, name)).astype(np.float64).reshape(episodes, -1)
        finite = np.isfinite(values)
        summary[f"finite_{name}"] = finite.all(axis=1)
        summary[f"largest_{name}"] = np.abs(np.where(finite, values, 0.0)).max(axis=1, initial=0.0)
    if moment.outcome is not None:
        for name in ("reward", "discount"):
            values = np.asarray(getattr(moment.outcome, name)).astype(np.float64)
            summary[name] = values.reshape(episodes, -1).sum(axis=1)  # the agents' own rewards together
        for name in ("last", "won"):
            summary[name] = true(getattr(moment.outcome, name))
    return summary


def _fingerprint(moment: Moment) -> dict[str, str]:
    def digest(part: Any) -> str:
        found = hashlib.blake2b(digest_size=8)
        for leaf in jax.tree.leaves(plain(part)):
            found.update(np.ascontiguousarray(leaf).tobytes())
        return found.hexdigest()

    return {name: digest(part) for name, part in moment.parts().items()}


def _difference_alone(alone: Programs, moment: Moment) -> str | None:
    """Where the first rows of a batch differ from the same calls without ``vmap``."""
    keys = np.asarray(jax.random.key_data(moment.keys))
    for row in range(min(ROWS_ALONE, len(moment.plays))):
        key = jax.random.wrap_key_data(keys[row])
        if moment.before is None:
            single = parts(*alone.reset(key))
        else:
            single = parts(*alone.step(key, _row(moment.before, row), _row(moment.action, row)))
        for name, part in moment.parts().items():
            pairs = zip(jax.tree.leaves(plain(_row(part, row))), jax.tree.leaves(plain(single[name])), strict=True)
            if not all(_close(batched, value) for batched, value in pairs):
                return f"{name} after {'reset' if moment.time == 0 else f'transition {moment.time}'}"
    return None


def _row(tree: Any, row: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[row] if is_key(leaf) else np.asarray(leaf)[row], tree)


def _close(batched: Any, alone: Any) -> bool:
    batched, alone = np.asarray(batched), np.asarray(alone)
    if batched.shape != alone.shape or not np.issubdtype(batched.dtype, np.floating):
        return np.array_equal(batched, alone)
    return np.allclose(batched, alone, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
