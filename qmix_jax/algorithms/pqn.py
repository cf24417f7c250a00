"""PQN: Q-learning without a replay and without a target network (Gallici et al. 2024).

Many environments play some steps from where they stand. The team's lambda returns are regressed on in a few passes over
these sequences, in minibatches cut along the environments, and the sequences are dropped. Returns bootstrap from the
network that is trained, as it is at each update::

    G_t = r_t + gamma discount_t ((1 - lambda) V_{t+1} + lambda G_{t+1})    V_t = mix(max_a Q_i(s_t, a))

Its parts are of use elsewhere too: ``replay=on_policy``, ``target.network=online``, ``rollout.sequences=continue``.
Normalised layers (``agent.norm=layer``) take the place of the target network's steadiness.
"""

import dataclasses

from qmix_jax.algorithms.base import Algorithm, TargetUpdate
from qmix_jax.algorithms.value_decomposition import ValueDecomposition
from qmix_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class PQN(ValueDecomposition):
    """Agents and a mixer, trained on lambda returns of themselves. Every mixer fits."""

    def check(self, algorithm: Algorithm) -> None:
        """Only without a replay and a target network; with either it is one of the other algorithms."""
        if not algorithm.on_policy:
            given = "replay=prioritised" if algorithm.prioritised else "replay.on_policy=false"
            raise ConfigError(f"{given}: PQN keeps no replay to sample from; leave replay=on_policy")
        if algorithm.target_update is not TargetUpdate.ONLINE:
            raise ConfigError("target.network=target: PQN has no target network; use target.network=online")
