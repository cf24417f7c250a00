"""Values of stored slots: of every action, of chosen actions, and of the team."""

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from qmix_jax.acting.explore import masked_argmax
from qmix_jax.mixers.base import MixerInput
from qmix_jax.networks.agents import NO_ACTION, AnyAgent, act, last_actions, unroll
from qmix_jax.types import Slot, Start, TimeStep


def action_values(agent: AnyAgent, agent_params: Any, batch: Slot, start: Start | None) -> Float[Array, "T M N A"]:
    """``Q_a`` of every action in every slot, from a fresh hidden state at the start of each episode.

    Sequences that began in mid-episode go on from what ``start`` says: of a minibatch it is ``minibatch.start``. None
    is for sequences that begin with an episode.
    """
    return unroll(agent, agent_params, *unroll_inputs(agent, agent_params, batch, start))


def unroll_inputs(
    agent: AnyAgent, agent_params: Any, batch: Slot, start: Start | None
) -> tuple[Array, Array, Array] | tuple[Array, Array, Array, Array]:
    """What ``unroll`` and ``outputs`` of an agent take: observations, last actions, starts of episodes, hidden state.

    The hidden state is that of ``start`` after its burn-in slots, without a gradient; left out without a ``start``.
    """
    if start is None:
        return batch.step.obs, last_actions(batch.action, batch.first), batch.first
    hidden, last_action = _burnt_in(agent, agent_params, start)
    actions = last_actions(batch.action, batch.first, last_action)
    return batch.step.obs, actions, batch.first, jax.lax.stop_gradient(hidden)


def _burnt_in(agent: AnyAgent, agent_params: Any, start: Start) -> tuple[Float[Array, "M N H"], Int[Array, "M N"]]:
    """Hidden state and last action after the burn-in slots (Kapturowski et al. 2019, section 3)."""
    slots: Slot | None = start.burn_in
    if slots is None:
        return start.hidden, start.last_action
    fresh = agent.initial_hidden(slots.first.shape[1])
    agent_params = jax.lax.stop_gradient(agent_params)

    def step(carry: tuple[Array, Array], slot: Slot) -> tuple[tuple[Array, Array], None]:
        first = slot.first[:, None]
        hidden = jnp.where(first[..., None], fresh, carry[0])
        hidden, _ = act(agent, agent_params, hidden, slot.step.obs, jnp.where(first, NO_ACTION, carry[1]))
        return (hidden, slot.action), None

    return jax.lax.scan(step, (start.hidden, start.last_action), slots)[0]


def chosen_values(
    q: Float[Array, "*batch N A"], action: Int[Array, "*batch N"], num_actions: int
) -> Float[Array, "*batch N"]:
    """Values of the given actions, as a product with one-hot vectors: gathering has a slow gradient on CPU."""
    return (q * jax.nn.one_hot(action, num_actions, dtype=q.dtype)).sum(axis=-1)


def mixer_inputs(q: Float[Array, "T M N A"], action: Int[Array, "T M N"], step: TimeStep) -> MixerInput:
    """What a mixer may read of the joint actions ``action``, ``[T, M, ...]``."""
    num_actions = q.shape[-1]
    return MixerInput(
        q=q,
        chosen=chosen_values(q, action, num_actions),
        greedy=chosen_values(q, masked_argmax(q, step.avail_actions), num_actions),
        action=action,
        avail_actions=step.avail_actions,
        state=step.state,
    )


def joint_values(mixer: nn.Module, mixer_params: Any, inputs: MixerInput) -> Float[Array, "T M *N"]:
    """``q_tot``; without a mixer the agents' own values."""

    def mix(inputs: MixerInput) -> Float[Array, "*N"]:
        return cast(Array, mixer.apply(mixer_params, inputs))

    # One flat axis of samples: with two, XLA's CPU backend halves the speed of the hypernetworks' gradients.
    flat = jax.vmap(mix)(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), inputs))
    return flat.reshape(*inputs.state.shape[:2], *flat.shape[1:])


def like(x: Float[Array, "T M *N"], q_tot: Float[Array, "T M *N"]) -> Float[Array, "T M *N"]:
    """``x`` with trailing axes of size one, to broadcast with ``q_tot``."""
    return x.reshape(x.shape + (1,) * (q_tot.ndim - x.ndim))
