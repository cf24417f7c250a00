"""One side of a game with JaxMARL's interface, as an environment of its own."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from qmix_jax.envs.opponents.players import Players, make_players
from qmix_jax.errors import unknown_choice

OPPOSED = ("SimpleTagMPE", "SimpleWorldCommMPE", "SimpleCryptoMPE", "SimplePushMPE", "SimpleAdversaryMPE", "SMAX")
"""JaxMARL's classes whose sides have opposed rewards."""


class SideState(NamedTuple):
    """The whole game's state, what the other side sees, and what its players remember."""

    game: Any
    seen: Mapping[str, Array]
    memory: Any


def sides_of(env: Any) -> dict[str, tuple[str, ...]]:
    """The agents of each side of a game whose sides are opposed; nothing for other environments."""
    if type(env).__name__ not in OPPOSED:
        return {}
    if hasattr(env, "good_agents"):
        good = tuple(env.good_agents)
        return {"adversaries": tuple(agent for agent in env.agents if agent not in good), "good_agents": good}
    allies = tuple(agent for agent in env.agents if agent.startswith("ally"))
    return {"allies": allies, "enemies": tuple(agent for agent in env.agents if agent not in allies)}


class OneSide:
    """The agents of one side; the others act by ``players``, on what they observe.

    Args:
        env: the whole game.
        team: the side, one of the names of :func:`sides_of`.
        opponents: what plays the other side, see :func:`make_players`.

    Raises :class:`ConfigError` for a side that the game has not.
    """

    def __init__(self, env: Any, team: str, opponents: str) -> None:
        sides = sides_of(env)
        if team not in sides:
            raise unknown_choice("env.team", team, sides or ["null"])
        self.env = env
        self.agents = list(sides[team])
        self.others = [agent for agent in env.agents if agent not in self.agents]
        sizes, obs = self._sizes()
        self._obs_size, self._num_actions = sizes[1:]
        self._players: Players = make_players(opponents, sizes)
        if hasattr(env, "max_steps"):
            self.max_steps = env.max_steps
        if _has(env, "get_avail_actions", obs):
            self.get_avail_actions = lambda state: self._of_mine(env.get_avail_actions(state.game))

    def action_space(self, agent: str) -> Any:
        """As in the whole game."""
        return self.env.action_space(agent)

    def reset(self, key: Key[Array, ""]) -> tuple[dict[str, Array], SideState]:
        """Start a game."""
        obs, game = self.env.reset(key)
        return self._own_obs(obs), SideState(game, self._of_others(obs), self._players.start())

    def step_env(self, key: Key[Array, ""], state: SideState, actions: Mapping[str, Array]) -> tuple[Any, ...]:
        """Both sides act at once."""
        play_key, step_key = jax.random.split(key)
        seen = jnp.stack([self._padded(state.seen[agent], self._obs_size) for agent in self.others])
        memory, chosen = self._players.act(play_key, state.memory, seen, self._avail(state.game))
        theirs = {agent: chosen[place] for place, agent in enumerate(self.others)}
        both = {agent: {**actions, **theirs}[agent] for agent in self.env.agents}
        obs, game, rewards, dones, infos = self.env.step_env(step_key, state.game, both)
        own_dones = {**self._of_mine(dones), "__all__": dones["__all__"]}
        following = SideState(game, self._of_others(obs), memory)
        return self._own_obs(obs), following, self._of_mine(rewards), own_dones, infos

    def _avail(self, game: Any) -> Array:
        own = jnp.stack([jnp.arange(self._num_actions) < self.env.action_space(agent).n for agent in self.others])
        if not hasattr(self, "get_avail_actions"):
            return own
        told = self.env.get_avail_actions(game)
        return own & jnp.stack([self._padded(told[agent], self._num_actions) for agent in self.others]).astype(bool)

    def _sizes(self) -> tuple[tuple[int, int, int], Any]:
        obs, game = jax.eval_shape(self.env.reset, jax.random.key(0))
        actions = max(int(getattr(self.env.action_space(agent), "n", 1)) for agent in self.others)
        return (len(self.others), max(obs[agent].size for agent in self.others), actions), game

    @staticmethod
    def _padded(values: Array, size: int) -> Array:
        flat = jnp.ravel(values)
        return jnp.pad(flat, (0, size - flat.size))

    def _own_obs(self, obs: Mapping[str, Any]) -> dict[str, Any]:
        """With the state of the whole game, where it is told beside the observations."""
        told = {name: obs[name] for name in ("world_state",) if name in obs}
        return {**self._of_mine(obs), **told}

    def _of_mine(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {agent: values[agent] for agent in self.agents}

    def _of_others(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {agent: values[agent].astype(jnp.float32) for agent in self.others}


def of_the_game(name: str, function: Any) -> Any:
    """A function of the whole game's state (``known_of``), for one side's: its rule, or its renderer."""
    if name == "render":
        return lambda side, episode, path: function(
            side.env, episode._replace(env_states=[state.game for state in episode.env_states]), path
        )
    if name == "state":
        return lambda obs, state: function(obs, state.game)
    return lambda transition: function(transition._replace(before=transition.before.game, after=transition.after.game))


def _has(env: Any, method: str, game: Any) -> bool:
    """Whether a method is implemented; JaxMARL's base class only raises."""
    try:
        jax.eval_shape(getattr(env, method), game)
    except (AttributeError, NotImplementedError):
        return False
    return True
