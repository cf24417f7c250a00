"""Check that an environment keeps the contract of :class:`qmix_jax.envs.base.Env`.

Types are checked by tracing (``types``), everything else by random play (``random_play``, ``values``).
"""

import itertools

import jax

from qmix_jax.envs.base import Env
from qmix_jax.envs.contract import random_play, types, values
from qmix_jax.envs.contract.findings import PROMISES, Finding, complete, failure, ok
from qmix_jax.envs.contract.start import mend
from qmix_jax.errors import USERS_ERRORS
from qmix_jax.types import Outcome

__all__ = ["PROMISES", "Finding", "check_contract"]

_traced_anew = jax.make_user_context(None)
"""JAX caches traces, also inside a user's own ``jit``. A new value of this context makes it trace again."""
_numbers = itertools.count(1)


def check_contract(
    env: Env, twin: Env | None = None, *, episodes: int = 32, seed: int = 0, time_limit: str | None = None
) -> list[Finding]:
    """Check every one of ``PROMISES`` in ``episodes`` (at least 2) parallel episodes of random available actions.

    ``twin`` is the same environment made a second time, which must behave the same. ``time_limit`` is the setting of
    that name, if there is one: without it only the user knows whether an end at the limit is a termination.

    What training puts right by itself (``start.py``) is put right here too, and a warning.
    """
    env, mended = mend(env)
    twin = None if twin is None else mend(twin)[0]
    found = [types.declared(env)]
    if found[0].result == "ok":
        found += _check(env, twin, random_play.Plan(seed, episodes, env.episode_limit), time_limit)
    wrong = {finding.check for finding in found if finding.result == "broken"}
    return complete([*found, *(other for other in mended if other.result == "broken" or other.check not in wrong)])


def _check(env: Env, twin: Env | None, plan: random_play.Plan, time_limit: str | None) -> list[Finding]:
    traced = types.trace(env)
    if isinstance(traced, Finding):
        return [ok("jit"), traced]
    found = [ok("jit"), ok("returns"), *(types.part_type(env, name, traced) for name in types.SHAPES)]
    found.append(types.env_state_type(traced))
    batch = types.trace_batch(env, traced)
    if batch is not None:
        return [*found, batch]
    # Random play needs available actions, and the end of an episode.
    needed = all(types.has_shape(env, name, traced) for name in ("avail_actions", *Outcome._fields))
    if not needed or types.keeps_changing(traced):
        return found
    try:
        seen, alike = _play(env, twin, plan)
    except USERS_ERRORS as error:
        return [*found, failure("jit", "playing", error)]
    return [*found, *alike, *values.check(env, seen, time_limit)]


def _play(env: Env, twin: Env | None, plan: random_play.Plan) -> tuple[random_play.Record, list[Finding]]:
    """Play, and play again in several ways that must not change anything; the first that does is the cause."""
    programs = random_play.compile_env(env)
    seen = random_play.record(env, programs, plan)

    def play_again(programs: random_play.Programs) -> str | None:
        again = random_play.fingerprints(programs, plan)
        return random_play.difference(seen.fingerprints, again)

    def play_anew(env: Env) -> str | None:
        with _traced_anew(next(_numbers)):
            return play_again(random_play.compile_env(env))

    found = [values.repeatable(play_again(programs))]
    if found[-1].result == "ok":
        made_again = play_anew(env if twin is None else twin)
        in_factory = made_again is not None and twin is not None and play_anew(env) is None
        found.append(values.pure(made_again, in_factory))
    if found[-1].result == "ok":
        found.append(values.alone(seen))
    return seen, found
