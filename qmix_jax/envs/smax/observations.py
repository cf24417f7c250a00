"""What the allies see, the state, and which actions are available."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from qmix_jax.envs.smax.rules import MAP_SIZE, MOVES, STOP, Battle, Rules, may_target, naming_distances, separations
from qmix_jax.envs.smax.slots import by_slot, num_slots
from qmix_jax.envs.smax.units import MAX_ENERGY, Stats
from qmix_jax.types import Entities, EntityRows

SECTIONS = 32
PER_SECTION = 2
"""The conic observation: units shown in each of the sections around the observer."""
OUT_OF_SIGHT = 1e4


def unit_features(
    rules: Rules,
    stats: Stats,
    battle: Battle,
    one_hot: Float[Array, "units types"],
    last_move: Float[Array, "2 units"],
    last_action: Int[Array, " units"],
    see_enemy_actions: bool,
) -> Float[Array, "units features"]:
    """What every ally is told of a unit that it sees: health, then (after where it is, which depends on the observer)
    last movement (x, y), last target, cooldown (a healer's energy), shield (in battles with shields) and the type.
    """
    enemy = np.arange(len(stats.health)) >= rules.num_allies
    largest = np.where(enemy, last_slot(rules, stats, 1), last_slot(rules, stats, 0)).astype(np.float32)
    targeted = jnp.where(last_action >= MOVES, last_action, 0) / largest
    did = jnp.stack([last_move[0], last_move[1], targeted])
    did = did if see_enemy_actions else jnp.where(enemy[None, :], 0.0, did)
    columns = jnp.stack(
        [battle.health / stats.health, *did, charge(rules, stats, battle), *shields(stats, battle)], axis=1
    )
    return jnp.concatenate([columns, one_hot], axis=1)


def last_slot(rules: Rules, stats: Stats, side: int) -> int:
    """The largest action of a side."""
    return MOVES - 1 + num_slots(rules, stats, side)


def charge(rules: Rules, stats: Stats, battle: Battle) -> Float[Array, " units"]:
    """How much of its cooldown a unit still waits for; of healers, how much of its energy it has."""
    waits = jnp.clip(battle.cooldown / stats.cooldown, 0.0, 1.0)
    return jnp.where(stats.heals, battle.energy / MAX_ENERGY, waits) if rules.heals else waits


def shields(stats: Stats, battle: Battle) -> list[Float[Array, " units"]]:
    """How much of its shield each unit has, as one feature; none in battles without shields."""
    return [] if battle.shield is None else [battle.shield / jnp.maximum(stats.shield, 1.0)]


def own_features(
    rules: Rules, stats: Stats, battle: Battle, one_hot: Float[Array, "units types"]
) -> Float[Array, "units features"]:
    """What every unit is told of itself: health, place on the map, cooldown, shield and type; 0 for the dead."""
    x, y = battle.position / MAP_SIZE
    told = [battle.health / stats.health, x, y, charge(rules, stats, battle), *shields(stats, battle)]
    columns = jnp.stack(told, axis=1)
    return jnp.where((battle.health > 0)[:, None], jnp.concatenate([columns, one_hot], axis=1), 0.0)


def observe_list(
    rules: Rules, stats: Stats, battle: Battle, features: Float[Array, "units features"], own: Float[Array, "units own"]
) -> Float[Array, "allies obs"]:
    """A row for each other unit, 0 where it is dead or out of sight, and the observer's own features."""
    allies, units = rules.num_allies, len(stats.health)
    told = features.shape[1] + 2
    # All rows of an observer are one flat axis, long enough for vector code; the last columns are of its own features.
    length = (units - 1) * told
    column = np.arange(length)[None, :]
    before = column < told * np.arange(allies)[:, None]
    alive = (battle.health > 0)[None, :]
    # The dead are put out of sight, the living out of theirs.
    aside = jnp.where(alive, battle.position, OUT_OF_SIGHT)
    observer = jnp.where(alive, battle.position, -OUT_OF_SIGHT)[:, :allies, None]
    rows = jnp.concatenate([features[:, :1], jnp.zeros((units, 2)), features[:, 1:]], axis=1).reshape(-1)
    # Repeated by a product: XLA's CPU backend would repeat a broadcast again for every observer, without vector code.
    wide = jnp.matmul(aside, np.repeat(np.eye(units, dtype=np.float32), told, axis=1), precision="highest")

    def others(flat: Float[Array, " columns"]) -> Float[Array, "allies columns"]:
        """Without the observer itself: the units before it, then those after it."""
        return jnp.where(before, flat[None, :length], flat[None, told:])

    x, y, rows = others(wide[0]) - observer[0], others(wide[1]) - observer[1], others(rows)
    sight = jnp.asarray(stats.sight)[:allies, None]
    seen_x, seen_y, seen = x * (1 / sight), y * (1 / sight), jnp.sqrt(x * x + y * y) < sight
    rows = jnp.where(column % told == 1, seen_x, jnp.where(column % told == 2, seen_y, rows))
    return jnp.concatenate([jnp.where(seen, rows, 0.0), own[:allies]], axis=1)


def listed_entities(allies: int, units: int, obs_size: int, heals: bool = False) -> Entities:
    """How :func:`observe_list` makes up an observation of ``obs_size`` numbers."""
    # Of itself a unit is told three numbers less: not its last movement and last target.
    features, rest = divmod(obs_size + 3, units)
    assert rest == 0, (obs_size, units)
    others = allies - 1
    kinds = EntityRows(0, others, features), EntityRows(others * features, units - 1 - others, features)
    kinds = kinds if others else kinds[1:]
    return Entities(kinds, targets=len(kinds) - 1, first_target=MOVES, mixed=heals)


def observe_conic(
    rules: Rules, stats: Stats, battle: Battle, features: Float[Array, "units features"], own: Float[Array, "units own"]
) -> Float[Array, "allies obs"]:
    """The first ``PER_SECTION`` units in each of ``SECTIONS`` directions, and the observer's own features.

    As in JaxMARL the dead are seen, too, and the first ally is never seen by anybody.
    """
    allies, units = rules.num_allies, len(stats.health)
    sight = stats.sight[:allies]
    x, y, _ = separations(battle.position)
    x, y = x[:allies] / sight[:, None], y[:allies] / sight[:, None]
    angle = jnp.arctan(y / (x + 1e-8)) + (x < 0) * (2 * (y > 0) - 1) * np.pi
    section = jnp.floor((angle + np.pi) * (SECTIONS / (2 * np.pi)))
    listed = np.ones((allies, units), bool)
    listed[:, 0] = False
    np.fill_diagonal(listed, False)
    seen = listed & (x * x + y * y < 1)
    fits = seen[:, None, :] & (section[:, None, :] == np.arange(SECTIONS, dtype=np.float32)[None, :, None])
    rank = jnp.cumsum(fits, axis=2)
    places = np.arange(1, PER_SECTION + 1)[None, None, :, None]
    shown = (fits[:, :, None, :] & (rank[:, :, None, :] == places)).reshape(allies, SECTIONS * PER_SECTION, units)
    index = jnp.argmax(shown, axis=2)
    at = jnp.take_along_axis(x, index, axis=1), jnp.take_along_axis(y, index, axis=1)
    visible = jnp.any(shown, axis=2) & (battle.health[:allies] > 0)[:, None]
    rows = _rows(features[index], *at, visible)
    return jnp.concatenate([rows.reshape(allies, -1), own[:allies]], axis=1)


def _rows(
    features: Float[Array, "allies others told"],
    x: Float[Array, "allies others"],
    y: Float[Array, "allies others"],
    seen: Bool[Array, "allies others"],
) -> Float[Array, "allies others features"]:
    """Rows with the places of the others, in sights, as second and third feature; 0 for what is not seen."""
    # Masked before they are put together: XLA's CPU backend copies whole rows then, five times as fast.
    mask = seen.astype(jnp.float32)
    place = jnp.stack([x, y], axis=2) * mask[:, :, None]
    told = features * mask[:, :, None]
    return jnp.concatenate([told[:, :, :1], place, told[:, :, 1:]], axis=2)


def global_state(
    rules: Rules, stats: Stats, battle: Battle, types: Int[Array, " units"], own: Float[Array, "units own"]
) -> Float[Array, " state"]:
    """All units' own features, with the cooldown in seconds; then their sides and the numbers of their types."""
    units, num_types = len(stats.health), own.shape[1] - 4 - len(shields(stats, battle))
    waits = jnp.where(battle.health > 0, battle.cooldown, 0.0)
    waits = jnp.where(stats.heals, own[:, 3], waits) if rules.heals else waits
    rows = jnp.where(np.arange(own.shape[1])[None, :] == 3, waits[:, None], own)
    sides = jnp.asarray(np.arange(units) >= rules.num_allies, jnp.float32)
    return jnp.concatenate([rows.reshape(-1), sides, types.astype(jnp.float32) / (num_types - 1)])


def available(rules: Rules, stats: Stats, battle: Battle) -> Bool[Array, "allies actions"]:
    """Moves and targets in range for the living; all may stop."""
    _, _, distance = separations(battle.position)
    alive = battle.health > 0
    near = distance < naming_distances(rules, stats)
    in_range = near & alive[:, None] & alive[None, :] & may_target(rules, stats)
    (in_range,) = by_slot(rules, stats, 0, in_range)
    stops = np.arange(MOVES)[None, :] == STOP
    return jnp.concatenate([stops | alive[: rules.num_allies, None], in_range], axis=1)
