"""Signs that a step with ``last`` returns the start of another episode instead of the end of this one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from qmix_jax.envs.adapter import AdapterState
from qmix_jax.envs.contract.trees import numbers
from qmix_jax.types import EnvState, TimeStep


class _Numbers:
    """How one part of B episodes (their states or their observations, D numbers each) changed until their ends.

    One sign is a counter: a number that goes up or down by one with every transition and is back at its start value
    after the last one, in every episode. The other is that every end equals the result of ``reset`` with the step's
    key, or with a key split from it.
    """

    def __init__(self, start: Float[np.ndarray, "B D"]) -> None:
        self.start = self.before = self.end = start
        self.before_end = np.full_like(start, np.nan)
        self.up = self.down = self.back = np.isfinite(start).all(axis=0)  # Infinity plus one is infinity.
        self.later_ends = 0

    def see(
        self, time: int, now: Float[np.ndarray, "B D"], goes_on: Bool[np.ndarray, " B"], ends: Bool[np.ndarray, " B"]
    ) -> None:
        """Add the numbers after ``time`` transitions; ``goes_on`` and ``ends`` say which episodes continue and end."""
        self.up = self.up & (now == self.start + time)[goes_on].all(axis=0)
        self.down = self.down & (now == self.start - time)[goes_on].all(axis=0)
        if time > 1:
            # Up once and back may be a flag; up twice and back is a counter.
            self.later_ends += int(ends.sum()) if time > 2 else 0
            self.back = self.back & (now == self.start)[ends].all(axis=0)
        self.end = np.where(ends[:, None], now, self.end)
        self.before_end = np.where(ends[:, None], self.before, self.before_end)
        self.before = now

    def counter_is_back(self) -> bool:
        """The first sign."""
        return self.later_ends > 0 and bool(((self.up | self.down) & self.back).any())

    def may_be_beginning(self, ended: Bool[np.ndarray, " B"]) -> bool:
        """Whether the ends changed anything and match the starts in all numbers that are the same in every start."""
        same = (self.start == self.start[0]).all(axis=0)
        changed = (self.end != self.before_end)[ended].any()
        return bool(changed and (self.end == self.start)[ended][:, same].all())

    def end_is(self, fresh: Float[np.ndarray, "B D"], ended: Bool[np.ndarray, " B"]) -> bool:
        """The second sign, given the result of ``reset`` with one key per episode."""
        return self.may_be_beginning(ended) and bool((self.end == fresh)[ended].all())


class Ends:
    """The ends of B episodes."""

    def __init__(self, episodes: int) -> None:
        self.ended = np.zeros(episodes, bool)
        self.seen: list[_Numbers] = []
        self.keys = np.zeros(0, np.uint32)
        self.comparable = True

    def see(
        self,
        time: int,
        keys: Key[Array, " B"],
        env_state: EnvState,
        step: TimeStep,
        plays: Bool[np.ndarray, " B"],
        last: Bool[np.ndarray, " B"] | None,
    ) -> None:
        """Add the next time step; the first one has no ``last``."""
        now, key_data = _parts(env_state, step, len(plays)), np.asarray(jax.random.key_data(keys))
        if last is None:
            self.seen, self.keys = [_Numbers(part) for part in now], key_data
            return
        # A state that changes its shape is reported elsewhere; nothing can be compared here then.
        self.comparable &= all(part.start.shape == new.shape for part, new in zip(self.seen, now, strict=True))
        if not self.comparable:
            return
        ends = plays & last
        for part, new in zip(self.seen, now, strict=True):
            part.see(time, new, plays & ~last, ends)
        self.keys = np.where(ends[:, None], key_data, self.keys)
        self.ended = self.ended | ends

    def are_beginnings(self, reset: Callable[..., tuple[EnvState, TimeStep]]) -> bool:
        """Whether the ends look like starts of other episodes; ``reset`` takes B keys."""
        if not self.comparable or not self.ended.any():
            return False
        if any(part.counter_is_back() for part in self.seen):
            return True
        if not any(part.may_be_beginning(self.ended) for part in self.seen):
            return False
        keys = jax.random.wrap_key_data(jnp.asarray(self.keys))
        split = jax.vmap(lambda key: jax.random.split(key, 4), out_axes=1)(keys)
        state, view = self.seen
        for candidates in (keys, *split):
            fresh_state, fresh_view = _parts(*reset(candidates), len(self.ended))
            # If every episode starts with the same observation, an end that shows it proves nothing.
            seen_again = (view.start != view.start[0]).any() and view.end_is(fresh_view, self.ended)
            if seen_again or state.end_is(fresh_state, self.ended):
                return True
        return False


def _parts(env_state: EnvState, step: TimeStep, episodes: int) -> list[Float[np.ndarray, "B D"]]:
    # The adapter's own count of transitions would hide a reset.
    own: Any = env_state.env_state if isinstance(env_state, AdapterState) else env_state
    return [numbers(own, episodes), numbers(step, episodes)]
