"""Committed exploration: for several steps in a row, a team prefers some actions over others.

Random actions that are drawn anew at every step never show what happens when a whole team walks the same way for ten
steps. With a preference it does: a random number for each action, the same for all agents of a team and for several
steps, is added to the action values before actions are chosen. Where actions are worth about the same, the team does
one thing together; where they are not, it acts as it has learned. To commit a team's exploration to something for a
while is the idea of MAVEN (Mahajan et al. 2019); a preference needs no network for it.

Only a share of the environments have preferences, and only half of the time, less and less as a run goes on; otherwise
the policy is as without.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

MOST = 0.5
"""The chance at the start of a run."""


class Drawn(NamedTuple):
    """What could be preferred from each step on, and when that happens; of one step or of several."""

    preference: Float[Array, "*steps B A"]
    renewed: Bool[Array, "*steps B"]


class Preferences(NamedTuple):
    """Settings of the preferences of teams. All but ``chance`` is static."""

    share: float = 0.0
    """Of the environments, the last ones, that have preferences; at 0 there are none."""
    smallest: float = 0.03
    """In units of the action values: the sizes are drawn between these two, each order of magnitude alike likely."""
    largest: float = 1.0
    steps: int = 10
    """On average until a preference gives way to another one, or to none. Each episode's first step begins one, too."""
    chance: float | Float[Array, ""] = MOST
    """Of each to be a preference and not none."""

    def environments(self, num_envs: int) -> int:
        """How many of them have preferences."""
        return round(self.share * num_envs)

    def at(self, env_steps: Int[Array, ""], until: Float[Array, ""] | float) -> "Preferences":
        """With the chance of now: it falls to 0 over ``until`` environment steps."""
        if not self.share:
            return self
        return self._replace(chance=MOST * jnp.clip(1 - env_steps / jnp.maximum(until, 1.0), 0.0, 1.0))

    def none_yet(self, num_envs: int, num_actions: int) -> Float[Array, "B A"] | None:
        """What is preferred before the first step; None where there are no preferences at all."""
        return jnp.zeros((num_envs, num_actions)) if self.environments(num_envs) else None

    def draw(self, key: Key[Array, ""], steps: int, num_envs: int, num_actions: int) -> Drawn | None:
        """Preferences for so many steps: standard Gumbel numbers times their sizes."""
        count = self.environments(num_envs)
        if not count:
            return None
        noise_key, size_key, none_key, renewed_key = jax.random.split(jax.random.fold_in(key, 1), 4)
        shape = (steps, num_envs)
        sizes = jnp.exp(jax.random.uniform(size_key, shape, minval=np.log(self.smallest), maxval=np.log(self.largest)))
        having = jax.random.bernoulli(none_key, self.chance, shape) & (jnp.arange(num_envs) >= num_envs - count)[None]
        noise = jax.random.gumbel(noise_key, (*shape, num_actions))
        return Drawn(noise * (sizes * having)[..., None], jax.random.bernoulli(renewed_key, 1 / self.steps, shape))


NONE = Preferences()
"""No environment has preferences."""


def held(
    preference: Float[Array, "B A"] | None, drawn: Drawn | None, first: Bool[Array, " B"]
) -> Float[Array, "B A"] | None:
    """The preference of this step from that of the step before; ``first`` where an episode begins."""
    if preference is None or drawn is None:
        return None
    return jnp.where((first | drawn.renewed)[:, None], drawn.preference, preference)


def preferred(q: Float[Array, "B N A"], preference: Float[Array, "B A"] | None) -> Float[Array, "B N A"]:
    """Action values with the team's preference, if it has one, added to those of every agent."""
    return q if preference is None else q + preference[:, None]
