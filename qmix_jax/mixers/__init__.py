"""Mixers: from the agents' action values to what the loss compares with a target.

A mixer is a flax module called for one sample, ``mixer(inputs)`` with a :class:`qmix_jax.mixers.base.MixerInput`. It
returns ``q_tot[]``, or ``[N]`` where every agent learns on its own. Its first two fields are ``num_agents`` and
``state_size``; the rest comes from ``conf/mixer``.
"""
