"""Many seeds and settings in one process: waves of lanes over a mesh of devices.

A lane is one seed with its own hyper-parameters. A wave is ``devices * lanes_per_device`` lanes that run at once: the
lane axis is split over the devices with ``shard_map`` and mapped with ``vmap`` inside each. Further waves reuse the
compiled program one after the other, each with its own donated state. An accelerator takes all its lanes in one wave; a
CPU device takes one lane at a time, which is faster there than ``vmap`` and copies no replay. A lane's numbers do not
depend on which others run beside it, up to rounding.

Where there are more devices than lanes, several share a lane. Each holds the whole state and does all the work, except
that it learns from only some of a minibatch's parts (``learning/minibatch_parts.py``) and keeps only its part of a
large replay (``replay/shards.py``). That is another program for XLA, and its numbers may differ in the last digit.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from qmix_jax.algorithms import loop as qmix
from qmix_jax.algorithms.base import Algorithm
from qmix_jax.replay.shards import AXIS as PARTS
from qmix_jax.running.devices import tracing
from qmix_jax.running.programs.kept import KeptPrograms
from qmix_jax.running.programs.lanes import RUN_ONCE, compiler_options, over_lanes
from qmix_jax.running.snapshot import gather, place
from qmix_jax.types import Best, HyperParams, Networks, Replay, TrainState


class Waves:
    """The compiled programs and the states of all lanes.

    Args:
        algorithm: the parts to compile.
        hyper: hyper-parameters, numbers for all lanes or ``[L]``, one for each.
        seeds: the seed of each lane, ``L`` integers.
        seeds_per_device: how many lanes one device runs at once; ``None`` is all of them on an accelerator, one on CPU.
        devices: devices to use; ``None`` is all local ones, but no more than there is work for.
    """

    programs: KeptPrograms | None = None
    """Where traced programs are read from and kept, if anywhere."""

    def __init__(
        self,
        algorithm: Algorithm,
        hyper: HyperParams,
        seeds: list[int],
        seeds_per_device: int | None = None,
        devices: list[Any] | None = None,
    ) -> None:
        devices = jax.local_devices() if devices is None else devices
        self._layout = (seeds_per_device, devices)
        shared_by = devices_per_seed(algorithm.sizes.minibatch_parts, len(seeds), len(devices))
        sizes = algorithm.sizes._replace(devices_per_seed=shared_by)
        # After halving more devices may share a seed than can have equal parts of its replay.
        sizes = sizes._replace(shared_replay=sizes.shared_replay and sizes.capacity % shared_by == 0)
        algorithm = algorithm._replace(sizes=sizes)
        devices = devices[: len(seeds) * shared_by]
        if seeds_per_device is None:
            groups = len(devices) // shared_by
            seeds_per_device = 1 if devices[0].platform == "cpu" else math.ceil(len(seeds) / groups)
        self.algorithm = algorithm
        self.seeds = seeds
        self.wave_size = len(devices) // shared_by * seeds_per_device
        self.hyper: HyperParams = jax.tree.map(lambda x: np.broadcast_to(np.asarray(x), (len(seeds),)), hyper)
        mesh = self.mesh = Mesh(np.array(devices).reshape(-1, shared_by), ("lanes", PARTS))
        self._devices = devices
        self._sharding = NamedSharding(mesh, P("lanes"))
        spec = self._spec = _state_spec(algorithm.sizes.replay_devices > 1)
        self._init = over_lanes(mesh, lambda key: qmix.init(algorithm, key), (P("lanes"),), RUN_ONCE, spec)
        self._epoch_function = over_lanes(
            mesh,
            lambda state, hyper, iteration: qmix.epoch(algorithm, hyper, state, iteration),
            (spec, P("lanes"), P()),
            out_specs=(spec, P("lanes")),
            donate_argnums=0,
        )
        self._iterations_per_epoch = algorithm.sizes.iterations_per_epoch
        self._states: list[TrainState] = []
        self._hypers: list[HyperParams] = []
        self._epoch: Any = None
        self.epochs = 0

    def describe(self) -> str:
        """Where the lanes run, for people."""
        devices = self._devices
        shared_by = self.algorithm.sizes.devices_per_seed
        each = self.wave_size * shared_by // len(devices)
        waves = math.ceil(len(self.seeds) / self.wave_size)
        shared = f", {shared_by} sharing a seed's minibatches" if shared_by > 1 else ""
        return f"{len(devices)} {devices[0].platform} device(s), {each} at once on each{shared}, in {waves} wave(s)"

    def start(self) -> None:
        """Make the initial states."""
        for places in self._places():
            keys = jax.vmap(jax.random.key)(jnp.asarray(np.asarray(self.seeds)[places], jnp.uint32))
            self._states.append(self._init(jax.device_put(keys, self._sharding)))

    def compile(self) -> None:
        """Compile an epoch, and make the initial states unless there are others."""

        def whole_wave(x: jax.ShapeDtypeStruct, spec: Any = None) -> jax.ShapeDtypeStruct:
            sharding = NamedSharding(self.mesh, spec or P("lanes"))
            return jax.ShapeDtypeStruct((self.wave_size, *x.shape), x.dtype, sharding=sharding)

        # From shapes alone: the same program, found in the cache, whether states are new or from a checkpoint.
        with tracing():
            state = self._one_state()
            wave = jax.tree.map(whole_wave, state, self._specs(state))
            hyper = jax.tree.map(lambda x: whole_wave(jax.ShapeDtypeStruct((), x.dtype)), self.hyper)
            arguments = (wave, hyper, jax.ShapeDtypeStruct((), jnp.int32))
            if self.programs is not None:
                self._use_kept(self.programs, arguments)
            lowered = self._epoch_function.lower(*arguments)
        # Side by side: XLA leaves cores idle while it compiles one program.
        with ThreadPoolExecutor(1) as beside:
            started = None if self._states else beside.submit(self.start)
            self._use(lowered.compile())
        if started:
            started.result()

    def _use_kept(self, programs: KeptPrograms, arguments: tuple) -> None:
        """Take the programs from files, where they are."""
        sizes, options = self.algorithm.sizes, compiler_options(self.mesh)
        self._epoch_function = programs.epoch(
            self._epoch_function, arguments, sizes, compiler_options=options, donate_argnums=0
        )
        if not self._states:
            once = compiler_options(self.mesh, RUN_ONCE)
            self._init = programs.init(self._init, self._keys(), self._one_state(), sizes, compiler_options=once)

    def epoch(self) -> dict[str, np.ndarray]:
        """Train every lane for one epoch and return the metrics on the host, ``[L]`` each."""
        iteration = jnp.asarray(self.epochs * self._iterations_per_epoch, jnp.int32)
        waves = []
        for index, (state, hyper) in enumerate(zip(self._states, self._hypers, strict=True)):
            self._states[index], metrics = self._epoch(state, hyper, iteration)
            waves.append(metrics)
        self.epochs += 1
        return self._gather(waves)

    def online(self) -> Networks:
        """The present parameters of every lane, on the host, ``[L, ...]``."""
        return self._gather([state.learner.online for state in self._states])

    def best(self) -> Best:
        """The best agent of every lane and its evaluation, on the host, ``[L, ...]``."""
        return self._gather([state.best for state in self._states])

    def best_env_steps(self) -> np.ndarray:
        """The environment steps of every lane when its best agent was evaluated; ``[L]``."""
        return self._gather([state.best.env_steps for state in self._states])

    def nonfinite_updates(self) -> np.ndarray:
        """For every lane the first update whose numbers were not finite, or -1; ``[L]``."""
        return self._gather([state.learner.nonfinite_update for state in self._states])

    def snapshot(self, copy: bool = True) -> TrainState:
        """The whole state of every lane, ``[L, ...]``, for :meth:`restore`; PRNG keys are given as their data.

        Arrays are copied to the host one by one. Without ``copy`` large ones are not: they are a
        :class:`qmix_jax.running.snapshot.LaneArray`, to be read before the next epoch.
        """
        states = [jax.tree.map(_data, state) for state in self._states]
        return jax.tree.map(lambda *parts: gather(parts, len(self.seeds), copy), *states)

    def snapshot_like(self) -> TrainState:
        """Shapes and dtypes of :meth:`snapshot`."""
        one = jax.eval_shape(lambda state: jax.tree.map(_data, state), self._one_state())
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((len(self.seeds), *x.shape), x.dtype), one)

    def _one_state(self) -> TrainState:
        """Shapes and dtypes of one lane's state; traced by the program that makes it, which then need not be again."""
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), self._init.eval_shape(self._keys()))

    def _keys(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.wave_size,), jax.random.key(0).dtype, sharding=self._sharding)

    def _specs(self, state: TrainState) -> Any:
        """How every array of the state is spread over the devices."""
        return jax.tree.map(lambda spec, part: jax.tree.map(lambda _: spec, part), self._spec, state)

    def restore(self, snapshot: TrainState, epochs: int, env_steps: np.ndarray | None = None) -> None:
        """Go on from a :meth:`snapshot` that was taken after ``epochs`` epochs, on these or other devices.

        ``env_steps`` are those of every lane after these epochs, ``[L]``; see ``HostedWaves``.
        """
        del env_steps
        to_keys = jax.jit(jax.random.wrap_key_data, out_shardings=self._sharding)
        example = self._one_state()
        specs = self._specs(example)
        self._states.clear()
        for places in self._places():

            def put(like: Any, spec: P, x: np.ndarray, places: np.ndarray = places) -> Array:
                placed = place(x, places, NamedSharding(self.mesh, spec))
                return to_keys(placed) if jnp.issubdtype(like.dtype, jax.dtypes.prng_key) else placed

            self._states.append(jax.tree.map(put, example, specs, snapshot))
        self.epochs = epochs

    def only(self, places: np.ndarray) -> "Waves":
        """These lanes alone, with the states that they have here, if any; these waves are of no use afterwards.

        Compiled programs are kept where as many lanes run at once as before, else :meth:`compile` is to be called.
        """
        hyper = jax.tree.map(lambda x: x[places], self.hyper)
        others = type(self)(self.algorithm, hyper, [self.seeds[place] for place in places], *self._layout)
        others.programs = self.programs
        if self._states:
            snapshot = self.snapshot()
            self._states.clear()
            others.restore(jax.tree.map(lambda x: x[places], snapshot), self.epochs)
        if self._epoch is not None and others._devices == self._devices and others.wave_size == self.wave_size:
            others._use(self._epoch)
        return others

    @property
    def is_compiled(self) -> bool:
        """Whether :meth:`epoch` can be called."""
        return self._epoch is not None

    def _use(self, compiled: Any) -> None:
        self._epoch = compiled
        self._hypers = [self._of_wave(self.hyper, places) for places in self._places()]

    def _places(self) -> np.ndarray:
        """The lanes of each wave; the last is filled up with the first lane."""
        count = math.ceil(len(self.seeds) / self.wave_size) * self.wave_size
        places = np.zeros(count, int)
        places[: len(self.seeds)] = np.arange(len(self.seeds))
        return places.reshape(-1, self.wave_size)

    def _of_wave(self, tree: Any, places: np.ndarray) -> Any:
        """These lanes of arrays on the host, over the devices."""
        return jax.tree.map(lambda x: place(x, places, self._sharding), tree)

    def _gather(self, waves: list[Any]) -> Any:
        def join(*parts: Array) -> np.ndarray:
            return np.concatenate([np.asarray(part) for part in parts])[: len(self.seeds)]

        return jax.tree.map(join, *waves)


def _state_spec(shared_replay: bool) -> Any:
    """How states are spread over the devices: a prefix of the tree."""
    lanes: Any = P("lanes")
    if not shared_replay:
        return lanes
    replay = Replay(*(lanes for _ in Replay._fields))._replace(slots=cast(Any, P("lanes", PARTS)))
    return TrainState(*(lanes for _ in TrainState._fields))._replace(replay=replay)


def devices_per_seed(minibatch_parts: int, num_seeds: int, num_devices: int) -> int:
    """Devices that share a lane: as many as are free and its minibatch's parts can be dealt out to evenly."""
    free = max(1, num_devices // num_seeds)
    return max(count for count in range(1, minibatch_parts + 1) if minibatch_parts % count == 0 and count <= free)


def _data(x: Array) -> Array:
    return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def merged(before: np.ndarray | None, now: np.ndarray, active: np.ndarray) -> np.ndarray:
    """``now`` are the values of the active lanes; others keep what they had."""
    if before is None or active.all():
        return np.asarray(now)
    joined = before.copy()
    joined[active] = now
    return joined
