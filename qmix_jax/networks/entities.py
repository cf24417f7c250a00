"""Recurrent agents that see other entities as sets, and whose actions name them."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from qmix_jax.errors import ConfigError
from qmix_jax.networks.agents import Initializer, RecurrentAgent
from qmix_jax.networks.linear import add_bias, product, uniform_fan_in
from qmix_jax.types import Entities, EntityRows, Perceived, Targets


class EntityAgent(RecurrentAgent):
    """Embed every entity, sum over each kind, then dense, ReLU, GRU; an action on an entity is valued by its embedding.

    All entities of a kind share one dense layer with ReLU, so the order in which they are listed does not matter
    (Deep Sets, Zaheer et al. 2017, section 3)::

        e_k = relu(row_k W + b)                                  of each entity
        x   = [own numbers, sum of e_k over each kind, last action, id]    read by the first layer
        q_k = h . q + (h W_t + b_t) . e_k / sqrt(hidden_size)    of the action that names entity k

    The last line makes the value of naming an entity a function of that entity, the same for all (Wang et al. 2020,
    Action Semantics Networks; Hao et al. 2023, section 4). All other actions have values as those of
    :class:`RecurrentAgent`; so have all where actions name nobody.

    Attributes:
        entities: how an observation is made up.
    """

    entities: Entities = Entities(())

    @property
    def input_size(self) -> int:
        """The agent's own numbers and a sum of embeddings for each kind."""
        return sum(end - start for start, end in self._own()) + len(self.entities.kinds) * self.hidden_size

    def _own(self) -> list[tuple[int, int]]:
        """What lies between the rows of entities: starts and ends."""
        taken = sorted((kind.start, kind.end) for kind in self.entities.kinds)
        starts, ends = [0, *(end for _, end in taken)], [*(start for start, _ in taken), self.obs_size]
        return [(start, end) for start, end in zip(starts, ends, strict=True) if start < end]

    def setup_cell(self, initialize: Initializer) -> None:
        """The embeddings, the question that an agent asks of those it can name, and the GRU."""
        hidden = self.hidden_size
        self.embeddings = [self._embedding(index, kind.features) for index, kind in enumerate(self.entities.kinds)]
        if self.entities.targets is not None:
            self.target_kernel = self.param("target_kernel", initialize, (hidden, hidden))
            self.target_bias = self.param("target_bias", initialize, (hidden,))
        super().setup_cell(initialize)

    def _embedding(self, index: int, features: int) -> tuple[Array, Array]:
        draw = uniform_fan_in(features)
        kernel: Any = self.param(f"entity_{index}_kernel", draw, (features, self.hidden_size))
        bias: Any = self.param(f"entity_{index}_bias", draw, (self.hidden_size,))
        return kernel, bias

    def perceive(self, obs: Float[Array, "*batch O"]) -> Perceived:
        """The agent's own numbers with the sums of embeddings, and the embeddings of those that actions name."""
        rows = obs.reshape(-1, self.obs_size)
        embedded = []
        for (kernel, bias), kind in zip(self.embeddings, self.entities.kinds, strict=True):
            flat = rows[:, kind.start : kind.end].reshape(-1, kind.features)
            embedded.append(nn.relu(add_bias(flat @ kernel, bias)).reshape(-1, kind.rows, self.hidden_size))
        own = [rows[:, start:end] for start, end in self._own()]
        features = jnp.concatenate([*own, *(x.sum(axis=1) for x in embedded)], axis=1)
        features = features.reshape(*obs.shape[:-1], self.input_size)
        if self.entities.targets is None:
            return Perceived(features)
        targets = embedded[self.entities.targets]
        return Perceived(features, targets.reshape(*obs.shape[:-1], *targets.shape[1:]))

    def values(self, output: Float[Array, "*batch H"], targets: Targets) -> Float[Array, "*batch A"]:
        """As of every agent; where actions name entities, with what each of them adds."""
        q = super().values(output, None)
        if targets is None:
            return q
        question = add_bias(product(output.reshape(-1, self.hidden_size), self.target_kernel), self.target_bias)
        answer = (targets.reshape(-1, *targets.shape[-2:]) * question[:, None]).sum(axis=-1) * self.hidden_size**-0.5
        first, after = self.entities.first_target, self.entities.first_target + targets.shape[-2]
        # One number for all that can be named, unless some agents name others with these actions.
        common = q[..., first:after] if self.entities.mixed else q[..., first : first + 1]
        named = common + answer.reshape(*q.shape[:-1], after - first)
        return jnp.concatenate([q[..., :first], named, q[..., after:]], axis=-1)


FORM = (
    "{kinds: [[start, rows, features], ...]}, with targets (the kind that actions name, from 0 on) and first_target "
    "(the first of these actions) where actions name entities"
)


def entities_for(given: Any, env: Any) -> Entities:
    """``agent.entities`` for an ``Env``: what the user says, else what the environment says.

    Raises :class:`ConfigError` if nobody says it, for another form, and for rows or actions that there are not.
    """
    if given is None:
        if env.entities is None:
            raise ConfigError(
                f"agent.entities=null: {env.name} does not say which of an agent's {env.obs_size} numbers are of which "
                f"entity; give {FORM}, or use agent=gru"
            )
        return env.entities
    entities = _parsed(given)
    if entities is None:
        raise ConfigError(f"agent.entities={given}: must be {FORM}")
    _check_kinds(entities, env)
    if entities.targets is None:
        return entities
    if not 0 <= entities.targets < len(entities.kinds):
        raise ConfigError(f"agent.entities.targets={entities.targets}: must be one of the kinds, from 0 on")
    named = entities.kinds[entities.targets].rows
    if entities.first_target < 0 or entities.first_target + named > env.num_actions:
        raise ConfigError(
            f"agent.entities.first_target={entities.first_target}: {env.name} has actions 0 to {env.num_actions - 1}, "
            f"and {named} of them name entities"
        )
    return entities


def _check_kinds(entities: Entities, env: Any) -> None:
    """All rows are in an observation, and none in another."""
    for kind in entities.kinds:
        if kind.start < 0 or kind.rows < 1 or kind.features < 1 or kind.end > env.obs_size:
            raise ConfigError(
                f"agent.entities.kinds: {kind.rows} rows of {kind.features} from {kind.start} on are not in the "
                f"{env.obs_size} numbers that an agent of {env.name} observes"
            )
    for before, after in pairwise(sorted(entities.kinds)):
        if after.start < before.end:
            raise ConfigError(
                f"agent.entities.kinds: rows from {after.start} on begin before {before.end}, where others end"
            )


def _parsed(given: Any) -> Entities | None:
    """None for another form."""
    if not isinstance(given, Mapping) or "kinds" not in given or not set(given) <= set(Entities._fields):
        return None
    if ("targets" in given) != ("first_target" in given):
        return None
    kinds, targets, mixed = given["kinds"], given.get("targets"), given.get("mixed", False)
    first_target = given.get("first_target", 0)
    rows = [row for row in kinds if isinstance(row, list | tuple) and len(row) == 3] if isinstance(kinds, list) else []
    numbers = [0 if targets is None else targets, first_target, *(number for row in rows for number in row)]
    whole = all(type(number) is int for number in numbers) and type(mixed) is bool
    if not rows or len(rows) != len(kinds) or not whole:
        return None
    return Entities(tuple(EntityRows(*row) for row in rows), targets, first_target, mixed)
