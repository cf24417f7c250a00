"""The axis legend and every state type.

Axes, in this order wherever several meet:

====  ==========================================================
K     seeds (and later hyper-parameter cells); only outside ``algorithm.py``
C     capacity of the replay, in sequences
T     slots of a sequence
M     sequences of a minibatch
B     parallel environments
N     agents
A     actions
O     observation features of one agent
G     features of the global state
H     hidden units of the recurrent agent
====  ==========================================================

Types are written for one seed and one sample; leading axes come from ``vmap`` and ``scan``.
They are NamedTuples: plain pytrees that are built by keyword and changed with ``_replace``.
"""

from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int, Key

EnvState = Any
"""Whatever an environment keeps between steps: any pytree of arrays."""


class TimeStep(NamedTuple):
    """What can be seen at one moment of an episode, before anyone acts."""

    obs: Float[Array, "*batch N O"]
    avail_actions: Bool[Array, "*batch N A"]
    state: Float[Array, "*batch G"]


class Outcome(NamedTuple):
    """What a joint action led to, apart from the next :class:`TimeStep`.

    ``discount`` is 0 where the episode truly ended and 1 otherwise; a time limit that is not part of
    the task leaves it at 1. ``last`` says that the episode is over, for either reason.
    ``won`` is only meaningful on the last transition of an environment with ``has_win_rate``.
    """

    reward: Float[Array, "*batch"]
    discount: Float[Array, "*batch"]
    last: Bool[Array, "*batch"]
    won: Bool[Array, "*batch"]


class Slot(NamedTuple):
    """One entry of a stored sequence.

    An episode of L transitions fills L + 1 slots. Slot t holds what was seen, the action taken there and that
    action's reward and discount. The last slot of an episode holds the true final observation, has ``mask`` 0 and
    is only there to bootstrap from; the slot after it starts a new episode with ``first`` set.
    The last slot of a sequence has nothing behind it, so its ``mask`` is 0 as well.
    """

    step: TimeStep
    action: Int[Array, "*batch N"]
    reward: Float[Array, "*batch"]
    discount: Float[Array, "*batch"]
    mask: Float[Array, "*batch"]
    first: Bool[Array, "*batch"]


class Replay(NamedTuple):
    """A ring of the newest C sequences."""

    slots: Any
    """Sequences ``[C, T]`` in the form they are kept in: see ``storage.py``."""
    priority: Float[Array, " C"]
    max_priority: Float[Array, ""]
    """The largest priority seen so far, that of new sequences."""
    cursor: Int[Array, ""]
    size: Int[Array, ""]


class Params(NamedTuple):
    """Parameters of the agent network and of the mixer (flax variable collections)."""

    agent: Any
    mixer: Any


class Statistics(NamedTuple):
    """Mean and variance of all numbers seen so far."""

    mean: Float[Array, ""]
    variance: Float[Array, ""]
    seen: Float[Array, ""]


class Learner(NamedTuple):
    """What gradient steps change."""

    online: Params
    target: Params
    opt_state: Any
    """Of all parameters of ``online`` as one vector."""
    updates: Int[Array, ""]
    target_episodes: Int[Array, ""]
    """Episodes that had ended when the target network was last copied; only used when its interval counts them."""
    nonfinite_update: Int[Array, ""]
    """The first update whose numbers were not finite, -1 so far; it was not taken, nor any after it."""
    max_reward: Float[Array, ""]
    """Largest ``|reward|`` that was learned from, as it enters the targets."""
    rewards: Statistics
    returns: Statistics
    """Of what was learned from; only used where rewards or returns are standardised."""


class Evaluation(NamedTuple):
    """Mean over the greedy episodes of one evaluation; ``win_rate`` is NaN where the environment has none."""

    episode_return: Float[Array, ""]
    win_rate: Float[Array, ""]
    episode_length: Float[Array, ""]


class Best(NamedTuple):
    """The agent with the highest greedy evaluation so far (win rate first, then return)."""

    agent: Any
    evaluation: Evaluation
    env_steps: Int[Array, ""]


class TrainState(NamedTuple):
    """All that one seed carries from one iteration to the next."""

    key: Key[Array, ""]
    replay: Replay
    learner: Learner
    best: Best
    env_steps: Int[Array, ""]
    episodes: Int[Array, ""]


class HyperParams(NamedTuple):
    """Numbers that may differ between seeds of one compiled program (traced scalars)."""

    learning_rate: Float[Array, ""]
    learning_rate_end: Float[Array, ""]
    learning_rate_steps: Float[Array, ""]
    """Environment steps over which the learning rate goes from start to end, linearly."""
    gamma: Float[Array, ""]
    td_lambda: Float[Array, ""]
    exploration_start: Float[Array, ""]
    exploration_end: Float[Array, ""]
    exploration_steps: Float[Array, ""]
    """Environment steps over which epsilon, or the temperature, goes from start to end."""
    target_update_interval: Int[Array, ""]
    target_tau: Float[Array, ""]
    max_grad_norm: Float[Array, ""]
    reward_scale: Float[Array, ""]
    priority_alpha: Float[Array, ""]
    priority_beta: Float[Array, ""]
    priority_beta_steps: Float[Array, ""]
    """Environment steps over which beta goes from ``priority_beta`` to 1, linearly."""
