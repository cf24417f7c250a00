"""PyMARL's own files (.th); skipped without PyTorch: pip install 'qmix_jax[torch]'."""

import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from qmix_jax import make_algorithm
from qmix_jax.errors import ConfigError
from qmix_jax.import_pymarl import main
from qmix_jax.learning.values import action_values
from qmix_jax.results.policies import load_policy
from qmix_jax.results.pymarl_files import read
from qmix_jax.types import Slot, TimeStep

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'qmix_jax[torch]'")

OBS, ACTIONS, AGENTS, HIDDEN, STEPS = 3, 2, 2, 4, 5
"""Sizes of the two-step game, and of a network."""


def networks() -> dict:
    torch.manual_seed(0)
    parts = {"fc1": torch.nn.Linear(OBS + ACTIONS + AGENTS, HIDDEN), "rnn": torch.nn.GRUCell(HIDDEN, HIDDEN)}
    return torch.nn.ModuleDict({**parts, "fc2": torch.nn.Linear(HIDDEN, ACTIONS)})


def torch_q(agent, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
    """PyMARL's agent, one agent and step after the other: observation, last action, agent id."""
    q = np.zeros((STEPS, AGENTS, ACTIONS))
    for a in range(AGENTS):
        hidden = torch.zeros(1, HIDDEN)
        for t in range(STEPS):
            last = np.eye(ACTIONS)[action[t - 1, a]] if t else np.zeros(ACTIONS)
            x = torch.tensor(np.concatenate([obs[t, a], last, np.eye(AGENTS)[a]])[None], dtype=torch.float32)
            hidden = agent["rnn"](torch.relu(agent["fc1"](x)), hidden)
            q[t, a] = agent["fc2"](hidden).detach().numpy()[0]
    return q


def test_a_state_dict_saved_by_torch_gives_torch_s_values(tmp_path):
    agent = networks()
    torch.save(agent.state_dict(), tmp_path / "agent.th")
    main([str(tmp_path / "agent.th"), f"run_dir={tmp_path / 'run'}", "env=two_step"])
    policy = load_policy(tmp_path / "run/policies/seed_0/final")

    algorithm, _ = make_algorithm(["env=two_step", f"agent.hidden_size={HIDDEN}"])
    numbers = np.random.default_rng(0)
    obs = numbers.normal(size=(STEPS, AGENTS, OBS)).astype(np.float32)
    action = numbers.integers(0, ACTIONS, (STEPS, AGENTS))
    nothing = jnp.zeros((STEPS, 1))
    step = TimeStep(obs=jnp.asarray(obs)[:, None], avail_actions=nothing, state=nothing)
    first = jnp.arange(STEPS)[:, None] == 0
    slot = Slot(step, jnp.asarray(action, jnp.int32)[:, None], nothing, nothing, nothing, first)
    found = action_values(algorithm.agent, policy.params, slot, None)[:, 0]
    np.testing.assert_allclose(found, torch_q(agent, obs, action), rtol=1e-5, atol=1e-6)


def test_torch_loads_an_exported_file(tmp_path):
    agent = networks()
    torch.save(agent.state_dict(), tmp_path / "agent.th")
    main([str(tmp_path / "agent.th"), f"run_dir={tmp_path / 'run'}", "env=two_step"])
    main([f"out={tmp_path / 'back.th'}", f"run_dir={tmp_path / 'run'}"])
    back = networks()
    for parameter in back.parameters():
        torch.nn.init.zeros_(parameter)
    back.load_state_dict(torch.load(tmp_path / "back.th", weights_only=True))
    for name, value in agent.state_dict().items():
        assert torch.equal(back.state_dict()[name], value)


class RunsCode:
    """The content of a malicious file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_file_that_would_run_code_is_rejected(tmp_path):
    torch.save({"fc1.weight": RunsCode(tmp_path / "taken")}, tmp_path / "agent.th")
    with pytest.raises(ConfigError, match=r"agent.th: holds more than arrays"):
        read(tmp_path / "agent.th")
    assert not (tmp_path / "taken").exists()
