"""One update, and five, of weighted QMIX, QTRAN and QPLEX against what their authors' code computes.

``QMIX_JAX_GOLDEN_BEYOND_DIR`` names another folder than ``tests/golden/beyond``; sizes and options come from each
file. All is float64 and compared where it counts, as in ``test_pymarl_parity.py``.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from test_pymarl_parity import Case, assert_close, keeping_gradients, load, minibatch_of

from qmix_jax.algorithms import gradient_step
from qmix_jax.algorithms.base import Algorithm, Sizes
from qmix_jax.algorithms.qtran import QTRAN, QTRANNetworks
from qmix_jax.algorithms.value_decomposition import ValueDecomposition
from qmix_jax.algorithms.weighted_qmix import WeightedNetworks, WeightedQMIX
from qmix_jax.envs.base import Env
from qmix_jax.learning import optimizers, standardise, targets
from qmix_jax.learning.values import action_values, joint_values, mixer_inputs
from qmix_jax.mixers.qmix import QMIXMixer
from qmix_jax.mixers.qplex import QPLEXMixer
from qmix_jax.mixers.vdn import VDNMixer
from qmix_jax.networks.agents import RecurrentAgent
from qmix_jax.networks.pymarl_names import agent_from_pymarl, agent_to_pymarl, mixer_from_pymarl, mixer_to_pymarl
from qmix_jax.types import HyperParams, Learner, Params

FOLDER = Path(os.environ.get("QMIX_JAX_GOLDEN_BEYOND_DIR", Path(__file__).parents[1] / "golden/beyond"))
STEPS = 5
Arrays = dict[str, np.ndarray]


def build(case: Case) -> tuple[Algorithm, HyperParams]:
    meta, dims = case.meta, case.meta["dims"]
    agents, actions, state = dims["N"], dims["A"], dims["S"]
    method, mixer = {
        "qplex": qplex,
        "qtran": qtran,
        "ow_qmix": weighted,
        "cw_qmix": weighted,
    }[meta["algorithm"]](meta, agents, state)
    algorithm = Algorithm(
        method=method,
        env=Env("golden", agents, actions, dims["O"], state, dims["T"] - 1, None, None),
        agent=RecurrentAgent(
            obs_size=dims["O"],
            num_agents=agents,
            num_actions=actions,
            hidden_size=meta["rnn_hidden_dim"],
            last_action=meta["obs_last_action"],
            agent_id=meta["obs_agent_id"],
        ),
        mixer=mixer,
        target=targets.one_step,
        optimizer=keeping_gradients(optimizers.rmsprop(decay=meta["optim_alpha"], eps=meta["optim_eps"])),
        sizes=Sizes(*(0,) * 10),
        double_q=meta["double_q"],
    )
    algorithm.method.check(algorithm)
    hyper = HyperParams(*(0.0 for _ in HyperParams._fields))._replace(
        learning_rate=meta["lr"],
        gamma=meta["gamma"],
        max_grad_norm=meta["grad_norm_clip"],
        target_update_interval=1000,
        reward_scale=1.0,
    )
    return algorithm, hyper


def weighted(meta: dict, agents: int, state: int) -> tuple[WeightedQMIX, QMIXMixer]:
    method = WeightedQMIX(
        weighting="optimistic" if meta["hysteretic_qmix"] else "central",
        alpha=meta["w"],
        central_embed_size=meta["central_mixing_embed_dim"],
        central_hidden_size=meta["central_rnn_hidden_dim"],
        central_weight=meta["central_loss"],
        qmix_weight=meta["qmix_loss"],
    )
    sizes = {"hypernet_layers": meta["hypernet_layers"], "hypernet_size": meta["hypernet_embed"]}
    return method, QMIXMixer(agents, state, embed_size=meta["mixing_embed_dim"], **sizes)


def qtran(meta: dict, agents: int, state: int) -> tuple[QTRAN, VDNMixer]:
    method = QTRAN(
        joint={"qtran_paper": "hidden_states", "coma_critic": "actions"}[meta["qtran_arch"]],
        opt_weight=meta["opt_loss"],
        nopt_weight=meta["nopt_min_loss"],
        embed_size=meta["mixing_embed_dim"],
        layers={"small": 2, "big": 3}[meta["network_size"]],
    )
    return method, VDNMixer(agents, state)


def qplex(meta: dict, agents: int, state: int) -> tuple[ValueDecomposition, QPLEXMixer]:
    mixer = QPLEXMixer(
        agents,
        state,
        attention_layers=meta["adv_hypernet_layers"],
        attention_size=meta["adv_hypernet_embed"],
        heads=meta["num_kernel"],
        weighted_head=meta["weighted_head"],
        minus_one=meta["is_minus_one"],
        hypernet_size=meta["hypernet_embed"],
    )
    return ValueDecomposition(), mixer


# The authors' names and ours


def dense(state: Arrays, prefix: str) -> dict[str, Any]:
    """``nn.Sequential`` of linear layers with ReLU in between."""
    layers: dict[str, Any] = {}
    while (name := f"{prefix}.{2 * len(layers)}.weight") in state:
        bias = state[name.replace("weight", "bias")]
        layers[f"layer_{len(layers)}"] = {"kernel": state[name].T, "bias": bias}
    assert layers, prefix
    return layers


def dense_back(layers: dict[str, Any], prefix: str) -> Arrays:
    found = {}
    for index in range(len(layers)):
        layer = layers[f"layer_{index}"]
        found |= {f"{prefix}.{2 * index}.weight": layer["kernel"].T, f"{prefix}.{2 * index}.bias": layer["bias"]}
    return found


def attention(state: Arrays) -> dict[str, Any]:
    """The heads' networks, of which we have one stacked array for each layer."""
    found: dict[str, Any] = {}
    for name, ours in (("key", "key"), ("agents", "agent"), ("action", "action")):
        start = f"si_weight.{name}_extractors"
        heads = len({key.removeprefix(f"{start}.").split(".")[0] for key in state if key.startswith(start)})
        one_layer = f"{start}.0.weight" in state
        parts = [""] if one_layer else [f".{2 * i}" for i in range(3) if f"{start}.0.{2 * i}.weight" in state]
        for index, part in enumerate(parts):
            kernels = [state[f"{start}.{head}{part}.weight"].T for head in range(heads)]
            found[f"{ours}_kernel_{index}"] = np.stack(kernels)
            found[f"{ours}_bias_{index}"] = np.stack([state[f"{start}.{head}{part}.bias"] for head in range(heads)])
    return found


def attention_back(params: dict[str, Any], layers: int) -> Arrays:
    found = {}
    for name, ours in (("key", "key"), ("agents", "agent"), ("action", "action")):
        for index in range(layers):
            part = "" if layers == 1 else f".{2 * index}"
            for head, (kernel, bias) in enumerate(
                zip(params[f"{ours}_kernel_{index}"], params[f"{ours}_bias_{index}"], strict=True)
            ):
                start = f"si_weight.{name}_extractors.{head}{part}"
                found |= {f"{start}.weight": kernel.T, f"{start}.bias": bias}
    return found


def networks(case: Case, prefix: str) -> Any:
    """All parameters of a file in our layout. What the settings leave unused has no place in ours."""
    meta, dims = case.meta, case.meta["dims"]

    def state(part: str) -> Arrays:
        start = f"{prefix}/{part}."
        return {name.removeprefix(start): x for name, x in case.arrays.items() if name.startswith(start)}

    def agent(part: str) -> Any:
        return agent_from_pymarl(state(part), dims["O"], dims["A"], dims["N"])[0]

    mixer = state("mixer")
    if meta["algorithm"] == "qplex":
        params = attention(mixer)
        if meta["weighted_head"]:
            params |= {"weight": dense(mixer, "hyper_w_final"), "bias": dense(mixer, "V")}
        return Params(agent=agent("agent"), mixer={"params": params})
    if meta["algorithm"] == "qtran":
        params = {"joint_net": dense(mixer, "Q"), "value_net": dense(mixer, "V")}
        if meta["qtran_arch"] == "qtran_paper":
            params["encoder"] = dense(mixer, "action_encoding")
        return QTRANNetworks(agent=agent("agent"), joint={"params": params})
    central = state("central_mixer")
    return WeightedNetworks(
        agent=agent("agent"),
        mixer=mixer_from_pymarl(mixer),
        central_agent=agent("central_agent"),
        central_mixer={"params": {"net": dense(central, "net"), "value": dense(central, "V")}},
    )


def torch_names(case: Case, tree: Any) -> Arrays:
    """The inverse of :func:`networks`."""
    meta = case.meta
    parts = {"agent": agent_to_pymarl(tree.agent)}
    if meta["algorithm"] == "qplex":
        params = tree.mixer["params"]
        parts["mixer"] = attention_back(params, meta["adv_hypernet_layers"])
        if meta["weighted_head"]:
            parts["mixer"] |= dense_back(params["weight"], "hyper_w_final") | dense_back(params["bias"], "V")
    elif meta["algorithm"] == "qtran":
        params = tree.joint["params"]
        parts["mixer"] = dense_back(params["joint_net"], "Q") | dense_back(params["value_net"], "V")
        if "encoder" in params:
            parts["mixer"] |= dense_back(params["encoder"], "action_encoding")
    else:
        params = tree.central_mixer["params"]
        parts |= {
            "mixer": mixer_to_pymarl(tree.mixer),
            "central_agent": agent_to_pymarl(tree.central_agent),
            "central_mixer": dense_back(params["net"], "net") | dense_back(params["value"], "V"),
        }
    return {f"{part}.{name}": np.asarray(x) for part, state in parts.items() for name, x in state.items()}


# What is computed


class Computed(NamedTuple):
    outputs: dict[str, np.ndarray]
    """By the names of the files, ``[T, M, ...]``."""
    loss: np.ndarray
    gradients: Any
    online: list[Any]
    """After each of the five updates."""
    metrics: dict[str, np.ndarray]


def outputs_of(algorithm: Algorithm, hyper: HyperParams, learner: Learner, batch: Any) -> dict[str, jax.Array]:
    """Every intermediate result that a file may hold. Values of a later slot come first in time, as in the files."""
    agent, method, online, target = algorithm.agent, algorithm.method, learner.online, learner.target
    online_q, target_q = (action_values(agent, networks.agent, batch, None) for networks in (online, target))
    seen = {"agent_q": online_q, "target_agent_q": target_q}
    if isinstance(method, QTRAN):
        errors, _ = method.errors(algorithm, hyper, online, learner, batch)
        mask = batch.mask

        def mean(x: jax.Array) -> jax.Array:
            return (x**2 * mask).sum() / mask.sum()

        losses = {
            "td_loss": mean(errors.td),
            "opt_loss": mean(errors.opt),
            "nopt_loss": mean(jnp.minimum(errors.nopt, 0)),
        }
        seen |= {"joint_q": errors.joint_q, "opt_error": errors.opt, "nopt_error": errors.nopt, "targets": errors.y}
        return seen | losses | {"v": errors.v, "max_joint_q": errors.joint_greedy, "target_joint_q": errors.value[1:]}
    if isinstance(method, WeightedQMIX):
        central = method.central_agent(algorithm)
        values = method.values(algorithm, online, target, batch)
        y = one_step(hyper, batch, values.target)
        weights = method.weights(values, y)
        count = batch.mask.sum()
        return seen | {
            "central_q": action_values(central, online.central_agent, batch, None),
            "target_central_q": action_values(central, target.central_agent, batch, None),
            "q_tot": values.q_tot,
            "central_q_tot": values.central,
            "target_q_tot": values.target[1:],
            "max_action_q_tot": values.target,
            "is_greedy": values.is_greedy.astype(float),
            "targets": y,
            "weights": weights,
            "qmix_loss": (weights * (values.q_tot - y) ** 2 * batch.mask).sum() / count,
            "central_loss": ((values.central - y) ** 2 * batch.mask).sum() / count,
        }
    inputs = mixer_inputs(online_q, batch.action, batch.step)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), inputs)
    kept = jax.vmap(lambda row: algorithm.mixer.apply(online.mixer, row, mutable="intermediates")[1])(flat)
    kept = {name: x[0].reshape(*batch.mask.shape, *x[0].shape[1:]) for name, x in kept["intermediates"].items()}
    greedy = jnp.where(batch.step.avail_actions, online_q, -jnp.inf).argmax(axis=-1)
    value = joint_values(algorithm.mixer, target.mixer, mixer_inputs(target_q, greedy, batch.step))
    return seen | {
        "q_tot": joint_values(algorithm.mixer, online.mixer, inputs),
        "v_tot": kept["v_tot"],
        "adv_tot": kept["adv_tot"],
        "lambda": kept["lambda"],
        "target_q_tot": value[1:],
        "targets": one_step(hyper, batch, value),
    }


def one_step(hyper: HyperParams, batch: Any, value: jax.Array) -> jax.Array:
    following = jnp.concatenate([value[1:], value[-1:]])
    return batch.reward + hyper.gamma * batch.discount * following


def compute(case: Case) -> Computed:
    algorithm, hyper = build(case)
    update = jax.jit(lambda hyper, learner, minibatch: gradient_step.learn(algorithm, hyper, learner, minibatch))
    with jax.enable_x64(True):
        online, minibatch = networks(case, "online"), minibatch_of(case)
        vector, restore = ravel_pytree(online)
        learner = Learner(
            online=online,
            target=networks(case, "target"),
            opt_state=jax.jit(algorithm.optimizer.init)(vector),
            updates=np.int32(0),
            target_episodes=np.int32(0),
            nonfinite_update=np.int32(-1),
            max_reward=np.float64(0),
            rewards=standardise.init(),
            returns=standardise.init(),
        )
        forward = jax.jit(lambda *args: outputs_of(algorithm, *args))
        outputs = forward(hyper, learner, minibatch.slots)
        unclipped, _, _ = update(hyper._replace(max_grad_norm=np.inf), learner, minibatch)
        learners, metrics = [], []
        for _ in range(STEPS):
            learner, of_step, _ = update(hyper, learner, minibatch)
            learners.append(learner.online)
            metrics.append(of_step)
        computed = Computed(
            outputs=outputs,
            loss=metrics[0]["loss"],
            gradients=restore(unclipped.opt_state[1]),
            online=learners,
            metrics=jax.tree.map(lambda *x: np.stack(x), *metrics),
        )
        return jax.tree.map(np.asarray, computed)


@pytest.fixture(scope="module", params=[pytest.param(path, id=path.stem) for path in sorted(FOLDER.glob("*.npz"))])
def golden(request) -> tuple[Case, Computed]:
    case = load(request.param)
    return case, compute(case)


def test_the_folder_has_cases():
    assert len(list(FOLDER.glob("*.npz"))) >= (1 if "QMIX_JAX_GOLDEN_BEYOND_DIR" in os.environ else 6)


def test_every_intermediate_result(golden):
    case, computed = golden
    transitions, slots = case.arrays["out/mask"][..., 0] > 0, case.arrays["batch/filled"][..., 0] > 0
    names = [name.removeprefix("out/") for name in case.arrays if name.startswith("out/")]
    for name in sorted(set(names) - {"loss", "grad_norm", "mask"}):
        actual, expected = computed.outputs[name], case.arrays[f"out/{name}"].astype(np.float64)
        if expected.ndim:
            actual = np.swapaxes(actual, 0, 1)[:, : expected.shape[1]].reshape(expected.shape)
            counts = slots if expected.shape[1] == slots.shape[1] else transitions
            actual, expected = actual[counts], expected[counts]
        assert_close(actual, expected)


def test_loss_and_gradients(golden):
    case, computed = golden
    assert_close(computed.loss, case.arrays["out/loss"])
    jax.tree.map(assert_close, computed.gradients, networks(case, "grad"))
    assert_close(computed.metrics["grad_norm"][0], case.arrays["out/grad_norm"])


def test_parameters_after_one_step(golden):
    case, computed = golden
    before = networks(case, "online")
    # The change is compared, which is smaller than the parameters.
    jax.tree.map(lambda x, y, x0: assert_close(x - x0, y - x0), computed.online[0], networks(case, "after"), before)


def test_five_steps(golden):
    case, computed = golden
    for name in ("loss", "grad_norm"):
        assert_close(computed.metrics[name], case.arrays[f"steps/{name}"])
    after, start = torch_names(case, computed.online[-1]), torch_names(case, networks(case, "online"))
    stored = [name.removeprefix("after5/") for name in case.arrays if name.startswith("after5/")]
    assert len(stored) >= 4
    for name in stored:
        before = case.arrays[f"online/{name}"]
        if name in after:
            assert_close(after[name] - start[name], case.arrays[f"after5/{name}"] - before)
        else:  # a part that is not used, which ours has not
            np.testing.assert_array_equal(case.arrays[f"after5/{name}"], before)


def test_parameters_come_back_as_they_were(golden):
    case, _ = golden
    for name, x in torch_names(case, networks(case, "online")).items():
        np.testing.assert_array_equal(x, case.arrays[f"online/{name}"])
