"""Every choice of every group makes an epoch that returns the state it was given.

The programs are traced, not compiled: this shows that the parts fit together, in seconds. What each part computes has
its own tests.
"""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from qmix_jax import make_algorithm
from qmix_jax.algorithms import loop as qmix

CONF = Path(__file__).parents[2] / "conf"
GROUPS = ("agent", "algorithm", "exploration", "mixer", "optimizer", "replay", "target")
CHOICES = [f"{group}={path.stem}" for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
COMBINATIONS = [
    ["agent.shared=false"],
    ["agent=lstm", "agent.shared=false", "mixer=none"],
    ["agent=feed_forward", "agent.norm=layer", "replay=prioritised", "replay.replacement=false"],
    ["mixer=none", "replay=prioritised", "reward.standardise=true", "reward.standardise_returns=true"],
    ["mixer=cross_channel", "mixer.learned=true", "target.update=soft", "learner.max_grad_norm=null"],
    ["algorithm=cw_qmix", "replay=prioritised", "algorithm.central_hidden_size=8", "agent.shared=false"],
    ["algorithm=qtran", "replay=prioritised", "agent.shared=false", "algorithm.joint=actions"],
    ["algorithm=qtran_alt", "agent=lstm", "reward.standardise_returns=true"],
    ["algorithm=qplex", "agent=feed_forward", "mixer.attention_layers=3", "mixer.weighted_head=false"],
    ["rollout.sequences=continue", "rollout.length=5", "learner.burn_in=2", "agent=lstm", "replay=prioritised"],
    ["rollout.sequences=continue", "learner.burn_in=1", "algorithm=ow_qmix", "algorithm.central_hidden_size=8"],
    ["rollout.sequences=continue", "learner.burn_in=1", "algorithm=qtran", "agent.shared=false"],
    ["rollout.sequences=continue", "algorithm=qplex", "replay=on_policy", "agent=feed_forward"],
    ["algorithm=pqn_vdn", "mixer=qplex", "rollout.sequences=fresh", "replay.memory_window=0", "agent=lstm"],
    ["algorithm=cw_qmix", "target.network=online", "reward.standardise_returns=true"],
    ["agent=lru", "agent.shared=false", "algorithm=qtran"],
    ["agent=cnn", "agent.shared=false", "rollout.sequences=continue", "learner.burn_in=1"],
    ["agent=entities", "agent.shared=false", "algorithm=qtran"],
    ["agent=entities", "rollout.sequences=continue", "rollout.length=5", "learner.burn_in=2"],
    ["agent=min_gru", "rollout.sequences=continue", "rollout.length=8", "learner.burn_in=2"],
    ["target.update_unit=episodes", "exploration.schedule=exponential", "learner.half_loss=true"],
]


def described(tree) -> list[tuple]:
    return [(x.shape, x.dtype, getattr(x, "weak_type", False)) for x in jax.tree.leaves(tree)]


@pytest.mark.parametrize("arguments", [[choice] for choice in CHOICES] + COMBINATIONS, ids=" ".join)
def test_an_epoch_gives_back_the_state_it_was_given(arguments):
    more = {
        "agent=cnn": ["agent.image_shape=[1,1,3]", "agent.stride=1"],
        "agent=entities": ["agent.entities={kinds: [[0, 2, 1]], targets: 0, first_target: 0}"],
    }
    given = [argument for choice, its in more.items() if choice in arguments for argument in its]
    algorithm, hyper = make_algorithm(["env=two_step", *arguments, *given])
    state = jax.eval_shape(lambda key: qmix.init(algorithm, key), jax.random.key(0))
    epoch = functools.partial(qmix.epoch, algorithm)
    after, metrics = jax.eval_shape(epoch, hyper, state, jnp.int32(0))
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert described(after) == described(state)
    level = "temperature" if "exploration=softmax" in arguments else "epsilon"
    assert {"loss", "grad_norm", "learning_rate", level} <= metrics.keys()
    assert all(x.shape == () for x in metrics.values())
