"""A user's own configuration folder: the documented example works, and each mistake is one line."""

import re
from pathlib import Path

import pytest

from qmix_jax.errors import ConfigError
from qmix_jax.settings.command_line import check, compose_config
from qmix_jax.settings.groups import conf_dir
from qmix_jax.settings.reading import parse, to_container

PAGE = Path(__file__).parents[2] / "docs" / "own_settings.md"


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "my conf" / "experiment").mkdir(parents=True)
    return tmp_path / "my conf"


def write(folder: Path, text: str, name: str = "experiment/mine.yaml") -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text)


def refusal(folder: Path, *arguments: str) -> str:
    with pytest.raises(ConfigError) as error:
        check(["--config-dir", str(folder), *arguments])
    assert str(error.value).isprintable()
    return str(error.value)


def test_the_documented_example_works(folder):
    page = PAGE.read_text(encoding="utf-8")
    example = re.search(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    command = re.search(r"^python -m qmix_jax.train --config-dir my_conf (.*)$", page, re.MULTILINE)
    assert example is not None
    assert command is not None
    write(folder, example[1], "experiment/small_3m.yaml")
    check(["--config-dir", str(folder), *command[1].split()])
    config = parse(to_container(compose_config(command[1].split(), folder)))
    assert (config.algorithm.name, config.gamma, config.total_env_steps) == ("vdn", 0.98, 200_000)
    assert config.parts["agent"]["hidden_size"] == 32


def test_a_file_of_another_group_is_a_choice(folder):
    write(folder, (conf_dir() / "env" / "two_step.yaml").read_text(), "env/my_game.yaml")
    check(["--config-dir", str(folder), "env=my_game"])
    assert "did you mean 'my_game'?" in refusal(folder, "env=mygame")


def test_of_two_files_of_one_group_only_one_can_be_meant(folder):
    for name in ("mine", "other"):
        write(folder, HEAD, f"experiment/{name}.yaml")
    assert refusal(folder, "experiment=[mine,other]").startswith("experiment=[mine,other]: takes one name; ")


HEAD = "# @package _global_\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "gamma: [0.9\nseed: 1\n", r"mine\.yaml, line \d: cannot be read: .*brackets"),
        (HEAD + "gamma: 'a\n", r"mine\.yaml, line \d: cannot be read"),
        ("gamma: 0.9\n", "mine.yaml, line 1: an experiment must start with the line '# @package _global_'"),
        (HEAD + "seed: 1\ngamma: abc\n", r"gamma=abc: must be a number \(in .*mine\.yaml, line 3\)"),
        (HEAD + "rollout:\n  num_envs: -3\n", r"rollout.num_envs=-3: must be at least 1 \(in .*mine\.yaml, line 3\)"),
        (HEAD + "gama: 0.9\n", r"gama=0.9: unknown key; did you mean gamma\? \(in .*mine\.yaml, line 2\)"),
        (HEAD + "- 1\n", "must hold keys and values"),
        (HEAD + "defaults:\n  - override /env: nope\n", "mine.yaml .*Could not find .env/nope"),
        (HEAD + "defaults:\n  - /env: smax\n", "write 'override /env: choice'"),
        (HEAD + "gamma: ${nowhere}\n", "nowhere"),
    ],
)
def test_a_mistake_in_a_file_is_one_line(folder, text, words):
    write(folder, text)
    assert re.search(words, refusal(folder, "experiment=mine"))


def test_a_value_that_was_typed_is_not_blamed_on_the_file(folder):
    write(folder, HEAD + "gamma: 0.9\nreplay: {priority: null}\n")
    assert "mine.yaml" not in refusal(folder, "experiment=mine", "gamma=2")
    assert "mine.yaml" not in refusal(folder, "experiment=mine", "replay.priority={alpha:1,beta:2,beta_steps:null}")
    write(folder, HEAD + "gamma: 3\n")
    assert refusal(folder, "experiment=mine", "seed=1").endswith("mine.yaml, line 2)")


def test_files_that_cannot_be_meant_are_refused(folder):
    assert "no such folder" in refusal(folder / "nope")
    write(folder, HEAD, "experiment/smax_3m.yaml")
    assert "has the name of conf/experiment/smax_3m.yaml" in refusal(folder, "experiment=smax_3m")
    (folder / "experiment" / "smax_3m.yaml").unlink()
    write(folder, "gamma: 0.9\n", "mine.yaml")
    assert "belongs into the folder of a group" in refusal(folder)
    (folder / "mine.yaml").unlink()
    write(folder, "gamma: 0.9\n", "experiments/mine.yaml")
    assert "did you mean 'experiment'?" in refusal(folder)


@pytest.mark.parametrize(
    ("arguments", "gamma", "target", "update_interval"),
    [
        ("env=smax", 0.99, "td_lambda", 25),
        ("env=smax gamma=0.9 target.update_interval=7", 0.9, "td_lambda", 7),
        ("env=mpe", 0.9, "one_step", 25),
        ("env=mpe target=td_lambda", 0.9, "td_lambda", 25),
        ("env=mpe algorithm=pymarl_qmix", 0.99, "one_step", 200),
        ("env=mpe algorithm=pymarl2_qmix", 0.99, "td_lambda", 200),
        ("env=mpe algorithm=epymarl_vdn", 0.99, "one_step", 200),
        ("env=mpe algorithm=pqn_vdn", 0.9, "td_lambda", 25),
        ("env=lbf", 0.99, "td_lambda", 200),
        ("env=predator_prey", 0.99, "td_lambda", 25),
    ],
)
def test_an_environment_sets_what_suits_it_and_published_settings_and_users_come_after(
    arguments, gamma, target, update_interval
):
    config = to_container(compose_config(arguments.split()))
    own = config["target"]
    assert (config["gamma"], own["_target_"].rpartition(".")[2], own["update_interval"]) == (
        gamma,
        target,
        update_interval,
    )


@pytest.mark.parametrize(
    ("arguments", "mixer", "init_scale"),
    [
        ("env=smax", "QMIXMixer", 0.001),
        ("env=mpe", "QMIXMixer", 1),
        ("env=mpe algorithm=ow_qmix", "QMIXMixer", 1),
        ("env=mpe algorithm=pqn_qmix", "QMIXMixer", 1),
        ("env=mpe mixer=qmix", "QMIXMixer", 0.001),
        ("env=mpe algorithm=vdn", "VDNMixer", None),
        ("env=mpe algorithm=qmix_ns", "QMIXNSMixer", None),
        ("experiment=simple_spread", "QMIXMixer", 1),
        ("experiment=simple_spread algorithm=vdn", "VDNMixer", None),
        ("experiment=simple_spread algorithm=qplex", "QPLEXMixer", None),
    ],
)
def test_an_environment_may_choose_how_qmix_starts_but_not_the_mixer_of_an_algorithm(arguments, mixer, init_scale):
    own = to_container(compose_config(arguments.split()))["mixer"]
    assert (own["_target_"].rpartition(".")[2], own.get("init_scale")) == (mixer, init_scale)


def test_published_settings_have_agents_without_layer_norm():
    for path in (conf_dir() / "algorithm").glob("*.yaml"):
        norm = to_container(compose_config([f"algorithm={path.stem}"]))["agent"]["norm"]
        published = path.stem.startswith(("pymarl", "epymarl", "wqmix", "qplex_sc2"))
        assert norm == ("none" if published else "layer"), path.stem
