"""What is particular to each of jumanji's cooperative games: its parts, what agents see, the state, what ends it.

Observations that jumanji gives for the whole game (Connector, Cleaner) become one for each agent, in which its own
places are apart from the others'.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Game(NamedTuple):
    """One game.

    ``see(env, observation)`` gives ``obs [N, O]`` and, where it is not the observations in a row, the state ``[G]``.
    ``won(env, state)`` is about a state at the end of an episode; ``ended(env, state, timestep)`` says whether an
    episode that is over has truly ended, where jumanji does not tell that from its time limit.
    """

    package: str
    """Below ``jumanji.environments.routing``."""
    kind: str
    generator: str
    """Dotted path below the package."""
    made_with: Mapping[str, Any]
    """Arguments of the generator, as registered by jumanji."""
    own: tuple[str, ...]
    """Arguments of the environment that may be set."""
    see: Callable[[Any, Any], tuple[Float[Array, "N O"], Float[Array, " G"] | None]]
    ended: Callable[[Any, Any, Any], Bool[Array, ""]]
    won: Callable[[Any, Any], Bool[Array, ""]] | None = None


def _views(env: Any, observation: Any) -> tuple[Float[Array, "N O"], None]:
    del env
    return observation.agents_view.astype(jnp.float32), None


def _no_discount(env: Any, state: Any, timestep: Any) -> Bool[Array, ""]:
    del env, state
    return (timestep.discount == 0).all()


def _before_the_limit(env: Any, state: Any, timestep: Any) -> Bool[Array, ""]:
    """An accident; jumanji calls running out of time a termination as well."""
    del timestep
    return state.step_count < env.time_limit


def _all_eaten(env: Any, state: Any) -> Bool[Array, ""]:
    del env
    return state.food_items.eaten.all()


def _see_connector(env: Any, observation: Any) -> tuple[Float[Array, "N O"], Float[Array, " G"]]:
    """Planes of the board: own path, head and target, and the others'. The state: all paths, heads and targets."""
    board = observation.grid
    what, owner = (board - 1) % 3, (board - 1) // 3
    planes = (what[None] == jnp.arange(3)[:, None, None]) & (board > 0)[None]
    mine = owner[None] == jnp.arange(env.num_agents)[:, None, None]
    own, others = planes[None] & mine[:, None], planes[None] & ~mine[:, None]
    obs = jnp.concatenate([own, others], axis=1).reshape(env.num_agents, -1)
    return obs.astype(jnp.float32), planes.reshape(-1).astype(jnp.float32)


def _all_connected(env: Any, state: Any) -> Bool[Array, ""]:
    del env
    return state.agents.connected.all()


def _see_cleaner(env: Any, observation: Any) -> tuple[Float[Array, "N O"], Float[Array, " G"]]:
    """Planes of the rooms: dirt, walls, oneself, the number of others. The state: dirt, walls, the number of agents."""
    dirt, walls = (observation.grid == value for value in (DIRTY, WALL))
    rows, columns = observation.agents_locations[:, 0], observation.agents_locations[:, 1]
    places = jnp.zeros((env.num_agents, *dirt.shape)).at[jnp.arange(env.num_agents), rows, columns].set(1.0)
    crowd = places.sum(axis=0)
    shared = jnp.broadcast_to(jnp.stack([dirt, walls]).astype(jnp.float32), (env.num_agents, 2, *dirt.shape))
    obs = jnp.concatenate([shared, places[:, None], (crowd - places)[:, None]], axis=1)
    return obs.reshape(env.num_agents, -1), jnp.concatenate([shared[0].ravel(), crowd.ravel()])


def _all_clean(env: Any, state: Any) -> Bool[Array, ""]:
    del env
    return ~(state.grid == DIRTY).any()


DIRTY, WALL = 0, 2
"""Jumanji's values of Cleaner's tiles."""

GAMES = {
    "LevelBasedForaging-v0": Game(
        package="lbf",
        kind="LevelBasedForaging",
        generator="generator.RandomGenerator",
        made_with={
            "grid_size": 8,
            "fov": 8,
            "num_agents": 2,
            "num_food": 2,
            "max_agent_level": 2,
            "force_coop": True,
        },
        own=("grid_observation", "normalize_reward", "penalty"),
        see=_views,
        ended=_no_discount,
        won=_all_eaten,
    ),
    "RobotWarehouse-v0": Game(
        package="robot_warehouse",
        kind="RobotWarehouse",
        generator="generator.RandomGenerator",
        made_with={
            "column_height": 8,
            "shelf_rows": 2,
            "shelf_columns": 3,
            "num_agents": 4,
            "sensor_range": 1,
            "request_queue_size": 8,
        },
        own=(),
        see=_views,
        ended=_before_the_limit,
    ),
    "Connector-v3": Game(
        package="connector",
        kind="Connector",
        generator="generator.RandomWalkGenerator",
        made_with={"grid_size": 10, "num_agents": 10},
        own=(),
        see=_see_connector,
        ended=_no_discount,
        won=_all_connected,
    ),
    "Cleaner-v0": Game(
        package="cleaner",
        kind="Cleaner",
        generator="generator.RandomGenerator",
        made_with={"num_rows": 10, "num_cols": 10, "num_agents": 3},
        own=("penalty_per_timestep",),
        see=_see_cleaner,
        ended=lambda env, state, timestep: _all_clean(env, state) | _before_the_limit(env, state, timestep),
        won=_all_clean,
    ),
}
"""By jumanji's id."""
