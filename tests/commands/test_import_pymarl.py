"""Import of PyMARL's networks as policies, and export."""

from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from qmix_jax import evaluate
from qmix_jax.import_pymarl import main
from qmix_jax.networks.pymarl_names import agent_from_pymarl, mixer_from_pymarl, mixer_to_pymarl
from qmix_jax.results.explanation.mixers import example, load_mixer
from qmix_jax.results.policies import load_policy
from qmix_jax.results.pymarl_files import read
from qmix_jax.results.team import Choice, load_team

OBS, ACTIONS, AGENTS, HIDDEN, STATE, EMBED = 3, 2, 2, 4, 3, 5
"""Sizes of the two-step game, whose observation and state are the one-hot state of the game."""


def torch_agent(inputs: int = OBS + ACTIONS + AGENTS) -> dict[str, np.ndarray]:
    numbers = np.random.default_rng(0)
    shapes = {
        "fc1.weight": (HIDDEN, inputs),
        "fc1.bias": (HIDDEN,),
        "rnn.weight_ih": (3 * HIDDEN, HIDDEN),
        "rnn.weight_hh": (3 * HIDDEN, HIDDEN),
        "rnn.bias_ih": (3 * HIDDEN,),
        "rnn.bias_hh": (3 * HIDDEN,),
        "fc2.weight": (ACTIONS, HIDDEN),
        "fc2.bias": (ACTIONS,),
    }
    return {name: numbers.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def torch_mixer() -> dict[str, np.ndarray]:
    numbers = np.random.default_rng(1)
    sizes = {"hyper_w_1": AGENTS * EMBED, "hyper_b_1": EMBED, "hyper_w_final": EMBED, "V.0": EMBED, "V.2": 1}
    state = {}
    for name, size in sizes.items():
        state[f"{name}.weight"] = numbers.normal(size=(size, EMBED if name == "V.2" else STATE)).astype(np.float32)
        state[f"{name}.bias"] = numbers.normal(size=size).astype(np.float32)
    return state


def two_step_sizes():
    from qmix_jax import make_algorithm

    env = make_algorithm(["env=two_step"])[0].env
    return env.obs_size, env.num_actions, env.num_agents, env.state_size


def test_the_sizes_are_those_of_the_two_step_game():
    assert two_step_sizes() == (OBS, ACTIONS, AGENTS, STATE)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_import_and_export_are_inverse(tmp_path, suffix, capsys):
    agent, mixer = tmp_path / f"agent.{suffix}", tmp_path / f"mixer.{suffix}"
    for path, state in ((agent, torch_agent()), (mixer, torch_mixer())):
        np.savez(path, **state) if suffix == "npz" else save_file(state, path)
    run_dir = tmp_path / "imported"
    main([str(agent), str(mixer), f"run_dir={run_dir}", "env=two_step"])
    policy = load_policy(run_dir / "policies/seed_0/final")
    assert policy.description["source"] == agent.name
    expected = {f"{k}.{n}": x for k, p in mixer_from_pymarl(torch_mixer())["params"].items() for n, x in p.items()}
    jax.tree.map(np.testing.assert_array_equal, load_file(run_dir / "policies/seed_0/mixer.safetensors"), expected)

    out = tmp_path / f"back.{suffix}"
    main([f"out={out}", f"run_dir={run_dir}"])
    jax.tree.map(np.testing.assert_array_equal, read(out), torch_agent())
    assert "policy=" in capsys.readouterr().out


def test_a_file_s_name_may_look_like_a_setting(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_file(torch_agent(), "lr=1e-3 agent.safetensors")
    main(["lr=1e-3 agent.safetensors", "run_dir=a=b", "env=two_step"])
    assert (tmp_path / "a=b" / "policies" / "seed_0" / "final.safetensors").is_file()
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        main(["lr=2e-3 agent.safetensors", "run_dir=c", "env=two_step"])
    assert capsys.readouterr().err.startswith("error: ")


def test_what_cannot_be_written_is_one_line(tmp_path, capsys):
    np.savez(tmp_path / "agent.npz", **torch_agent())
    run_dir = tmp_path / "agent.npz" / "imported"
    with pytest.raises(SystemExit) as exit_info:
        main([str(tmp_path / "agent.npz"), f"run_dir={run_dir}", "env=two_step"])
    assert exit_info.value.code == 2
    assert capsys.readouterr().err == f"error: run_dir={run_dir}: cannot be written: Not a directory\n"


def test_an_imported_policy_is_played(tmp_path, capsys):
    save_file(torch_agent(), tmp_path / "agent.safetensors")
    main([str(tmp_path / "agent.safetensors"), f"run_dir={tmp_path / 'imported'}", "env=two_step"])
    evaluate.main([f"run_dir={tmp_path / 'imported'}", "episodes=4"])
    assert "seed=0 episodes=4 return=" in capsys.readouterr().out


def test_an_imported_mixer_explains_an_episode(tmp_path):
    """Its sizes are those of the arrays; how it discounts is a setting."""
    for name, state in (("agent", torch_agent()), ("mixer", torch_mixer())):
        save_file(state, tmp_path / f"{name}.safetensors")
    files = [str(tmp_path / f"{name}.safetensors") for name in ("agent", "mixer")]
    main([*files, f"run_dir={tmp_path / 'imported'}", "env=two_step", "gamma=0.5"])
    team = load_team(Choice(str(tmp_path / "imported"), "final"))
    for which in ("final", "best"):
        mixer = load_mixer(tmp_path / "imported/policies/seed_0" / which, team.env)
        assert mixer is not None
        assert (mixer.gamma, mixer.standardised) == (0.5, False)
        jax.tree.map(np.testing.assert_array_equal, mixer.params, mixer_from_pymarl(torch_mixer()))
        assert mixer.slope(example(team.env)).shape == (AGENTS,)


def test_a_mixer_with_pymarl2_s_names_is_the_same():
    params = mixer_from_pymarl(torch_mixer())
    renamed = mixer_to_pymarl(params, pymarl2=True)
    assert "hyper_b1.0.weight" in renamed
    jax.tree.map(np.testing.assert_array_equal, mixer_from_pymarl(renamed), params)
    jax.tree.map(np.testing.assert_array_equal, mixer_to_pymarl(params), torch_mixer())


@pytest.mark.parametrize(
    ("inputs", "reads"),
    [(OBS, (False, False)), (OBS + 5, (True, False)), (OBS + AGENTS, (False, True)), (OBS + 5 + AGENTS, (True, True))],
)
def test_the_first_layer_tells_the_agent_s_inputs(inputs, reads):
    state = torch_agent(inputs) | {"fc2.weight": np.zeros((5, HIDDEN)), "fc2.bias": np.zeros(5)}
    params, settings = agent_from_pymarl(state, OBS, 5, AGENTS)
    assert (settings["last_action"], settings["agent_id"]) == reads
    assert ("last_action_kernel" in params["params"], "agent_id_kernel" in params["params"]) == reads


def test_a_feed_forward_agent(tmp_path):
    state = {name: x for name, x in torch_agent().items() if not name.startswith("rnn")}
    state |= {"rnn.weight": np.ones((HIDDEN, HIDDEN), np.float32), "rnn.bias": np.ones(HIDDEN, np.float32)}
    save_file(state, tmp_path / "agent.safetensors")
    main([str(tmp_path / "agent.safetensors"), f"run_dir={tmp_path / 'imported'}", "env=two_step"])
    policy = load_policy(tmp_path / "imported/policies/seed_0/best")
    assert policy.description["agent"]["_target_"] == "qmix_jax.networks.agents.FeedForwardAgent"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fc1.weight": np.zeros((HIDDEN, 99), np.float32)}, "reads 99 numbers"),
        ({"fc9.weight": np.zeros(1, np.float32)}, "unknown fc9.weight"),
        ({"fc2.bias": None}, "missing fc2.bias"),
        ({"rnn.bias_hh": np.zeros(7, np.float32)}, "gru_hidden_bias"),
    ],
)
def test_misfits_are_named_in_one_line(tmp_path, capsys, change, words):
    state = {name: x for name, x in (torch_agent() | change).items() if x is not None}
    save_file(state, tmp_path / "agent.safetensors")
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "agent.safetensors"), f"run_dir={tmp_path / 'imported'}", "env=two_step"])
    message = capsys.readouterr().err
    assert words in message
    assert message.startswith(f"error: {tmp_path / 'agent.safetensors'}: ")
    assert message.count("\n") == 1
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.npz", "run_dir=x"], "nowhere.npz: no such file"),
        (["run_dir=x"], "give the agent's file"),
        (["agent.npz"], "run_dir: missing"),
        (["out=back.npz", "run_dir=nowhere"], "run_dir=nowhere: no such folder"),
        (["out=back.npz", "run_dir={run}", "which=worst"], "which=worst: unknown; did you mean 'best'?"),
        (["out=back.npz", "run_dir={run}", "seed=3"], "seed=3: not in this run; did you mean 0?"),
        (["out=back.npz", "run_dir={run}", "seed=x"], "seed=x: must be a whole number"),
        (["out=back.npz", "run_dir={run}", "cell=1"], "cell=1: not in this run (the run is no sweep)"),
        (["out=back.npy", "run_dir={run}"], "out=back.npy: unknown; did you mean 'back.npz'?"),
        (["out", "run_dir=x"], "out: "),
        (["agent.npz", "run_dir=x", "seed=0", "seed=1"], "seed=1: given twice"),
        (["agent.npz", "run_dir=x", "--seed=1"], "--seed=1: settings have no dashes"),
        (["agent.bin", "run_dir=x"], "agent.bin: no such file"),
        (["out=no/back.npz", "run_dir={run}"], "out=no/back.npz: no such folder: no"),
    ],
)
def test_invalid_commands_are_rejected(arguments, words, tmp_path, capsys):
    run = tmp_path / "imported"
    if any("{run}" in argument for argument in arguments):
        save_file(torch_agent(), tmp_path / "agent.safetensors")
        main([str(tmp_path / "agent.safetensors"), f"run_dir={run}", "env=two_step"])
    with pytest.raises(SystemExit, match="2"):
        main([argument.format(run=run) for argument in arguments])
    assert words in capsys.readouterr().err
    assert not Path("back.npz").exists()


def test_a_file_with_objects_is_rejected(tmp_path, capsys):
    np.savez(tmp_path / "agent.npz", **{"fc1.weight": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "agent.npz"), f"run_dir={tmp_path / 'x'}", "env=two_step"])
    assert "cannot be read" in capsys.readouterr().err
