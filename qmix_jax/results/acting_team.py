"""A saved policy that acts: for one team, for a batch of teams, or through whole episodes."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from qmix_jax.acting.explore import masked_argmax
from qmix_jax.envs.base import Env
from qmix_jax.envs.render import check_suffix
from qmix_jax.envs.settings import check_at_least
from qmix_jax.errors import ConfigError, writing
from qmix_jax.networks.agents import NO_ACTION, AnyAgent
from qmix_jax.results.confidence import Interval
from qmix_jax.results.play import Plan, compile_episodes, first_episode, play_team, result_rows
from qmix_jax.results.team import Choice, Team, load_team


class Memory(NamedTuple):
    """The agents' hidden states and last actions between steps; treat it as opaque."""

    hidden: Any
    """[..., N, H]"""
    last_action: Int[Array, "*batch N"]


class Evaluation(NamedTuple):
    """Greedy episodes of a policy: means with 95% intervals over episodes."""

    episodes: int
    episode_return: Interval
    win_rate: Interval | None
    """None if the environment has none."""
    episode_length: Interval

    def __repr__(self) -> str:
        shown = "; ".join(f"{name} {_written(found)}" for name, found in self._rows())
        return f"<{self._counted()}: {shown}>"

    def _repr_html_(self) -> str:
        body = "".join(
            f"<tr><td>{name}</td><td>{found.mean:.3g}</td><td>{_ends(found)}</td></tr>" for name, found in self._rows()
        )
        head = f"<tr><th>{self._counted()}</th><th>mean</th><th>95% interval</th></tr>"
        return f"<table>{head}{body}</table>"

    def _counted(self) -> str:
        return f"{self.episodes:,} greedy episode{'s' * (self.episodes > 1)}"

    def _rows(self) -> list[tuple[str, Interval]]:
        rows = {"return": self.episode_return, "win rate": self.win_rate, "length": self.episode_length}
        return [(name, found) for name, found in rows.items() if found is not None]


def _written(found: Interval) -> str:
    return f"{found.mean:.3g}" + (f" ({ends})" if (ends := _ends(found)) else "")


def _ends(found: Interval) -> str:
    """Nothing for a single episode, which has no interval."""
    return "" if math.isnan(found.low) else f"{found.low:.3g} to {found.high:.3g}"


class ActingTeam:
    """The agents of one policy and their environment."""

    def __init__(self, team: Team) -> None:
        (self.seed, self._params), *_ = team.policies.items()
        self._team = team._replace(policies={self.seed: self._params})  # the others of the run are not played

    @property
    def env(self) -> Env:
        """The environment that it plays in."""
        return self._team.env

    def start(self, batch: int | None = None) -> Memory:
        """The memory at the start of an episode, for ``batch`` teams, or for one team without a leading axis."""
        hidden = self._team.agent.initial_hidden()
        memory = Memory(hidden, jnp.full(self.env.num_agents, NO_ACTION, jnp.int32))
        return memory if batch is None else jax.tree.map(lambda x: jnp.broadcast_to(x, (batch, *x.shape)), memory)

    def act(
        self,
        obs: Float[Array, "*batch N O"],
        hidden: Memory | None,
        avail_actions: Bool[Array, "*batch N A"],
    ) -> tuple[Int[Array, "*batch N"], Memory]:
        """The greedy actions of one team or a batch of teams; each agent acts on its own observation and history.

        Args:
            obs: the observation of each agent.
            hidden: what ``act`` returned in the step before, None at the start of an episode.
            avail_actions: true for actions that may be chosen.

        Returns the actions, and the memory for the next step. Raises :class:`ConfigError` for arrays of another size,
        and for an agent without an available action.
        """
        obs, avail_actions = _array("obs", obs, jnp.float32), _array("avail_actions", avail_actions, bool)
        env = self.env
        for name, array, size in (("obs", obs, env.obs_size), ("avail_actions", avail_actions, env.num_actions)):
            if array.ndim not in (2, 3) or array.shape[-2:] != (env.num_agents, size) or array.ndim != obs.ndim:
                raise ConfigError(
                    f"{name}: has the shape {list(array.shape)}; {env.name} needs [{env.num_agents}, {size}], or that "
                    "with one leading axis for a batch"
                )
        if not isinstance(avail_actions, Tracer):
            stuck = np.argwhere(~np.any(avail_actions, axis=-1))
            if stuck.size:
                raise ConfigError(f"avail_actions: no action is available to agent {stuck[0, -1]}")
        memory = self.start(obs.shape[0] if obs.ndim == 3 else None) if hidden is None else hidden
        if not isinstance(memory, Memory):
            raise ConfigError(f"hidden: is a {type(memory).__name__}; give what act() returned, or None at the start")
        if memory.last_action.shape != obs.shape[:-1]:
            raise ConfigError(f"hidden: is of {list(memory.last_action.shape)} agents, obs of {list(obs.shape[:-1])}")
        return (_act if obs.ndim == 2 else _act_batch)(self._team.agent, self._params, obs, memory, avail_actions)

    def evaluate(self, episodes: int = 1000, *, seed: int = 1) -> Evaluation:
        """Play greedy episodes.

        Args:
            episodes: the number of episodes.
            seed: of the episodes, as ``evaluation_seed`` of ``python -m qmix_jax.evaluate``.

        Raises :class:`ConfigError` for an invalid number of episodes or seed.
        """
        for name, value, least in (("episodes", episodes, 1), ("seed", seed, 0)):
            check_at_least(name, value, least)
        plan = Plan(episodes, evaluation_seed=seed)
        row = result_rows(play_team(self._team, compile_episodes(self._team, plan), plan), self.env.has_win_rate)[0]
        return Evaluation(episodes, row["return"], row["win_rate"], row["episode_length"])

    def render(self, path: Path | str, *, seed: int = 1) -> Path:
        """Draw a greedy episode into a file: ``.gif`` for SMAX and MPE, ``.png`` or ``.md`` for games with tables.

        Raises :class:`ConfigError` for an environment that cannot be drawn, and a file that cannot be written.
        """
        path = Path(path)
        if self.env.render is None:
            raise ConfigError(f"{self.env.name} has nothing to draw episodes with")
        check_suffix(path, self.env.drawn_as)
        check_at_least("seed", seed, 0)
        if not path.parent.is_dir():
            raise ConfigError(f"{path}: there is no folder {path.parent}")
        with writing("render", path):
            self.env.render(first_episode(self._team, Plan(1, evaluation_seed=seed)), path)
        return path

    def __repr__(self) -> str:
        sizes = f"{self.env.num_agents} agents, {self.env.num_actions} actions"
        count = sum(np.size(x) for x in jax.tree.leaves(self._params))
        return f"<policy of seed {self.seed} for {self.env.name}: {sizes}, {count:,} parameters>"


def _array(name: str, value: object, dtype: Any) -> jax.Array:
    """Raises :class:`ConfigError` for what is no array of numbers."""
    try:
        return jnp.asarray(value, dtype)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}: is not an array of numbers, but a {type(value).__name__}") from error


def load_acting_team(choice: Choice, env: Env | None) -> ActingTeam:
    """The policy that :meth:`qmix_jax.results.opened.OpenedRun.policy` is asked for."""
    return ActingTeam(load_team(choice, env))


def _one(
    agent: AnyAgent, params: Any, obs: Float[Array, "N O"], memory: Memory, avail_actions: Bool[Array, "N A"]
) -> tuple[Int[Array, " N"], Memory]:
    hidden, q = cast(Any, agent.apply(params, memory.hidden, obs, memory.last_action))
    action = masked_argmax(q, avail_actions).astype(jnp.int32)
    return action, Memory(hidden, action)


_act = jax.jit(_one, static_argnums=0)
_act_batch = jax.jit(
    lambda agent, params, obs, memory, avail: jax.vmap(lambda *each: _one(agent, params, *each))(obs, memory, avail),
    static_argnums=0,
)


def load_players(run_dir: str, sizes: tuple[int, int, int]) -> tuple[Callable[[], Memory], Callable[..., Any]]:
    """The final policy of a run's first seed as the players of one side of a game (``envs/opponents/players.py``).

    ``sizes`` are agents, observation features and actions. Raises :class:`ConfigError` unless they are the policy's.
    """
    team = load_team(Choice(run_dir))
    env, agent = team.env, team.agent
    own = (env.num_agents, env.obs_size, env.num_actions)
    if own != sizes:
        raise ConfigError(
            f"env.opponents={run_dir}: plays {env.name} with (agents, observation, actions) {own}; the other side has "
            f"{sizes}"
        )
    params = next(iter(team.policies.values()))

    def act(
        key: Array, memory: Memory, obs: Float[Array, "N O"], avail_actions: Bool[Array, "N A"]
    ) -> tuple[Memory, Int[Array, " N"]]:
        del key
        action, memory = _one(agent, params, obs, memory, avail_actions)
        return memory, action

    return ActingTeam(team).start, act
