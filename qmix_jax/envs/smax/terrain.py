"""Walls: rectangles that units on the ground walk around. They hide nobody and stop no shot.

What flies, and colossi, pass over them.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from qmix_jax.envs.smax.rules import DIRECTIONS, STOP, TICK, Rules, Terrain
from qmix_jax.envs.smax.units import Stats

BEYOND = 10.0
"""How far walls at the edge go on outside the map, so that nobody is pushed out there."""
SLACK = 0.9
"""The part of its radius that a unit keeps from walls when it looks for a way; it slides along them."""
DETOUR = 1000.0
OVER = -1.0
"""The margin of units that pass over walls."""


CHOKE = Terrain(
    walls=((15.0, -BEYOND, 17.0, 14.5), (15.0, 17.5, 17.0, 32.0 + BEYOND)), waypoints=((14.0, 16.0), (18.0, 16.0))
)
"""A passage 3 wide in the middle of the map: room for three zealots."""
CLIFF = Terrain(
    walls=((-BEYOND, 15.0, 4.0, 17.0), (7.0, 15.0, 25.0, 17.0), (28.0, 15.0, 32.0 + BEYOND, 17.0)),
    waypoints=((5.5, 14.0), (5.5, 18.0), (26.5, 14.0), (26.5, 18.0)),
)
"""A ledge from west to east with a ramp near either end."""


def keep_out(
    terrain: Terrain, stats: Stats, position: Float[Array, "2 units"], alive: Bool[Array, " units"]
) -> Float[Array, "2 units"]:
    """``position``, with units that are in a wall put back the shortest way."""
    x, y = position
    walks = ~(stats.flies | stats.climbs) & alive
    for left, bottom, right, top in terrain.walls:
        depths = [x - left, right - x, y - bottom, top - y]
        depth = jnp.stack([deep + stats.radius for deep in depths])
        inside = jnp.all(depth > 0, axis=0) & walks
        nearest = jnp.argmin(depth, axis=0)
        out = jnp.where(inside, jnp.min(depth, axis=0), 0.0)
        x = x + jnp.where(nearest == 0, -out, jnp.where(nearest == 1, out, 0.0))
        y = y + jnp.where(nearest == 2, -out, jnp.where(nearest == 3, out, 0.0))
    return jnp.stack([x, y])


def crosses(
    terrain: Terrain, start: Float[Array, "2 #*shape"], end: Float[Array, "2 #*shape"], margin: Float[Array, "#*shape"]
) -> Bool[Array, "*shape"]:
    """Whether the straight line from start to end comes nearer than ``margin`` to a wall.

    With a negative margin, that of units that pass over walls, it never does.
    """
    way = end - start
    way = jnp.where(jnp.abs(way) < 1e-6, 1e-6, way)
    found = jnp.zeros(jnp.broadcast_shapes(way.shape[1:], margin.shape), bool)
    for left, bottom, right, top in terrain.walls:
        first = jnp.stack([left - margin - start[0], bottom - margin - start[1]]) / way
        second = jnp.stack([right + margin - start[0], top + margin - start[1]]) / way
        enters = jnp.max(jnp.minimum(first, second), axis=0)
        leaves = jnp.min(jnp.maximum(first, second), axis=0)
        found = found | ((enters < leaves) & (leaves > 0) & (enters < 1))
    return found & (margin >= 0)


def within(terrain: Terrain, place: Float[Array, "2 *shape"], margin: Float[Array, "*shape"]) -> Bool[Array, "*shape"]:
    """Whether a place is in a wall, or nearer to one than ``margin``."""
    found = jnp.zeros(margin.shape, bool)
    for left, bottom, right, top in terrain.walls:
        x, y = place[0], place[1]
        across = (x > left - margin) & (x < right + margin)
        found = found | (across & (y > bottom - margin) & (y < top + margin))
    return found


def heading(
    rules: Rules, stats: Stats, units: slice, own: Float[Array, "2 some"], way: Float[Array, "2 some"]
) -> Int[Array, " some"]:
    """The move that leads some units, standing at ``own``, nearest along ``way``, around walls where there are any."""
    terrain = rules.terrain
    if not terrain.walls:
        return jnp.argmax(_similarity(way), axis=0).astype(jnp.int32)
    margin = jnp.where((stats.flies | stats.climbs)[units], OVER, SLACK * stats.radius[units])
    similarity = _similarity(around(terrain, own, own + way, margin))
    step = DIRECTIONS[:, :STOP, None] * (stats.speed[units] * TICK * rules.ticks)[None, None, :]
    blocked = crosses(terrain, own[:, None, :], own[:, None, :] + step, margin[None, :])
    return jnp.argmax(jnp.where(blocked, -DETOUR, similarity), axis=0).astype(jnp.int32)


def around(
    terrain: Terrain, own: Float[Array, "2 some"], goal: Float[Array, "2 some"], margin: Float[Array, " some"]
) -> Float[Array, "2 some"]:
    """Where to go first on the way to a goal, as seen from ``own``: straight on, or to one of the waypoints.

    The way leads over at most two of them; each leg that crosses a wall counts as a long detour. Who stands in a wall
    is walked up to.
    """
    points = jnp.asarray(np.asarray(terrain.waypoints, np.float32).T)

    def leg(start: Array, end: Array) -> Array:
        length = jnp.sqrt(jnp.sum((end - start) ** 2, axis=0))
        wide = margin.reshape(*(1,) * (length.ndim - 1), -1)
        return length + jnp.where(crosses(terrain, start, end, wide), DETOUR, 0.0)

    last = leg(points[:, :, None], goal[:, None, :])
    between = leg(points[:, :, None, None], points[:, None, :, None])
    rest = jnp.minimum(last, jnp.min(between + last[None, :, :], axis=1))
    first = jnp.argmin(leg(own[:, None, :], points[:, :, None]) + rest, axis=0)
    blocked = crosses(terrain, own, goal, margin) & ~within(terrain, goal, margin)
    return jnp.where(blocked[None, :], points[:, first] - own, goal - own)


def _similarity(way: Float[Array, "2 some"]) -> Float[Array, "4 some"]:
    return jnp.sum(DIRECTIONS[:, :STOP, None] * way[:, None, :], axis=0)
