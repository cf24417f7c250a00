"""Rollouts and greedy episodes where worker processes step the environments: the host's loop around a compiled policy.

What is collected is what ``rollout.py`` collects: the same slots, the same statistics.
"""

from contextlib import closing
from typing import Any, cast

import jax
import numpy as np
from jaxtyping import Array, Float

from qmix_jax.acting.explore import Exploration, epsilon_greedy
from qmix_jax.acting.greedy_episodes import Episodes
from qmix_jax.acting.hosted_policy import exploring, greedy
from qmix_jax.acting.hosted_slots import Continued, Place, Policy, Sums, padding
from qmix_jax.acting.preferences import MOST, NONE, Preferences
from qmix_jax.acting.rollout import RolloutStats, no_memory
from qmix_jax.envs.base import Env, Episode
from qmix_jax.envs.hosted.group import episode_seed
from qmix_jax.envs.hosted.pool import Moment
from qmix_jax.envs.hosted.team import IDLE, START, EnvError, Team
from qmix_jax.errors import ConfigError, in_a_line
from qmix_jax.networks.agents import NO_ACTION, AnyAgent
from qmix_jax.types import Slot, Start, empty_slots


class HostedActor:
    """Plays a policy in the worker processes of a hosted environment.

    The policy acts for all environments in one compiled call.

    Args:
        env: with ``hosted``.
        agent: the networks.
        num_envs: environments side by side.
        explore: how actions are explored when sequences are collected.
        preferences: of teams, for some steps, when sequences are collected.
    """

    def __init__(
        self,
        env: Env,
        agent: AnyAgent,
        num_envs: int,
        explore: Exploration = epsilon_greedy,
        preferences: Preferences = NONE,
    ) -> None:
        self._env = env
        self._agent = agent
        self._num_envs = num_envs
        self._preferences = preferences
        self._continued: Continued | None = None
        self._choose = jax.jit(exploring(agent, explore, preferences))
        self._choose_greedily = jax.jit(greedy(agent))

    def start(self) -> None:
        """Start the workers, which otherwise happens when they are needed."""
        self._pool.start()

    def compile(self, agent_params: Any, level: Float[Array, ""]) -> None:
        """Compile the policy with parameters like these; otherwise it happens at the first step."""
        slots = empty_slots(self._env, self._num_envs, 1, xp=np)
        obs, avail = (np.asarray(x)[:, 0] for x in slots.step[:2])
        hidden, action = self._beginning()
        moment = (agent_params, hidden, obs, avail.astype(np.int8), action, np.ones(self._num_envs, bool))
        self._choose_greedily(*moment)
        preference = self._preferences.none_yet(self._num_envs, self._env.num_actions)
        self._choose(*moment, preference, (level, np.float32(MOST)), jax.random.key(0), np.int32(0))

    @property
    def _pool(self) -> Any:
        return self._env.hosted.pool(self._num_envs)

    def collect(
        self,
        agent_params: Any,
        level: Float[Array, ""],
        seed: int,
        length: int,
        auto_reset: bool,
        chance: float | Float[Array, ""] = MOST,
    ) -> tuple[Slot, RolloutStats]:
        """Sequences ``[B, T]`` as :func:`qmix_jax.acting.rollout.collect` plays them; ``seed`` decides all of it.

        ``chance`` is that of preferences.

        Raises :class:`~qmix_jax.envs.hosted.team.EnvError` when the workers have failed too often.
        """
        policy = Policy(agent_params, (level, np.float32(chance)), jax.random.key(seed))
        return self._pool.playing(lambda: self._play(self._start(seed), policy, length, auto_reset)[1:3])

    def collect_on(
        self,
        agent_params: Any,
        level: Float[Array, ""],
        seed: int,
        length: int,
        window: int,
        chance: float | Float[Array, ""] = MOST,
    ) -> tuple[Slot, RolloutStats, Start]:
        """Sequences ``[B, W + T]`` that go on from those before, as :func:`qmix_jax.acting.continuing.collect_on`'s.

        Their first ``window`` slots are the last of the sequences before. The third result is what the agents
        remembered at the first slot. After greedy episodes or a failure, for which the workers leave what they play,
        episodes begin anew; so they do at the first call.
        """
        policy = Policy(agent_params, (level, np.float32(chance)), jax.random.key(seed))
        return self._pool.playing(lambda: self._play_on(policy, seed, length, window))

    def _play_on(self, policy: Policy, seed: int, length: int, window: int) -> tuple[Slot, RolloutStats, Start]:
        # If this call fails, the next one begins new episodes.
        continued, self._continued = self._continued, None
        if continued is None:
            place = self._start(seed)
            continued = Continued(place, padding(self._env, self._num_envs, window), place.memory)
        place, slots, stats, marked = self._play(continued.place, policy, length, True, length - 1 - window)
        slots = jax.tree.map(lambda old, new: np.concatenate([old, new], axis=1), continued.window, slots)
        # The last slot is not part of the window: it is the first of the next sequence.
        self._continued = Continued(place, jax.tree.map(lambda x: x[:, length - 1 : -1], slots), marked)
        return slots, stats, jax.tree.map(np.asarray, continued.start)

    def _start(self, seed: int) -> Place:
        """Fresh episodes everywhere."""
        count = self._num_envs
        hidden, action = self._beginning()
        return Place(
            now=_copied(self._pool.reset(seed)),
            hidden=hidden,
            action=action,
            preference=self._preferences.none_yet(count, self._env.num_actions),
            first=np.ones(count, bool),
            over=np.zeros(count, bool),
            returns=np.zeros(count, np.float32),
            lengths=np.zeros(count, np.int32),
        )

    def _play(
        self, place: Place, policy: Policy, length: int, auto_reset: bool, mark: int = 0
    ) -> tuple[Place, Slot, RolloutStats, Start]:
        """Play on from ``place``; where it leads, slots ``[B, T]``, statistics, and the memory at slot ``mark``."""
        pool, count = self._pool, self._num_envs
        slots, sums = cast(Any, empty_slots(self._env, count, length, xp=np)), Sums(self._env, place)
        now, hidden, action, preference, first, over, *_ = place
        agent_params, levels, key = policy
        marked = place.memory
        for time in range(length):
            slots.step.obs[:, time], slots.step.avail_actions[:, time], slots.step.state[:, time] = now[:3]
            slots.first[:, time] = first
            if time == mark:
                marked = Start(hidden, cast(Array, action))
            if time == length - 1:
                break
            hidden, chosen, preference = self._choose(
                agent_params, hidden, now.obs, now.avail, action, first, preference, levels, key, np.int32(time)
            )
            action = np.asarray(chosen)
            slots.action[:, time], slots.mask[:, time] = action, ~over
            now = pool.tick(_commands(action, over, START if auto_reset else IDLE))
            acted = ~over
            slots.reward[:, time] = np.where(acted.reshape(-1, *(1,) * (now.reward.ndim - 1)), now.reward, 0.0)
            ended = now.terminated.astype(bool) | (now.over.astype(bool) & self._env.hosted.limit_is_the_end)
            slots.discount[:, time] = np.where(acted, 1.0 - ended, 0.0)
            sums.add(acted, now)
            first = over & auto_reset
            over = (acted & now.over.astype(bool)) | (over & (not auto_reset))
        place = Place(_copied(now), hidden, action, preference, first, over, sums.returns, sums.lengths)
        return place, slots, sums.stats, marked

    def greedy_episodes(self, agent_params: Any, seed: int, episodes: int) -> Episodes:
        """``episodes`` greedy episodes; which they are depends on ``seed``, and every environment plays its share.

        A fixed share: counting those that finish first would favour short episodes.
        """
        return self._pool.playing(lambda: self._greedy_episodes(agent_params, seed, episodes))

    def _greedy_episodes(self, agent_params: Any, seed: int, episodes: int) -> Episodes:
        pool, count = self._pool, self._num_envs
        self._continued = None
        places = np.arange(count)
        returns, lengths, won = np.zeros(episodes, np.float32), np.zeros(episodes, np.int32), np.zeros(episodes, bool)
        now = _copied(pool.reset(seed))
        hidden, action = self._beginning()
        first, playing = np.ones(count, bool), places < episodes
        number = places.copy()
        while playing.any():
            hidden, chosen = self._choose_greedily(agent_params, hidden, now.obs, now.avail, action, first)
            action = np.asarray(chosen)
            now = pool.tick(_commands(action, ~playing, IDLE))
            numbers = number[playing]
            returns[numbers] += self._env.team_reward(now.reward)[playing]
            lengths[numbers] += 1
            over = playing & now.over.astype(bool)
            won[number[over]] = now.won[over].astype(bool)
            number = number + count * over
            playing = playing & (number < episodes)
            first = over & playing
            if first.any():
                now = pool.tick(_commands(np.full_like(action, IDLE), first, START))
        return Episodes(cast(Array, returns), cast(Array, lengths), cast(Array, won))

    def draw_episode(self, agent_params: Any, seed: int) -> Episode:
        """The first episode of ``greedy_episodes(agent_params, seed, ...)``, played in this process and drawn.

        Its states are the environment's own pictures. Raises :class:`ConfigError` where it draws none.
        """
        try:
            with closing(self._env.hosted.make_drawn_team()) as team:
                return self._draw_episode(agent_params, team, episode_seed(seed, 0))
        except Exception as error:  # An environment may raise anything.
            raise ConfigError(f"render: {self._env.name} cannot be drawn: {in_a_line(error)}") from error

    def _draw_episode(self, agent_params: Any, team: Team, seed: int) -> Episode:
        def picture() -> np.ndarray:
            drawn = team.door.draw()
            if np.ndim(drawn) != 3:
                raise EnvError("its render() returns no picture (rgb_array)")
            return np.array(drawn)

        view, hidden = team.reset(seed), self._agent.initial_hidden(1)
        chosen: Any = np.full((1, self._env.num_agents), NO_ACTION, np.int32)
        frames, actions, rewards, first, over = [picture()], [], [], np.ones(1, bool), False
        while not over:
            obs, avail = view.obs[None], view.avail.astype(np.int8)[None]
            hidden, chosen = self._choose_greedily(agent_params, hidden, obs, avail, chosen, first)
            actions.append(np.asarray(chosen)[0])
            result = team.step(actions[-1])
            frames.append(picture())
            rewards.append(float(np.sum(result.reward)))
            view, first, over = result.view, np.zeros(1, bool), result.terminated or result.truncated
        return Episode(frames, (), cast(Any, actions), rewards)

    def _beginning(self) -> tuple[Any, np.ndarray]:
        """What agents remember before an episode: nothing."""
        nothing = no_memory(self._agent, self._env.num_agents, self._num_envs)
        return nothing.hidden, np.asarray(nothing.last_action)


def _commands(action: np.ndarray, where: np.ndarray, command: int) -> np.ndarray:
    return np.where(where[:, None], command, action).astype(np.int32)


def _copied(moment: Moment) -> Moment:
    return Moment(*(x.copy() for x in moment))
