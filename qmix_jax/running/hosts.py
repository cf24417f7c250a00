"""Several processes, on one host or many, that train one run together on JAX's distributed runtime.

Every process trains its share of the lanes on its own devices and saves its own checkpoints; process 0 gathers the
metrics and reports. Nothing but metrics crosses the network.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from qmix_jax.errors import ConfigError
from qmix_jax.settings.config import DistributedConfig

WAIT_SECONDS = 300
"""How long processes wait for each other at the start."""


LEAVE_SECONDS = 3
"""How long the first process serves the others after all of them are done."""


class HostError(Exception):
    """Another process of the run is gone."""


class Hosts:
    """This process among all those of a run.

    Args:
        num_lanes: of the whole run.
        index: of this process.
        count: how many there are.
    """

    def __init__(self, num_lanes: int, index: int = 0, count: int = 1) -> None:
        if count > num_lanes:
            raise ConfigError(
                f"distributed.num_processes={count}: more than there are seeds and cells to train; use at most "
                f"{num_lanes}"
            )
        self.index = index
        self.count = count
        self._shares = np.array_split(np.arange(num_lanes), count)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that reports."""
        return self.index == 0

    @property
    def share(self) -> np.ndarray:
        """The lanes of this process."""
        return self._shares[self.index]

    def gather(self, own: Any) -> Any:
        """Arrays of the lanes of this process, ``[own lanes, ...]`` each, as those of all lanes, ``[L, ...]``.

        Must be called by all processes. Raises :class:`HostError` if one of them is gone.
        """
        if self.count == 1:
            return own
        import jax

        largest = len(self._shares[0])

        def padded(x: np.ndarray) -> np.ndarray:
            return np.concatenate([x, np.repeat(x[:1], largest - len(x), axis=0)])

        def joined(x: np.ndarray) -> np.ndarray:
            return np.concatenate([rows[: len(share)] for rows, share in zip(x, self._shares, strict=True)])

        # All in one: arrays of one dtype can be exchanged as one.
        return jax.tree.map(joined, self._exchange(jax.tree.map(padded, own)))

    def each(self, own: int) -> list[int]:
        """A number of every process. Must be called by all of them; raises :class:`HostError` if one is gone."""
        return [own] if self.count == 1 else self._exchange(np.asarray(own, np.int32)).tolist()

    def _exchange(self, tree: Any) -> Any:
        from jax.experimental import multihost_utils

        return self._guarded(lambda: multihost_utils.process_allgather(tree))

    def _guarded(self, exchange: Callable[[], Any]) -> Any:
        try:
            return exchange()
        except Exception as error:  # what the transport says of a lost peer differs from one to the next
            reason = " ".join(str(error).split())[:200]
            raise HostError(f"another process of this run does not answer ({reason})") from error


def connect(config: DistributedConfig, num_lanes: int) -> Hosts:
    """Join the other processes, if there are any to be; before JAX looks for devices.

    Raises :class:`ConfigError` where they are not found.
    """
    if config.coordinator is None and not config.auto:
        return Hosts(num_lanes)
    import jax

    # Without this the runtime ends the process, with a native trace, where another one is gone.
    jax.config.update("jax_enable_recoverability", True)
    try:
        jax.distributed.initialize(
            config.coordinator, config.num_processes, config.process_id, initialization_timeout=WAIT_SECONDS
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        where = "distributed.auto=true" if config.auto else f"distributed.coordinator={config.coordinator}"
        raise ConfigError(f"{where}: the processes of this run do not find each other: {reason}") from error
    hosts = Hosts(num_lanes, jax.process_index(), jax.process_count())
    hosts.each(0)  # Connects them; later, when one may still compile while another waits, there are 30 s for that.
    return hosts


def disconnect(hosts: Hosts) -> None:
    """Wait until all processes are done, and leave; the first one last, since it serves the others."""
    if hosts.count > 1:
        import jax

        hosts.each(0)
        time.sleep(LEAVE_SECONDS if hosts.is_first else 0)
        jax.distributed.shutdown()
