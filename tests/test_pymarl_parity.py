"""One update, and five, against what the PyTorch implementations compute from the same batch and parameters.

``tests/golden`` holds the files whose algorithm exists here. Left out of the folder are two cases of pymarl2:

- ``pymarl2_qmix_qlambda``: there is no Q(lambda) target;
- ``pymarl2_qmix_per``: there is no prioritised replay.

``QMIX_JAX_GOLDEN_DIR`` names another folder; such cases in it are skipped with that reason. Everything is computed in
float64 by the functions that training uses, and compared where it counts. In padding, values differ: there the peers'
one-hot last action is all zeros, here it is the action stored.

PyMARL2's loss has a factor 1/2 and ours has none. Twice the loss has twice the gradient, and Adam with twice the
clipping norm and twice the eps then takes the same step.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import pytest
from toy_env import QUICKLY

from qmix_jax import algorithm as qmix
from qmix_jax import optimizers, targets
from qmix_jax.agents import RecurrentAgent
from qmix_jax.algorithm import Algorithm
from qmix_jax.envs.base import Env
from qmix_jax.mixers.independent import IndependentMixer
from qmix_jax.mixers.qmix import QMIXMixer
from qmix_jax.mixers.vdn import VDNMixer
from qmix_jax.types import HyperParams, Learner, Params, Slot, TimeStep

FOLDER = Path(os.environ.get("QMIX_JAX_GOLDEN_DIR", Path(__file__).parent / "golden"))
LEFT_OUT = {"q_lambda": "there is no Q(lambda) target", "use_per": "there is no prioritised replay"}
STEPS = 5
AGENT_FIELDS = {
    "first_bias": "agent.fc1.bias",
    "gru_input_kernel": "agent.rnn.weight_ih",
    "gru_input_bias": "agent.rnn.bias_ih",
    "gru_hidden_kernel": "agent.rnn.weight_hh",
    "gru_hidden_bias": "agent.rnn.bias_hh",
    "q_kernel": "agent.fc2.weight",
    "q_bias": "agent.fc2.bias",
}
MIXER_ROLES = {
    "hyper_w_1/hyper_b_1/hyper_w_final/V": {"w1": "hyper_w_1", "b1": "hyper_b_1", "w2": "hyper_w_final", "v": "V"},
    "hyper_w1/hyper_b1/hyper_w2/hyper_b2": {"w1": "hyper_w1", "b1": "hyper_b1.0", "w2": "hyper_w2", "v": "hyper_b2"},
    None: {},
}


class Case(NamedTuple):
    """A golden file: settings and arrays."""

    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def scale(self) -> float:
        """Our loss over the peer's."""
        return 2.0 if self.meta["loss_half"] else 1.0


class Computed(NamedTuple):
    """The same quantities from our functions, time first."""

    agent_q: np.ndarray
    target_agent_q: np.ndarray
    q_tot: np.ndarray
    value: np.ndarray
    targets: np.ndarray
    mask: np.ndarray
    loss: np.ndarray
    gradients: Params
    online: list[Params]
    """After each of the five updates."""
    metrics: dict[str, np.ndarray]


def load(path: Path) -> Case:
    with np.load(path) as file:
        arrays = dict(file)
    return Case(json.loads(str(arrays.pop("meta_json"))), arrays)


def golden_files() -> list:
    parameters = []
    for path in sorted(FOLDER.glob("*.npz")):
        meta = load(path).meta
        reasons = [reason for feature, reason in LEFT_OUT.items() if meta[feature]]
        marks = [pytest.mark.skip(reason=f"{path.stem}: {reason}") for reason in reasons]
        parameters.append(pytest.param(path, id=path.stem, marks=marks))
    return parameters


def build(case: Case) -> tuple[Algorithm, HyperParams]:
    meta, dims = case.meta, case.meta["dims"]
    agents, actions, state_size = dims["n_agents"], dims["n_actions"], dims["state_dim"]
    mixers = {
        None: lambda: IndependentMixer(agents, state_size),
        "vdn": lambda: VDNMixer(agents, state_size),
        "qmix": lambda: QMIXMixer(
            agents,
            state_size,
            embed_size=meta["mixing_embed_dim"],
            hypernet_layers=meta["hypernet_layers"],
            hypernet_size=meta["hypernet_embed"] or 1,  # not used by one layer
        ),
    }
    settings = meta["optimiser"]
    optimizer = {
        "rmsprop": lambda: optimizers.rmsprop(decay=settings["alpha"], eps=case.scale * settings["eps"]),
        "adam": lambda: optimizers.adam(settings["beta1"], settings["beta2"], eps=case.scale * settings["eps"]),
    }[settings["name"]]()
    algorithm = Algorithm(
        # Learning reads nothing but sizes from the environment.
        env=Env("golden", agents, actions, dims["obs_dim"], state_size, dims["max_seq_length"] - 1, None, None),
        agent=RecurrentAgent(
            obs_size=dims["obs_dim"],
            num_agents=agents,
            num_actions=actions,
            hidden_size=dims["rnn_hidden_dim"],
            last_action=meta["obs_last_action"],
            agent_id=meta["obs_agent_id"],
        ),
        mixer=mixers[meta["mixer"]](),
        target={"one_step": targets.one_step, "td_lambda": targets.td_lambda}[meta["target_rule"]],
        optimizer=optimizer,
        sizes=None,
        double_q=meta["double_q"],
    )
    hyper = HyperParams(
        learning_rate=settings["lr"],
        learning_rate_end=settings["lr"],
        learning_rate_steps=1.0,
        gamma=meta["gamma"],
        td_lambda=meta["td_lambda"] or 0.0,
        epsilon_start=0.0,
        epsilon_end=0.0,
        epsilon_steps=1.0,
        target_update_interval=1000,
        target_tau=0.0,
        max_grad_norm=case.scale * meta["grad_norm_clip"],
    )
    return algorithm, hyper


def slots(case: Case) -> Slot:
    """The batch as slots ``[T, M]``; the last slot of a sequence has nothing behind it."""
    batch = {
        name.removeprefix("batch/"): np.swapaxes(x, 0, 1)
        for name, x in case.arrays.items()
        if name.startswith("batch/") and name != "batch/per_weight"
    }
    mask = np.pad(case.arrays["out/mask"][..., 0].T, ((0, 1), (0, 0)))
    first = np.zeros(mask.shape, bool)
    first[0] = True
    return Slot(
        step=TimeStep(obs=batch["obs"], avail_actions=batch["avail_actions"] > 0, state=batch["state"]),
        action=batch["actions"][..., 0].astype(np.int32),
        reward=batch["reward"][..., 0],
        discount=1.0 - batch["terminated"][..., 0],
        mask=mask,
        first=first,
    )


def params(case: Case, prefix: str) -> Params:
    """A torch state dict in our layout. Every kernel is a transposed weight; the first layer is split by input."""

    def transposed(name: str) -> np.ndarray:
        return case.arrays[f"{prefix}/{name}"].T

    dims = case.meta["dims"]
    kernels = np.split(transposed("agent.fc1.weight"), np.cumsum([dims["obs_dim"], dims["n_actions"]]))
    agent = dict(zip(("obs_kernel", "last_action_kernel", "agent_id_kernel"), kernels, strict=True))
    agent |= {ours: transposed(theirs) for ours, theirs in AGENT_FIELDS.items()}
    mixer = {
        ours: {"kernel": transposed(f"mixer.{theirs}.weight"), "bias": transposed(f"mixer.{theirs}.bias")}
        for ours, theirs in mixer_layers(case).items()
    }
    return Params(agent={"params": agent}, mixer={"params": mixer} if mixer else {})


def mixer_layers(case: Case) -> dict[str, str]:
    """Our names of the mixer's dense layers and the peer's."""
    role = MIXER_ROLES[case.meta["mixer_naming"]]
    if not role:
        return {}
    layers = {"hyper_b1": role["b1"], "value_hidden": f"{role['v']}.0", "value": f"{role['v']}.2"}
    for weight in ("w1", "w2"):
        if case.meta["hypernet_layers"] == 2:
            layers |= {f"hyper_{weight}_hidden": f"{role[weight]}.0", f"hyper_{weight}": f"{role[weight]}.2"}
        else:
            layers[f"hyper_{weight}"] = role[weight]
    return layers


class Recorder:
    """Stands in for the agent and the target function of an algorithm and keeps what they return."""

    def __init__(self, algorithm: Algorithm, online: Params) -> None:
        self.algorithm, self.online, self.seen = algorithm, online, {}

    def apply(self, agent_params: Any, *args: Any, **options: Any) -> jax.Array:
        name = "agent_q" if agent_params is self.online.agent else "target_agent_q"
        self.seen[name] = self.algorithm.agent.apply(agent_params, *args, **options)
        return self.seen[name]

    def target(self, reward, discount, mask, value, gamma, lambda_) -> jax.Array:
        self.seen["value"] = value
        self.seen["targets"] = self.algorithm.target(reward, discount, mask, value, gamma, lambda_)
        return self.seen["targets"]


def keeping_gradients(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same optimiser, with the gradients that it was given in its state."""

    def update(gradients, state, params):
        steps, state = optimizer.update(gradients, state[0], params)
        return steps, (state, gradients)

    return optax.GradientTransformation(lambda params: (optimizer.init(params), params), update)


def compute(case: Case) -> Computed:
    algorithm, hyper = build(case)
    algorithm = algorithm._replace(optimizer=keeping_gradients(algorithm.optimizer))

    def forward(online: Params, target: Params, batch: Slot, hyper: HyperParams) -> dict[str, jax.Array]:
        recorder = Recorder(algorithm, online)
        loss, _ = qmix.loss(algorithm._replace(agent=recorder, target=recorder.target), hyper, online, target, batch)
        chosen = qmix._chosen(recorder.seen["agent_q"], batch.action, algorithm.env.num_actions)
        return {**recorder.seen, "loss": loss, "q_tot": qmix._mix(algorithm, online, chosen, batch.step.state)}

    update = jax.jit(
        lambda hyper, learner, batch: qmix.learn(algorithm, hyper, learner, batch), compiler_options=QUICKLY
    )
    with jax.enable_x64(True):
        online, target, batch = params(case, "online"), params(case, "target"), slots(case)
        outputs = jax.jit(forward, compiler_options=QUICKLY)(online, target, batch, hyper)
        learner = Learner(
            online, target, jax.jit(algorithm.optimizer.init, compiler_options=QUICKLY)(online), np.int32(0)
        )
        unclipped, _ = update(hyper._replace(max_grad_norm=np.inf), learner, batch)
        learners, metrics = [], []
        for _ in range(STEPS):
            learner, of_step = update(hyper, learner, batch)
            learners.append(learner.online)
            metrics.append(of_step)
        computed = Computed(
            **outputs,
            mask=batch.mask,
            gradients=unclipped.opt_state[1],
            online=learners,
            metrics=jax.tree.map(lambda *x: np.stack(x), *metrics),
        )
        return jax.tree.map(np.asarray, computed)


@pytest.fixture(scope="module", params=golden_files())
def golden(request) -> tuple[Case, Computed]:
    case = load(request.param)
    return case, compute(case)


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.dtype == np.float64
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-10)


def batch_first(x: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """``[T, M, ...]`` in the peer's layout, with its trailing axis of size one where it has it."""
    x = np.swapaxes(x, 0, 1)[:, : expected.shape[1]]
    return x if x.ndim == expected.ndim else x[..., None]


def test_the_folder_has_cases():
    cases = golden_files()
    assert len([case for case in cases if not case.marks]) >= 10


def test_the_mask_is_what_filled_and_terminated_say(golden):
    case, computed = golden
    filled, terminated = (case.arrays[f"batch/{name}"][..., 0].T for name in ("filled", "terminated"))
    mask = filled.astype(float)
    mask[1:] *= 1 - terminated[:-1]
    mask[-1] = 0
    np.testing.assert_array_equal(computed.mask, mask)


def test_action_values(golden):
    case, computed = golden
    counts = case.arrays["batch/filled"][..., 0] > 0
    for name in ("agent_q", "target_agent_q"):
        expected = case.arrays[f"out/{name}"]
        assert_close(batch_first(getattr(computed, name), expected)[counts], expected[counts])


def test_q_tot(golden):
    case, computed = golden
    expected, counts = case.arrays["out/q_tot"], case.arrays["out/mask"][..., 0] > 0
    assert_close(batch_first(computed.q_tot, expected)[counts], expected[counts])


def test_value_of_the_target_networks(golden):
    case, computed = golden
    expected = case.arrays["out/target_q_tot"]
    if case.meta["peer"] == "pymarl2":  # by slot
        counts, value = case.arrays["batch/filled"][..., 0] > 0, computed.value
    else:  # by transition: the next slot's
        counts, value = case.arrays["out/mask"][..., 0] > 0, computed.value[1:]
    assert_close(batch_first(value, expected)[counts], expected[counts])


def test_targets_where_they_count(golden):
    case, computed = golden
    expected, counts = case.arrays["out/targets"], case.arrays["out/mask"][..., 0] > 0
    assert_close(batch_first(computed.targets, expected)[counts], expected[counts])


def test_loss_and_gradients(golden):
    case, computed = golden
    assert_close(computed.loss / case.scale, case.arrays["out/loss"])
    jax.tree.map(lambda x, y: assert_close(x / case.scale, y), computed.gradients, params(case, "grad"))
    assert_close(computed.metrics["grad_norm"][0] / case.scale, case.arrays["out/grad_norm"])


def test_parameters_after_one_step(golden):
    case, computed = golden
    before = params(case, "online")
    # The change is compared, which is smaller than the parameters.
    jax.tree.map(lambda x, y, x0: assert_close(x - x0, y - x0), computed.online[0], params(case, "after"), before)


def test_loss_and_gradient_norm_of_five_steps(golden):
    case, computed = golden
    for name in ("loss", "grad_norm"):
        assert_close(computed.metrics[name] / case.scale, case.arrays[f"steps/{name}"])


def test_parameters_after_five_steps(golden):
    case, computed = golden
    before = params(case, "online")
    stored = [name.removeprefix("after5/") for name in case.arrays if name.startswith("after5/")]
    assert len(stored) >= 4
    for name in stored:
        after, start, expected = (torch_parameter(case, tree, name) for tree in (computed.online[-1], before, None))
        assert_close(after - start, expected - start)


def torch_parameter(case: Case, tree: Params | None, name: str) -> np.ndarray:
    """One parameter by the peer's name, in our layout; of the file itself without a ``tree``."""
    if tree is None:
        return case.arrays[f"after5/{name}"].T
    if name.startswith("agent."):
        return tree.agent["params"][{theirs: ours for ours, theirs in AGENT_FIELDS.items()}[name]]
    layer, _, kind = name.removeprefix("mixer.").rpartition(".")
    ours = {theirs: ours for ours, theirs in mixer_layers(case).items()}[layer]
    return tree.mixer["params"][ours]["kernel" if kind == "weight" else "bias"]
