"""Convert parameters between PyMARL's names and layouts and ours.

Works on the state dicts of PyMARL, PyMARL2 and EPyMARL (agents with a GRU or feed-forward; QMIX mixers with one- and
two-layer hypernetworks) as plain NumPy arrays. PyTorch stores a linear layer's weight as ``[out, in]``, so every kernel
here is a transposed weight. The agent's first layer is one matrix there and split by input here.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from qmix_jax.errors import ConfigError

StateDict = Mapping[str, np.ndarray]

GRU = {
    "gru_input_kernel": "rnn.weight_ih",
    "gru_input_bias": "rnn.bias_ih",
    "gru_hidden_kernel": "rnn.weight_hh",
    "gru_hidden_bias": "rnn.bias_hh",
}
FEED_FORWARD = {"second_kernel": "rnn.weight", "second_bias": "rnn.bias"}
COMMON = {"first_bias": "fc1.bias", "q_kernel": "fc2.weight", "q_bias": "fc2.bias"}
MIXER_ROLES = (
    {"w1": "hyper_w_1", "b1": "hyper_b_1", "w2": "hyper_w_final", "v": "V"},  # PyMARL, EPyMARL
    {"w1": "hyper_w1", "b1": "hyper_b1.0", "w2": "hyper_w2", "v": "hyper_b2"},  # PyMARL2
)


def agent_from_pymarl(
    state: StateDict, obs_size: int, num_actions: int, num_agents: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """An agent's parameters (``{"params": ...}``) and its settings.

    The width of the first layer tells whether the agent reads its last action and its id.

    Raises :class:`ConfigError` for arrays that do not belong to such an agent or do not fit these sizes.
    """
    names = COMMON | (GRU if "rnn.weight_ih" in state else FEED_FORWARD)
    _expect(state, {"fc1.weight", *names.values()}, "the agent")
    fc1 = np.asarray(state["fc1.weight"]).T
    # If there are as many actions as agents, a single extra input is taken to be the id, as in EPyMARL.
    inputs = {
        obs_size + last_action * num_actions + agent_id * num_agents: (last_action, agent_id)
        for agent_id in (False, True)
        for last_action in (False, True)
    }
    if len(fc1) not in inputs:
        raise ConfigError(
            f"the agent's first layer reads {len(fc1)} numbers; in this environment it must be one of "
            f"{', '.join(map(str, sorted(inputs)))} (observation {obs_size}, actions {num_actions}, "
            f"agents {num_agents})"
        )
    last_action, agent_id = inputs[len(fc1)]
    kernels = np.split(fc1, [obs_size, obs_size + last_action * num_actions])
    params = {ours: np.ascontiguousarray(np.asarray(state[theirs]).T) for ours, theirs in names.items()}
    params["obs_kernel"] = kernels[0]
    if last_action:
        params["last_action_kernel"] = kernels[1]
    if agent_id:
        params["agent_id_kernel"] = kernels[2]
    if len(params["q_bias"]) != num_actions:
        raise ConfigError(f"the agent has {len(params['q_bias'])} actions; this environment has {num_actions}")
    kind = "RecurrentAgent" if "rnn.weight_ih" in state else "FeedForwardAgent"
    settings = {
        "_target_": f"qmix_jax.networks.agents.{kind}",
        "hidden_size": fc1.shape[1],
        "last_action": last_action,
        "agent_id": agent_id,
    }
    return {"params": params}, settings


def agent_to_pymarl(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The state dict of an agent's parameters (``{"params": ...}``).

    Raises :class:`ConfigError` for networks that PyMARL does not have: an LSTM, layer norm, separate parameters.
    """
    ours = params["params"]
    names = COMMON | (GRU if "gru_input_kernel" in ours else FEED_FORWARD)
    kernels = [name for name in ("obs_kernel", "last_action_kernel", "agent_id_kernel") if name in ours]
    if set(ours) != {*names, *kernels} or np.ndim(ours["q_bias"]) != 1:
        raise ConfigError(
            "PyMARL has no such agent: only a GRU or feed-forward agent, with shared parameters and no layer norm"
        )
    state = {theirs: np.ascontiguousarray(np.asarray(ours[name]).T) for name, theirs in names.items()}
    state["fc1.weight"] = np.ascontiguousarray(np.concatenate([np.asarray(ours[name]) for name in kernels]).T)
    return state


def mixer_from_pymarl(state: StateDict) -> dict[str, Any]:
    """The parameters of :class:`qmix_jax.mixers.qmix.QMIXMixer`.

    Raises :class:`ConfigError` for arrays that do not belong to a QMIX mixer.
    """
    for roles in MIXER_ROLES:
        if any(name.startswith(f"{roles['w2']}.") for name in state):
            layers = mixer_layers(roles, two_layers=f"{roles['w1']}.2.weight" in state)
            _expect(state, {f"{theirs}.{kind}" for theirs in layers.values() for kind in ("weight", "bias")}, "a mixer")
            params = {
                ours: {
                    "kernel": np.ascontiguousarray(np.asarray(state[f"{theirs}.weight"]).T),
                    "bias": np.asarray(state[f"{theirs}.bias"]),
                }
                for ours, theirs in layers.items()
            }
            return {"params": params}
    raise ConfigError(f"these are not a QMIX mixer's arrays: {', '.join(sorted(state)[:6])}")


def mixer_to_pymarl(params: Mapping[str, Any], pymarl2: bool = False) -> dict[str, np.ndarray]:
    """The state dict of a QMIX mixer's parameters under PyMARL's (and EPyMARL's) names, or PyMARL2's."""
    ours = params["params"]
    state = {}
    for name, theirs in mixer_layers(MIXER_ROLES[pymarl2], two_layers="hyper_w1_hidden" in ours).items():
        state[f"{theirs}.weight"] = np.ascontiguousarray(np.asarray(ours[name]["kernel"]).T)
        state[f"{theirs}.bias"] = np.asarray(ours[name]["bias"])
    return state


def mixer_layers(roles: Mapping[str, str], two_layers: bool) -> dict[str, str]:
    """The mixer's dense layers: our names and PyMARL's."""
    layers = {"hyper_b1": roles["b1"], "value_hidden": f"{roles['v']}.0", "value": f"{roles['v']}.2"}
    for weight in ("w1", "w2"):
        role = roles[weight]
        layers |= (
            {f"hyper_{weight}_hidden": f"{role}.0", f"hyper_{weight}": f"{role}.2"}
            if two_layers
            else {f"hyper_{weight}": role}
        )
    return layers


def _expect(state: StateDict, names: set[str], what: str) -> None:
    missing, extra = sorted(names - set(state)), sorted(set(state) - names)
    if missing or extra:
        raise ConfigError(
            f"{what}'s arrays do not fit: missing {', '.join(missing) or 'none'}; unknown {', '.join(extra) or 'none'}"
        )
