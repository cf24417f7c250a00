"""Lanes whose environments are stepped by worker processes: the host collects, the device learns.

The same interface as :class:`qmix_jax.running.waves.Waves`, so that a run's session does not know the difference. All
lanes share the workers and take turns on one device. What is learned from is collected with the newest parameters, or,
with ``overlap``, while the device still learns from the batch before: with parameters (and an epsilon) that are one
iteration older. Neither then waits for the other.

Sequences continue within an epoch: the evaluation at its end takes the workers away from their episodes.
"""

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import jax
import numpy as np
from jax.sharding import PartitionSpec as P

from qmix_jax.acting.greedy_episodes import summarize
from qmix_jax.acting.hosted_rollout import HostedActor
from qmix_jax.acting.hosted_slots import zero_batch
from qmix_jax.acting.rollout import RolloutStats
from qmix_jax.algorithms import loop as qmix
from qmix_jax.algorithms.base import Algorithm
from qmix_jax.running.devices import tracing
from qmix_jax.running.programs.lanes import over_lanes
from qmix_jax.running.waves import Waves
from qmix_jax.types import Evaluation, HyperParams, Slot, Start, TrainState


class HostedWaves(Waves):
    """The compiled programs, the states of all lanes, and the policy that plays in the workers.

    Args:
        algorithm: the parts to compile; ``env.hosted`` makes the workers.
        hyper: as for ``Waves``.
        seeds: as for ``Waves``.
        seeds_per_device: of no meaning here.
        devices: the first one is used.
        overlap: collect while the device learns.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        hyper: HyperParams,
        seeds: list[int],
        seeds_per_device: int | None = None,
        devices: list[Any] | None = None,
        overlap: bool = False,
    ) -> None:
        devices = (jax.local_devices() if devices is None else devices)[:1]
        super().__init__(algorithm, hyper, seeds, 1, devices)
        algorithm = self.algorithm
        lanes, mesh = P("lanes"), self.mesh
        self._overlap = overlap
        self._begun = np.zeros(len(self.seeds), int)
        num_envs = algorithm.sizes.num_envs
        self._actor = HostedActor(algorithm.env, algorithm.agent, num_envs, algorithm.explore, algorithm.preferences)
        self._policy = jax.jit(functools.partial(_policy, algorithm))
        self._learn_function = over_lanes(
            mesh,
            lambda state, hyper, iteration, played: qmix.iterate(algorithm, hyper, state, iteration, played),
            (lanes, lanes, P(), lanes),
            donate_argnums=0,
        )
        self._end_epoch_function = over_lanes(
            mesh,
            lambda state, hyper, history, evaluation: qmix.end_epoch(algorithm, hyper, state, history, evaluation),
            (lanes, lanes, lanes, lanes),
            donate_argnums=0,
        )

    def describe(self) -> str:
        """Where the lanes run, for people."""
        pool = self.algorithm.env.hosted.pool(self.algorithm.sizes.num_envs)
        overlap = "while it learns" if self._overlap else "then learning"
        return (
            f"1 {self._devices[0].platform} device, one seed after the other; {pool.num_envs} environments in "
            f"{pool.workers} worker process(es), collecting {overlap}"
        )

    def compile(self) -> None:
        """Compile all programs, start the workers, and make the initial states unless there are others."""
        sizes = self.algorithm.sizes

        def one_lane(x: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((1, *np.shape(x)), x.dtype, sharding=self._sharding)

        with tracing():
            state = jax.tree.map(one_lane, self._one_state())
            hyper = jax.tree.map(lambda x: one_lane(x[0]), self.hyper)
            batch = (self.algorithm.env, self.algorithm.agent, sizes.num_envs, sizes.length)
            played = jax.tree.map(one_lane, zero_batch(*batch, sizes.window if sizes.continues else None))
            learn = self._learn_function.lower(state, hyper, jax.ShapeDtypeStruct((), np.int32), played)
            evaluation = Evaluation(*(cast(Any, one_lane(np.zeros((), np.float32))) for _ in Evaluation._fields))
            history = {
                name: one_lane(np.zeros(sizes.iterations_per_epoch, x.dtype)) for name, x in learn.out_info[1].items()
            }
            end = self._end_epoch_function.lower(state, hyper, history, evaluation)
        with ThreadPoolExecutor(2) as beside:
            compiled = [beside.submit(lowered.compile) for lowered in (learn, end)]
            if not self._states:
                self.start()
            # In this thread: workers end with the thread that has started them.
            self._actor.start()
            self._use(tuple(program.result() for program in compiled))
        agent, level, _ = self._policy_of(0)
        self._actor.compile(agent, level)

    def restore(self, snapshot: TrainState, epochs: int, env_steps: np.ndarray | None = None) -> None:
        """As for ``Waves``. A lane with other steps than ``env_steps`` failed in the middle of the epoch after them.

        It learns from a whole epoch again, but from other episodes.
        """
        super().restore(snapshot, epochs)
        begun = np.asarray(snapshot.env_steps)
        self._begun = np.where(begun == (begun if env_steps is None else env_steps), 0, begun)

    def epoch(self) -> dict[str, np.ndarray]:
        """Train every lane for one epoch and return the metrics on the host, ``[L]`` each.

        Raises :class:`~qmix_jax.envs.hosted.team.EnvError` when the workers have failed too often; all states are
        then whole, and some lanes are in the middle of this epoch.
        """
        metrics = [self._lane_epoch(lane) for lane in range(len(self.seeds))]
        self.epochs += 1
        return self._gather(metrics)

    def _lane_epoch(self, lane: int) -> dict[str, Any]:
        sizes, hyper = self.algorithm.sizes, self._hypers[lane]
        first = self.epochs * sizes.iterations_per_epoch
        policy, history = self._policy_of(lane), []
        learn, end = self._epoch
        more = [int(self._begun[lane])] if self._begun[lane] else []
        for iteration in range(first, first + sizes.iterations_per_epoch):
            played = self._collect(policy, training_seed(self.seeds[lane], iteration, *more))
            if self._overlap:
                policy = self._policy_of(lane)
            played = jax.device_put(jax.tree.map(lambda x: np.asarray(x)[None], played), self._sharding)
            self._states[lane], metrics = learn(self._states[lane], hyper, np.int32(iteration), played)
            if not self._overlap:
                policy = self._policy_of(lane)
            history.append(metrics)
        agent, *_ = self._policy_of(lane)
        seed = evaluation_seed(sizes.evaluation_seed)
        episodes = self._actor.greedy_episodes(agent, seed, sizes.evaluation_episodes)
        evaluation = jax.tree.map(lambda x: np.asarray(x)[None], summarize(self.algorithm.env, episodes))
        stacked = jax.tree.map(lambda *values: np.stack([np.asarray(x) for x in values], axis=1), *history)
        self._states[lane], metrics = end(self._states[lane], hyper, stacked, evaluation)
        self._begun[lane] = 0
        return metrics

    def _collect(self, policy: tuple[Any, Any, Any], seed: int) -> tuple[Slot, RolloutStats, Start | None]:
        sizes = self.algorithm.sizes
        agent, level, chance = policy
        if sizes.continues:
            return self._actor.collect_on(agent, level, seed, sizes.length, sizes.window, chance)
        return *self._actor.collect(agent, level, seed, sizes.length, sizes.auto_reset, chance), None

    def _policy_of(self, lane: int) -> tuple[Any, Any, Any]:
        """Parameters of the agents and the exploration's level, as they are now."""
        return self._policy(self._states[lane], self._hypers[lane])

    def only(self, places: np.ndarray) -> "HostedWaves":
        """These lanes alone, see ``Waves``."""
        others = super().only(places)
        assert isinstance(others, HostedWaves)
        others._overlap, others._begun = self._overlap, self._begun[places]
        return others


def _policy(algorithm: Algorithm, state: TrainState, hyper: HyperParams) -> tuple[Any, Any, Any]:
    """Of one lane with its axis ``[1, ...]``."""
    state, hyper = jax.tree.map(lambda x: x[0], (state, hyper))
    chance = algorithm.preferences.at(state.env_steps, hyper.preferences_end).chance
    return state.learner.online.agent, qmix.exploration_level(algorithm, hyper, state), chance


def training_seed(seed: int, iteration: int, *more: int) -> int:
    """What decides about the sequences of one iteration."""
    return _seed(seed, iteration + 1, *more)  # from 1 on: (seed, 0) is the same as (seed,), an evaluation's


def evaluation_seed(seed: int) -> int:
    """What decides about the episodes of every evaluation; no sequences have it."""
    return _seed(seed)


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
