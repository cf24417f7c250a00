"""Every command and example in README.md and docs/ works.

Training commands run up to the point of compilation (composed, checked, parts built): compiling each of them would
take minutes. ``test_command_line.py`` trains one to the end.
"""

import re
import shlex
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from qmix_jax import check_env, compare, dashboard, evaluate, import_pymarl, make_algorithm
from qmix_jax.algorithms import loop as qmix
from qmix_jax.networks.agents import NO_ACTION
from qmix_jax.networks.pymarl_names import agent_to_pymarl, mixer_to_pymarl
from qmix_jax.replay.sequences import Minibatch
from qmix_jax.settings.arguments import parse_arguments
from qmix_jax.settings.command_line import check
from qmix_jax.types import Slot, Start, TimeStep

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))


TESTED_ELSEWHERE = {"bench", "bench.table"}
"""By ``tests/commands/test_bench.py``."""


def blocks(language: str) -> list[str]:
    return [
        block
        for page in PAGES
        for block in re.findall(
            rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        )
    ]


def commands(module: str) -> list[str]:
    start = f"python -m {module} "
    found = {
        line.removeprefix(start) for block in blocks("bash") for line in block.splitlines() if line.startswith(start)
    }
    return sorted(found)


@pytest.fixture
def example_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The example package, and the files of a reader's own that the pages show (``# name.py`` in their first line)."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "example_package"))
    for example in blocks("python"):
        name = re.match(r"# (\w+)\.py\n", example)
        if name:
            (tmp_path / f"{name[1]}.py").write_text(example, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_the_documents_show_commands():
    assert len(commands("qmix_jax.train")) >= 5
    assert len(commands("qmix_jax.evaluate")) >= 2
    assert len(commands("qmix_jax.check_env")) >= 1


def first_of_several(argument: str) -> str:
    """The argument of a multirun's first job; launchers must exist."""
    key, _, value = argument.partition("=")
    if key == "hydra/launcher":
        assert (ROOT / "conf/hydra/launcher" / f"{value}.yaml").is_file()
    # A job does not get the launcher; a harmless key replaces it.
    return "seed=0" if key.startswith("hydra") else f"{key}={value.split(',')[0]}"


def training_commands() -> list[str]:
    """All but those with a folder of one's own, which tests/settings/test_own_files.py runs."""
    return [command for command in commands("qmix_jax.train") if "--config-dir" not in command]


@pytest.mark.parametrize("command", training_commands())
def test_training_commands_build_what_they_would_train(command: str, example_package: None):
    arguments = [a for a in shlex.split(command) if a != "--help"]
    # The documents' placeholder package is replaced by the example package.
    arguments = [a.replace("my_package.my_module", "example_envs.grid") for a in arguments]
    if "--multirun" in arguments:
        arguments = [first_of_several(argument) for argument in arguments if argument != "--multirun"]
    check([argument for argument in arguments if not argument.startswith("resume=runs/")])
    algorithm, _ = make_algorithm(arguments)
    assert algorithm.env.num_agents >= 2


def test_commands_of_the_measured_results_have_valid_settings():
    page = (ROOT / "experiments/README.md").read_text(encoding="utf-8")
    found = re.findall(r"`python -m qmix_jax\.train ([^`]+)`", page)
    assert len(found) >= 4
    for command in found:
        check(shlex.split(command))


@pytest.mark.parametrize("command", commands("qmix_jax.evaluate"))
def test_evaluation_commands_are_understood(command: str):
    settings = evaluate.parse(shlex.split(command))
    assert settings.run_dir or settings.policy
    assert settings.episodes >= 1


@pytest.mark.parametrize("command", commands("qmix_jax.compare"))
def test_comparing_commands_are_understood(command: str):
    assert compare.parse(shlex.split(command))[0]


@pytest.mark.parametrize("command", commands("qmix_jax.dashboard"))
def test_dashboard_commands_are_understood(command: str):
    assert parse_arguments(dashboard.Settings, shlex.split(command))[0].project


def test_every_command_of_the_documents_is_tested():
    tested = {"train", "evaluate", "check_env", "import_pymarl", "compare", "dashboard"} | TESTED_ELSEWHERE
    shown = re.findall(r"^python -m qmix_jax\.([\w.]+)", "\n".join([*blocks("bash"), *blocks("sh")]), re.MULTILINE)
    assert set(shown) <= tested


@pytest.mark.parametrize("command", commands("qmix_jax.check_env"))
def test_checking_commands_find_nothing_broken(command: str, example_package: None, capsys: pytest.CaptureFixture[str]):
    arguments = [a.replace("my_package.my_module", "example_envs.grid") for a in shlex.split(command)]
    check_env.main(arguments)
    assert "broken=0" in capsys.readouterr().out


def write_networks(folder: Path, arguments: list[str]) -> None:
    """Write the files that an import command names: PyMARL's networks for its environment."""
    overrides = [argument for argument in arguments if argument.startswith("env")]
    algorithm, _ = make_algorithm(
        [*overrides, "agent=gru", "agent.norm=none", "agent.hidden_size=4", "mixer.embed_size=3"]
    )
    params = jax.eval_shape(lambda: qmix.init(algorithm, jax.random.key(0))).learner.online
    params = jax.tree.map(lambda x: np.ones(x.shape, np.float32), params)
    networks = agent_to_pymarl(params.agent), mixer_to_pymarl(params.mixer)
    files = [argument for argument in arguments if "=" not in argument]
    for file, arrays in zip(files, networks, strict=False):
        save_file(arrays, folder / file)


def test_import_commands_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    lines = re.findall(r"^python -m qmix_jax\.import_pymarl (.*)$", "".join(blocks("bash")), re.MULTILINE)
    assert len(lines) >= 3
    monkeypatch.chdir(tmp_path)
    for line in lines:
        arguments = shlex.split(line)
        write_networks(tmp_path, arguments)
        import_pymarl.main(arguments)
    assert Path("agent.npz").is_file()
    assert "runs/imported" in capsys.readouterr().out


def test_help_names_groups_and_keys(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    from qmix_jax import train

    monkeypatch.setattr(sys, "argv", ["train", "--help"])
    with pytest.raises(SystemExit, match="0"):
        train.main()
    shown = capsys.readouterr().out
    algorithms = ", ".join(sorted(path.stem for path in (ROOT / "conf/algorithm").glob("*.yaml")))
    for word in (f"algorithm: {algorithms}", "two_step", "learning_rate", "num_seeds", "env.scenario=3m"):
        assert word in shown


def python_examples() -> dict[str, list[str]]:
    """The examples of each page, to be run one after the other."""
    found = {page: re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE) for page in PAGES}
    return {page.name: examples for page, examples in found.items() if examples}


@pytest.mark.parametrize("page", python_examples())
def test_python_examples_run(
    page: str,
    example_package: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))  # JaxMARL puts others there when it is imported
    monkeypatch.chdir(tmp_path)
    for example in python_examples()[page]:
        exec(compile(example, page, "exec"), {"__name__": "example"})
        shown = capsys.readouterr().out.strip() or list(tmp_path.glob("runs/*/summary.json"))
        assert shown or example.startswith("# ")


OWN_PARTS = {
    "mixer": ("mixer=none", "mixer._target_=my_mixer.WeightedSum", "+mixer.hidden_size=4"),
    "algorithm": ("algorithm._target_=conservative.Conservative", "+algorithm.weight=0.5"),
}


@pytest.mark.parametrize("part", OWN_PARTS)
def test_the_parts_of_one_s_own_in_the_pages_learn(part: str, example_package: None):
    """One update with the part of the page gives finite numbers, and the part's own where it has some."""
    small = ("env=two_step", "rollout.num_envs=4", "replay.batch_size=8", "replay.capacity=16", "agent.hidden_size=4")
    algorithm, hyper = make_algorithm([*small, "learner.warmup_env_steps=0", "evaluation.episodes=2", *OWN_PARTS[part]])
    state = jax.jit(lambda key: qmix.init(algorithm, key))(jax.random.key(0))
    state, metrics = jax.jit(lambda state: qmix.iterate(algorithm, hyper, state, jax.numpy.int32(5)))(state)
    assert int(state.learner.updates) == algorithm.sizes.updates_per_iteration
    assert np.isfinite(metrics["loss"]).all()
    if part == "algorithm":
        assert float(metrics["conservative_gap"]) > 0


@pytest.mark.parametrize("target", ["conservative.Conservative", "example_algorithms.critic.WithCritic"])
def test_algorithms_of_one_s_own_go_on_from_what_the_agents_remember(target: str, example_package: None):
    """The second half of a sequence has the loss of the whole one with the first half masked."""
    length, half, sequences = 8, 4, 3
    small = ("env=two_step", "agent.hidden_size=8", "target=one_step", "mixer=vdn")
    algorithm, hyper = make_algorithm([*small, f"algorithm._target_={target}"])
    learner = jax.jit(lambda key: qmix.init(algorithm, key).learner)(jax.random.key(0))
    env, numbers = algorithm.env, np.random.default_rng(0)
    at = (length, sequences)
    step = TimeStep(
        obs=numbers.normal(size=(*at, env.num_agents, env.obs_size)).astype(np.float32),
        avail_actions=np.ones((*at, env.num_agents, env.num_actions), bool),
        state=numbers.normal(size=(*at, env.state_size)).astype(np.float32),
    )
    time = np.broadcast_to(np.arange(length)[:, None], at)
    mask = ((time >= half) & (time < length - 1)).astype(np.float32)
    action = numbers.integers(0, env.num_actions, (*at, env.num_agents)).astype(np.int32)
    reward = numbers.normal(size=at).astype(np.float32)
    whole = Slot(step, action, reward, np.ones(at, np.float32), mask, time == 0)
    before, after = jax.tree.map(lambda x: x[:half], whole), jax.tree.map(lambda x: x[half:], whole)
    last_action = np.full(action.shape[1:], NO_ACTION, np.int32)
    start = Start(algorithm.agent.initial_hidden(sequences), last_action, burn_in=before)

    def loss(slots: Slot, start: Start | None) -> float:
        minibatch = Minibatch(slots, np.arange(sequences), np.ones(sequences, np.float32), start)
        compute = jax.jit(lambda: algorithm.method.loss(algorithm, hyper, learner.online, learner, minibatch)[0])
        return float(compute())

    assert loss(after, start) == pytest.approx(loss(whole, None), rel=1e-5)
    assert loss(after, None) != pytest.approx(loss(whole, None), rel=1e-3), "what is remembered matters"
