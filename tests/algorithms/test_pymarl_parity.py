"""One update, and five, against what the PyTorch implementations compute from the same batch and parameters.

``QMIX_JAX_GOLDEN_DIR`` names another folder than ``tests/golden``; sizes and options come from each file. Everything
is computed in float64 by the functions that training uses, and compared where it counts. In padding, values differ:
there the peers' one-hot last action is all zeros, here it is the action stored.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from qmix_jax.algorithms import gradient_step
from qmix_jax.algorithms.base import Algorithm, Sizes
from qmix_jax.algorithms.value_decomposition import ValueDecomposition
from qmix_jax.envs.base import Env
from qmix_jax.learning import optimizers, standardise, targets
from qmix_jax.learning.values import joint_values, mixer_inputs
from qmix_jax.mixers.independent import IndependentMixer
from qmix_jax.mixers.qmix import QMIXMixer
from qmix_jax.mixers.vdn import VDNMixer
from qmix_jax.networks.agents import RecurrentAgent
from qmix_jax.networks.pymarl_names import agent_from_pymarl, agent_to_pymarl, mixer_from_pymarl, mixer_to_pymarl
from qmix_jax.replay.sequences import Minibatch
from qmix_jax.types import HyperParams, Learner, Params, Slot, TimeStep

FOLDER = Path(os.environ.get("QMIX_JAX_GOLDEN_DIR", Path(__file__).parents[1] / "golden"))
TARGETS = {"one_step": targets.one_step, "td_lambda": targets.td_lambda, "q_lambda": targets.pymarl2_q_lambda}
STEPS = 5


class Case(NamedTuple):
    """A golden file: settings and arrays."""

    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]


class Computed(NamedTuple):
    """The same quantities from our functions, time first."""

    agent_q: np.ndarray
    target_agent_q: np.ndarray
    q_tot: np.ndarray
    value: np.ndarray
    targets: np.ndarray
    mask: np.ndarray
    loss: np.ndarray
    priority: np.ndarray
    gradients: Params
    online: list[Params]
    """After each of the five updates."""
    metrics: dict[str, np.ndarray]


def load(path: Path) -> Case:
    with np.load(path) as file:
        arrays = dict(file)
    return Case(json.loads(str(arrays.pop("meta_json"))), arrays)


def golden_files() -> list:
    return [pytest.param(path, id=path.stem) for path in sorted(FOLDER.glob("*.npz"))]


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
        "rmsprop": lambda: optimizers.rmsprop(decay=settings["alpha"], eps=settings["eps"]),
        "adam": lambda: optimizers.adam(settings["beta1"], settings["beta2"], eps=settings["eps"]),
    }[settings["name"]]()
    algorithm = Algorithm(
        method=ValueDecomposition(),
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
        target=TARGETS[meta["target_rule"]],
        optimizer=optimizer,
        sizes=Sizes(*(0,) * 10),  # of the loop, which is not run; minibatches come in one part
        double_q=meta["double_q"],
        half_loss=meta["loss_half"],
    )
    hyper = HyperParams(
        learning_rate=settings["lr"],
        learning_rate_end=settings["lr"],
        learning_rate_steps=1.0,
        gamma=meta["gamma"],
        td_lambda=meta["td_lambda"] or 0.0,
        exploration_start=0.0,
        exploration_end=0.0,
        exploration_steps=1.0,
        target_update_interval=1000,
        target_tau=0.0,
        max_grad_norm=meta["grad_norm_clip"],
        reward_scale=1.0,
        priority_alpha=0.0,
        priority_beta=0.0,
        priority_beta_steps=1.0,
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


def minibatch_of(case: Case) -> Minibatch:
    batch = slots(case)
    sequences = batch.mask.shape[1]
    weights = case.arrays.get("batch/per_weight", np.ones(sequences))
    return Minibatch(slots=batch, places=np.arange(sequences), weights=weights.reshape(sequences))


def params(case: Case, prefix: str) -> Params:
    """A torch state dict in our layout."""

    def state(part: str) -> dict[str, np.ndarray]:
        start = f"{prefix}/{part}."
        return {name.removeprefix(start): x for name, x in case.arrays.items() if name.startswith(start)}

    dims = case.meta["dims"]
    agent, settings = agent_from_pymarl(state("agent"), dims["obs_dim"], dims["n_actions"], dims["n_agents"])
    assert (settings["last_action"], settings["agent_id"]) == (case.meta["obs_last_action"], case.meta["obs_agent_id"])
    mixer = state("mixer")
    return Params(agent=agent, mixer=mixer_from_pymarl(mixer) if mixer else {})


class Recorder:
    """Stands in for the agent and the target function of an algorithm and keeps what they return."""

    def __init__(self, algorithm: Algorithm, online: Params) -> None:
        self.algorithm, self.online, self.seen = algorithm, online, {}

    def apply(self, agent_params: Any, *args: Any, **options: Any) -> tuple[jax.Array, jax.Array]:
        name = "agent_q" if agent_params is self.online.agent else "target_agent_q"
        outputs, self.seen[name] = self.algorithm.agent.apply(agent_params, *args, **options)
        return outputs, self.seen[name]

    def target(self, sequence: targets.Sequence, gamma, td_lambda) -> jax.Array:
        self.seen["value"] = sequence.value
        self.seen["targets"] = self.algorithm.target(sequence, gamma, td_lambda)
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

    def forward(learner: Learner, minibatch: Minibatch, hyper: HyperParams) -> dict[str, jax.Array]:
        recorder = Recorder(algorithm, learner.online)
        recording = algorithm._replace(agent=recorder, target=recorder.target)
        loss, info = gradient_step.loss(recording, hyper, learner.online, learner, minibatch)
        batch = minibatch.slots
        inputs = mixer_inputs(recorder.seen["agent_q"], batch.action, batch.step)
        q_tot = joint_values(algorithm.mixer, learner.online.mixer, inputs)
        return {**recorder.seen, "loss": loss, "priority": info.priority, "q_tot": q_tot}

    update = jax.jit(lambda hyper, learner, minibatch: gradient_step.learn(algorithm, hyper, learner, minibatch))
    with jax.enable_x64(True):
        online, minibatch = params(case, "online"), minibatch_of(case)
        vector, restore = ravel_pytree(online)
        learner = Learner(
            online=online,
            target=params(case, "target"),
            opt_state=jax.jit(algorithm.optimizer.init)(vector),
            updates=np.int32(0),
            target_episodes=np.int32(0),
            nonfinite_update=np.int32(-1),
            max_reward=np.float64(0),
            rewards=standardise.init(),
            returns=standardise.init(),
        )
        outputs = jax.jit(forward)(learner, minibatch, hyper)
        unclipped, _, _ = update(hyper._replace(max_grad_norm=np.inf), learner, minibatch)
        learners, metrics = [], []
        for _ in range(STEPS):
            learner, of_step, _ = update(hyper, learner, minibatch)
            learners.append(learner.online)
            metrics.append(of_step)
        computed = Computed(
            **outputs,
            mask=minibatch.slots.mask,
            gradients=restore(unclipped.opt_state[1]),
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
    assert len(cases) >= (1 if "QMIX_JAX_GOLDEN_DIR" in os.environ else 13)


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
    assert_close(computed.loss, case.arrays["out/loss"])
    jax.tree.map(assert_close, computed.gradients, params(case, "grad"))
    assert_close(computed.metrics["grad_norm"][0], case.arrays["out/grad_norm"])


def test_new_priorities(golden):
    case, computed = golden
    td_error = np.where(computed.mask > 0, 1.0, 0.0).T[:, : case.arrays["out/q_tot"].shape[1], None]
    td_error = td_error * (case.arrays["out/q_tot"] - case.arrays["out/targets"])
    each = np.abs(td_error).mean(axis=-1).sum(axis=1) / np.sqrt(computed.mask.sum(axis=0))
    assert_close(computed.priority, each)
    if "out/priority" in case.arrays:
        assert_close(computed.priority, case.arrays["out/priority"][:, 0])


def test_parameters_after_one_step(golden):
    case, computed = golden
    before = params(case, "online")
    # The change is compared, which is smaller than the parameters.
    jax.tree.map(lambda x, y, x0: assert_close(x - x0, y - x0), computed.online[0], params(case, "after"), before)


def test_loss_and_gradient_norm_of_five_steps(golden):
    case, computed = golden
    for name in ("loss", "grad_norm"):
        assert_close(computed.metrics[name], case.arrays[f"steps/{name}"])


def test_parameters_after_five_steps(golden):
    case, computed = golden
    before = params(case, "online")
    stored = [name.removeprefix("after5/") for name in case.arrays if name.startswith("after5/")]
    assert len(stored) >= 4
    after, start = torch_parameters(case, computed.online[-1]), torch_parameters(case, before)
    for name in stored:
        assert_close(after[name] - start[name], case.arrays[f"after5/{name}"] - start[name])


def torch_parameters(case: Case, tree: Params) -> dict[str, np.ndarray]:
    """All parameters by the peer's names and in its layout."""
    mixer = mixer_to_pymarl(tree.mixer, pymarl2=case.meta["peer"] == "pymarl2") if tree.mixer else {}
    parts = {"agent": agent_to_pymarl(tree.agent), "mixer": mixer}
    return {f"{part}.{name}": x for part, state in parts.items() for name, x in state.items()}


def test_parameters_come_back_as_they_were(golden):
    case, _ = golden
    names = {name.removeprefix("online/") for name in case.arrays if name.startswith("online/")}
    back = torch_parameters(case, params(case, "online"))
    assert set(back) == names
    for name in names:
        np.testing.assert_array_equal(back[name], case.arrays[f"online/{name}"])
