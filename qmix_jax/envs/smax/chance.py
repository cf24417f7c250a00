"""What is left to chance: positions and types of all units as an episode begins, and the numbers of a transition."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from qmix_jax.envs.smax.rules import MAP_SIZE
from qmix_jax.envs.smax.scenarios import Scenario
from qmix_jax.envs.smax.units import JAXMARL_TYPES

NOISE = 2.0
CORNERS = np.asarray([[0, 0, 1, 1], [0, 1, 0, 1]], np.float32) * MAP_SIZE


def positions(key: Key[Array, ""], scenario: Scenario) -> Float[Array, "2 units"]:
    """Where the units of a scenario start, before those that overlap are pushed apart."""
    allies, enemies = len(scenario.allies), len(scenario.enemies)
    if scenario.random:
        return _random_positions(key, allies, enemies)
    places = np.asarray([scenario.allies_at, scenario.enemies_at], np.float32)
    centre = jnp.asarray(np.repeat(places, [allies, enemies], axis=0).T)
    spread = np.repeat(np.asarray(scenario.spread, np.float32), [allies, enemies])
    return centre + jax.random.uniform(key, (2, allies + enemies), minval=-1.0, maxval=1.0) * spread[None, :]


def random_types(key: Key[Array, ""], units: int) -> Int[Array, " units"]:
    """SMACv2's teams as in JaxMARL: any of its six types for each ally, and the same ones for the enemies."""
    side = jax.random.randint(key, (units // 2,), 0, JAXMARL_TYPES, jnp.int32)
    return jnp.concatenate([side, side])


def _random_positions(key: Key[Array, ""], allies: int, enemies: int) -> Float[Array, "2 units"]:
    """SMACv2's: half of the time one side surrounds the other, else the enemies stand as the allies' mirror image."""
    reflect_key, surround_key, mode_key = jax.random.split(key, 3)
    mode = jax.random.uniform(mode_key, (2,))
    half = np.asarray([[MAP_SIZE / 2], [MAP_SIZE]], np.float32)
    left = jax.random.uniform(reflect_key, (2, allies)) * half
    reflected = jnp.concatenate([left, jnp.stack([MAP_SIZE - left[0], left[1]])], axis=1)
    inside, outside = _surround(surround_key, allies, enemies)
    allies_inside = jnp.arange(allies + enemies) < allies
    inner = jnp.where(mode[1] < 0.5, allies_inside, ~allies_inside)
    return jnp.where(mode[0] < 0.5, jnp.where(inner[None, :], inside, outside), reflected)


def _surround(
    key: Key[Array, ""], allies: int, enemies: int
) -> tuple[Float[Array, "2 units"], Float[Array, "2 units"]]:
    """Places in the middle of the map, and in groups on the ways from its four corners to the middle."""
    noise_key, group_key, way_key = jax.random.split(key, 3)
    units = allies + enemies
    noise = jax.random.uniform(noise_key, (2, units), minval=-NOISE, maxval=NOISE)
    group = jax.random.randint(group_key, (units,), 0, CORNERS.shape[1])
    way = jax.random.uniform(way_key, (CORNERS.shape[1],))
    middle = MAP_SIZE / 2
    groups = way[None, :] * middle + (1 - way[None, :]) * CORNERS
    return middle + noise, groups[:, group] + noise


def uniform(key: Key[Array, ""], count: int) -> Float[Array, " count"]:
    """Numbers in [0, 1): the key's two words and each number's place, mixed by MurmurHash3's finaliser.

    On a CPU ``jax.random.uniform`` is a loop over small operations: 7% of a step of 3m, and a sixth of its compiling.
    """
    words = jax.random.key_data(key)
    bits = jnp.arange(count, dtype=jnp.uint32) * np.uint32(0x9E3779B9) + words[0]
    for word in (words[-1], np.uint32(0)):
        bits = (bits ^ (bits >> 16)) * np.uint32(0x85EBCA6B)
        bits = (bits ^ (bits >> 13)) * np.uint32(0xC2B2AE35)
        bits = (bits ^ (bits >> 16)) ^ word
    return (bits >> 8).astype(jnp.float32) * np.float32(2.0**-24)
