"""What the user types: every wrong setting gets one helpful line, and a tiny run leaves a whole folder."""

import ast
import copy
import dataclasses
import functools
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from qmix_jax import evaluate
from qmix_jax.envs.build import make_env
from qmix_jax.errors import ConfigError
from qmix_jax.library import make_algorithm
from qmix_jax.running import launch, resume
from qmix_jax.settings import config as config_module
from qmix_jax.settings.build import hyper_params, locate, sizes
from qmix_jax.settings.cells import KEYS, cells
from qmix_jax.settings.command_line import check, compose_config, conf_dir
from qmix_jax.settings.config import Config
from qmix_jax.settings.reading import from_arguments, parse, to_container

ROOT_CONFIG = OmegaConf.to_container(OmegaConf.load(conf_dir() / "config.yaml"))
GROUP_FILES = sorted(path for path in conf_dir().glob("*/*.yaml"))


def leaves(tree: dict, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, value in tree.items():
        path = (*prefix, name)
        found += leaves(value, path) if isinstance(value, dict) else [path]
    return found


def sections(tree: dict, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    inner = [
        path for name, value in tree.items() if isinstance(value, dict) for path in sections(value, (*prefix, name))
    ]
    return [prefix, *inner]


def parent(tree: dict, path: tuple[str, ...]) -> dict:
    for name in path[:-1]:
        tree = tree[name]
    return tree


OWN = {name: value for name, value in ROOT_CONFIG.items() if name not in ("defaults", "hydra")}


@pytest.fixture(scope="module")
def defaults() -> dict:
    return to_container(compose_config([]))


@pytest.fixture
def tree(defaults) -> dict:
    return copy.deepcopy(defaults)


def refusal(*arguments: str) -> str:
    """The message for a command line that is refused without building anything."""
    with pytest.raises(ConfigError) as error:
        check(arguments)
    return one_line(error.value)


def parse_with(tree: dict, argument: str) -> Config:
    """As ``check`` does, but without composing the whole configuration for one changed key, which is slow."""
    path = tuple(argument.partition("=")[0].split("."))
    parent(tree, path)[path[-1]] = parent(from_arguments([argument]), path)[path[-1]]
    return parse(tree)


def parse_refusal(tree: dict, argument: str) -> str:
    with pytest.raises(ConfigError) as error:
        parse_with(tree, argument)
    return one_line(error.value)


def one_line(error: ConfigError) -> str:
    message = str(error)
    assert message
    assert all(character.isprintable() for character in message)
    return message


def test_several_values_need_a_multirun():
    assert refusal("env=two_step,mpe").startswith("env=two_step,mpe: several values need --multirun")
    assert refusal("gamma=0.9,0.99").startswith("gamma=0.9,0.99: several values")


def built_refusal(*arguments: str) -> str:
    """The message for a command line whose parts do not fit together."""
    check(arguments)
    with pytest.raises(ConfigError) as error:
        make_algorithm(arguments)
    return one_line(error.value)


@functools.cache
def built(*arguments: str) -> tuple:
    """All that a command line decides about the algorithm, comparable."""
    algorithm, hyper = make_algorithm(["env=two_step", "total_env_steps=1000", *arguments])
    target = algorithm.target
    named = getattr(target, "func", target), getattr(target, "keywords", {})
    optimizer = algorithm.optimizer.update.__qualname__
    return algorithm._replace(env=None, target=named, optimizer=optimizer), [float(x) for x in hyper]


@pytest.mark.parametrize("value", ["010", "1:30", "yes"])
def test_a_number_means_the_same_for_playing_as_for_training(value):
    words = f"episodes={value}: must be a whole number"
    assert words in refusal(f"evaluation.episodes={value}")
    with pytest.raises(ConfigError, match=words):
        evaluate.parse(["policy=smax_3m", f"episodes={value}"])
    env = from_arguments([f"env.name={value}", "env.size=0", "env.on=true"])["env"]
    assert env == {"name": value, "size": 0, "on": True}


def test_numbers_that_are_too_large_for_any_kind_are_one_line():
    huge = "1" + "0" * 400
    for argument in (f"gamma={huge}", f"learner.max_grad_norm=-{huge}", f"seed={huge}"):
        assert re.search("must be (a finite number|at (most|least))", refusal(argument)), argument


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], 1),  # so small that more parts would take longer
        (["rollout.length=32"], 2),
        (["rollout.length=32", "replay.batch_size=63"], 1),
        (["rollout.length=32", "reward.standardise_returns=true"], 1),
        (["learner.minibatch_parts=8"], 8),
    ],
)
def test_minibatches_come_in_parts_on_cpu_unless_they_are_small(arguments, parts):
    algorithm, _ = make_algorithm(["env=two_step", *arguments])
    assert algorithm.sizes.minibatch_parts == parts


class TestNames:
    @pytest.mark.parametrize(
        ("argument", "nearest"),
        [
            ("algorithm=qmx", "'qmix'"),
            ("env=smaxx", "'smax'"),
            ("mixer=vnd", "'vdn'"),
            ("experiment=smax_3n", "'smax_3m'"),
            ("optimizer=adm", "'adam'"),
            ("target=td_lamda", "'td_lambda'"),
            ("logger.wandb.mode=ofline", "'offline'"),
            ("target.update=sft", "'soft'"),
            ("replay=prioritized", "'prioritised'"),
            ("agent=ltsm", "'lstm'"),
            ("mixer=qmix_nss", "'qmix_ns'"),
            ("devices.platform=tup", "'tpu'"),
            ("devices.matmul_precision=bf16", "'bfloat16'"),
        ],
    )
    def test_an_unknown_choice_is_named_with_the_nearest(self, argument, nearest):
        message = refusal(argument)
        assert argument in message
        assert f"did you mean {nearest}?" in message
        assert "choices: " in message

    @pytest.mark.parametrize(
        ("argument", "nearest"),
        [
            ("learnig_rate=1", "optimizer.learning_rate"),
            ("replay.batchsize=1", "replay.batch_size"),
            ("rollout.num_env=1", "rollout.num_envs"),
            ("env.scenari=3m", "env.scenario"),
            ("gama=0.9", "gamma"),
            ("algoritm=qmix", "algorithm"),
            ("epsilon_end=0.1", "exploration.epsilon_end"),
            ("+gama=0.9", "gamma"),
            ("+replay.batchsize=1", "replay.batch_size"),
            ("+logger.wandb.mod=offline", "logger.wandb.mode"),
        ],
    )
    def test_an_unknown_key_is_named_with_the_nearest(self, argument, nearest):
        message = refusal(argument)
        assert argument.lstrip("+") in message
        assert f"unknown key; did you mean {nearest}" in message

    def test_the_typed_configurations_own_field_is_not_a_key(self):
        assert refusal("+parts=1") == "parts=1: unknown key"

    def test_an_unknown_key_is_named_beside_right_ones(self):
        message = refusal("env=mpe", "env.task=simple_spread", "env.num_agent=4", "gamma=0.9")
        assert "env.num_agent=4" in message
        assert "env.num_agents" in message

    def test_an_unknown_scenario_is_named_with_the_nearest(self):
        arguments = ["env=smax", "env.scenario=nope"]
        check(arguments)
        with pytest.raises(ConfigError, match=r"env\.scenario=nope: unknown; did you mean '.*'\? \(choices: .*3m"):
            make_env(parse(to_container(compose_config(arguments))).parts["env"])

    @pytest.mark.parametrize("argument", ["gamma", "gamma=", "=3", "gamma=[1", "gamma=${nowhere}", "env=null", "~env"])
    def test_what_hydra_cannot_read_is_said_in_one_line(self, argument):
        message = refusal(argument)
        assert message
        assert "\n" not in message

    def test_help_is_given_whatever_else_is_asked(self):
        assert check(["--help", "learnig_rate=1"]) == []


class TestValues:
    @pytest.mark.parametrize(
        ("argument", "words"),
        [
            ("replay.batch_size=-1", "must be at least 1"),
            ("replay.batch_size=0", "must be at least 1"),
            ("num_seeds=0", "must be at least 1"),
            ("total_env_steps=0", "must be at least 1"),
            ("rollout.length=1", "must be at least 2"),
            ("rollout.num_envs=0", "must be at least 1"),
            ("seed=-1", "must be at least 0"),
            ("evaluation.seed=4294967296", "must be at most 4294967295"),
            ("gamma=1.5", "must be at most 1"),
            ("gamma=-0.1", "must be at least 0"),
            ("gamma=.nan", "must be a finite number"),
            ("optimizer.learning_rate=.inf", "must be a finite number"),
            ("optimizer.learning_rate=0", "must be more than 0"),
            ("optimizer.learning_rate=1e-46", "is 0 on the device"),
            ("num_seeds=100000", "must be at most 65536"),
            ("sweep.samples=1000000000", "must be at most 10000"),
            ("learner.max_grad_norm=0", "must be more than 0"),
            ("target.tau=0", "must be more than 0"),
            ("target.td_lambda=2", "must be at most 1"),
            ("exploration.epsilon_start=2", "must be at most 1"),
        ],
    )
    def test_a_number_out_of_its_range(self, argument, words, tree):
        assert f"{argument.replace('=.', '=')}: {words}" in parse_refusal(tree, argument).replace(".0:", ":")

    def test_the_command_line_refuses_it_too(self):
        assert refusal("replay.batch_size=-1") == "replay.batch_size=-1: must be at least 1"

    @pytest.mark.parametrize(
        ("argument", "words"),
        [
            ("num_seeds=two", "must be a whole number"),
            ("num_seeds=1.5", "must be a whole number"),
            ("num_seeds=true", "must be a whole number"),
            ("num_seeds=null", "must be a whole number"),
            ("gamma=high", "must be a number"),
            ("gamma=true", "must be a number"),
            ("rollout.auto_reset=3", "must be true or false"),
            ("logger.wandb.project=null", "must be a text"),
            ("run_dir=[a]", "must be a text"),
            ("logger.wandb.tags=a", "must be a list of texts"),
            ("logger.wandb.tags=[1]", "must be a list of texts"),
            ("replay=3", "must be a section of keys"),
        ],
    )
    def test_a_value_of_another_kind(self, argument, words, tree):
        key = argument.partition("=")[0]
        message = parse_refusal(tree, argument)
        assert message.startswith(f"{key}=")
        assert words in message

    @pytest.mark.parametrize(
        ("argument", "read", "expected"),
        [
            ("total_env_steps=1e6", lambda config: config.total_env_steps, 1_000_000),
            ("total_env_steps=1_000", lambda config: config.total_env_steps, 1000),
            ("gamma=1", lambda config: config.gamma, 1.0),
            ("optimizer.learning_rate=1e-3", lambda config: config.optimizer.learning_rate, 1e-3),
            ("rollout.length=null", lambda config: config.rollout.length, None),
            ("rollout.length=64", lambda config: config.rollout.length, 64),
            ("run_dir=2025", lambda config: config.run_dir, "2025"),
            ("logger.wandb.tags=[a,b]", lambda config: config.logger.wandb.tags, ["a", "b"]),
        ],
    )
    def test_a_value_is_read_as_its_kind(self, argument, read, expected, tree):
        found = read(parse_with(tree, argument))
        assert found == expected
        assert type(found) is type(expected)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"replay.batch_size": 33, "replay.capacity": 32}, "replay.batch_size=33: larger than replay.capacity=32"),
            (
                {"replay.batch_size": 1, "replay.capacity": 8, "rollout.num_envs": 9},
                "replay.capacity=8: must hold the rollout.num_envs=9",
            ),
            (
                {"exploration.epsilon_start": 0.1, "exploration.epsilon_end": 0.2},
                "exploration.epsilon_end=0.2: above exploration.epsilon_start=0.1",
            ),
            (
                {"exploration.schedule": "exponential", "exploration.epsilon_end": 0.0},
                "exploration.epsilon_end=0: an exponential schedule never reaches 0",
            ),
            (
                {"exploration.preference_smallest": 4.0},
                "exploration.preference_smallest=4.0: above exploration.preference_largest=1.0",
            ),
            (
                {"exploration.temperature_steps": 5},
                "exploration.temperature_steps=5: this exploration has an epsilon; set exploration.epsilon_steps, and "
                "take the other one out with ~exploration.temperature_steps",
            ),
            ({"exploration.epsilon_end": None}, "exploration.epsilon_end=null: must be a number"),
            ({"seed": 2**31 - 1, "num_seeds": 2}, "num_seeds=2: the last seed"),
            (
                {"learner.minibatch_parts": 5},
                "learner.minibatch_parts=5: does not divide replay.batch_size=32; use 4",
            ),
            (
                {"learner.minibatch_parts": 2, "reward.standardise_returns": True},
                "learner.minibatch_parts=2: reward.standardise_returns needs the whole minibatch; use 1",
            ),
        ],
    )
    def test_settings_that_contradict_each_other(self, changes, words, tree):
        for key, value in changes.items():
            path = tuple(key.split("."))
            parent(tree, path)[path[-1]] = value
        with pytest.raises(ConfigError) as error:
            parse(tree)
        assert words in one_line(error.value)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("rollout.length=2",), "use at least 3"),
            (("agent.hidden_size=many",), "agent.hidden_size=many: must be a whole number"),
            (("+agent.layer=2",), "agent.layer=2: unknown"),
            (("agent._target_=nowhere.Agent",), "agent._target_=nowhere.Agent: cannot be imported"),
            (("target=n_step", "target.n=0"), "target.n=0: must be at least 1"),
            (("target=n_step", "target.n=some"), "target.n=some: must be a whole number"),
            (("+target.m=2",), "target.m=2: unknown"),
            (("agent.shared=3",), "agent.shared=3: must be true or false"),
            (("mixer.nonnegative=relu",), "mixer.nonnegative=relu: unknown"),
            (("optimizer.eps=small",), "optimizer.eps=small: must be a number"),
            (("optimizer.eps=inf",), "optimizer.eps=inf: must be a finite number"),
            (("optimizer.eps=1e39",), "optimizer.eps=1e+39: must be at most 1e+38"),
            (("mixer.init_scale=-inf",), "mixer.init_scale=-inf: must be a finite number"),
            (("mixer.init_scale=-1e39",), "mixer.init_scale=-1e+39: must be at least -1e+38"),
            (("mixer.init_scale=nan",), "mixer.init_scale=nan: must be a finite number"),
            (("agent.hidden_size=3_000_000_000",), "agent.hidden_size=3000000000: must be at most 2147483647"),
        ],
    )
    def test_parts_refuse_what_they_do_not_take(self, arguments, words):
        assert words in built_refusal("experiment=two_step_game", *arguments)


class TestConfigurationFiles:
    @pytest.mark.parametrize("path", GROUP_FILES, ids=lambda path: f"{path.parent.name}={path.stem}")
    def test_every_choice_composes_and_parses(self, path):
        config = parse(to_container(compose_config([f"{path.parent.name}={path.stem}"])))
        assert isinstance(config, Config)
        group = path.parent.name
        if group in config.parts:
            written = OmegaConf.to_container(OmegaConf.load(path))
            assert config.parts[group]["_target_"] == written.get(group, written)["_target_"]

    @pytest.mark.parametrize(
        ("name", "facts"),
        [
            ("pymarl_qmix", {"double": True, "batch": 32, "capacity": 5000, "lr": 5e-4, "epsilon": 50_000, "envs": 1}),
            (
                "pymarl2_qmix",
                {"double": True, "batch": 128, "capacity": 5000, "lr": 1e-3, "epsilon": 100_000, "envs": 8},
            ),
            ("epymarl_qmix", {"double": True, "batch": 32, "capacity": 5000, "lr": 5e-4, "epsilon": 50_000, "envs": 1}),
            ("epymarl_iql", {"double": True, "batch": 32, "capacity": 5000, "lr": 3e-4, "epsilon": 200_000, "envs": 1}),
        ],
    )
    def test_presets_have_the_published_settings(self, name, facts):
        config = parse(to_container(compose_config([f"algorithm={name}"])))
        assert facts == {
            "double": config.target.double_q,
            "batch": config.replay.batch_size,
            "capacity": config.replay.capacity,
            "lr": config.optimizer.learning_rate,
            "epsilon": config.exploration.epsilon_steps,
            "envs": config.rollout.num_envs,
        }
        assert config.algorithm.name == name
        assert config.target.update_unit == ("updates" if name.startswith("epymarl") else "episodes")
        assert config.reward.standardise == name.startswith("epymarl")
        assert config.learner.half_loss == name.startswith("pymarl2")
        assert (config.learner.updates_per_iteration, config.rollout.auto_reset) == (1, False)

    def test_the_algorithm_decides_on_the_mixer(self):
        mixers = {
            name: parse(to_container(compose_config([f"algorithm={name}"]))).parts["mixer"]["_target_"]
            for name in ("iql", "vdn", "qmix")
        }
        assert mixers == {
            "iql": "qmix_jax.mixers.independent.IndependentMixer",
            "vdn": "qmix_jax.mixers.vdn.VDNMixer",
            "qmix": "qmix_jax.mixers.qmix.QMIXMixer",
        }

    @pytest.mark.parametrize("path", leaves(OWN), ids=".".join)
    def test_every_key_is_read(self, path, tree):
        del parent(tree, path)[path[-1]]
        with pytest.raises(ConfigError, match=rf"^{re.escape('.'.join(path))}: missing"):
            parse(tree)

    def test_every_field_is_used_outside_the_configuration(self):
        """Together with the next test: what can be set is not ignored."""
        used = {
            node.attr
            for path in Path(config_module.__file__).parents[1].rglob("*.py")
            if path.name != "config.py"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
        }
        kinds = [kind for kind in vars(config_module).values() if dataclasses.is_dataclass(kind)]
        assert len(kinds) > 10
        used |= set(KEYS)  # what a sweep varies, each tested in test_waves.py
        used |= {"fraction"}  # read by ExplorationConfig.steps, tested below
        assert {field.name for kind in kinds for field in dataclasses.fields(kind)} <= used

    def test_exploration_takes_a_fraction_of_the_run_unless_its_steps_are_set(self):
        def steps(*arguments: str) -> float:
            config = parse(to_container(compose_config(["total_env_steps=2000", *arguments])))
            return float(hyper_params(config).exploration_steps)

        assert steps() == 300
        assert steps("exploration.fraction=0.5") == 1000
        assert steps("exploration.epsilon_steps=7") == 7
        assert steps("exploration=softmax", "exploration.temperature_steps=9") == 9

    @pytest.mark.parametrize(
        "arguments",
        [
            ["gamma=0.5"],
            ["rollout.num_envs=3"],
            ["rollout.length=7"],
            ["rollout.auto_reset=false"],
            ["replay.capacity=77"],
            ["replay.batch_size=7"],
            ["replay.replacement=false"],
            ["replay=prioritised"],
            ["replay=prioritised", "replay.priority.alpha=0.9"],
            ["replay=prioritised", "replay.priority.beta=0.9"],
            ["replay=prioritised", "replay.priority.beta_steps=9"],
            ["learner.updates_per_iteration=3"],
            ["learner.warmup_env_steps=3"],
            ["learner.max_grad_norm=3"],
            ["learner.max_grad_norm=null"],
            ["learner.half_loss=true"],
            ["learner.minibatch_parts=4"],
            ["reward.scale=3"],
            ["reward.standardise=true"],
            ["reward.standardise_returns=true"],
            ["exploration.epsilon_start=0.5"],
            ["exploration.epsilon_end=0.5"],
            ["exploration.epsilon_steps=5"],
            ["exploration.schedule=exponential"],
            ["exploration.preference_share=0.3"],
            ["exploration.preference_share=0.3", "exploration.preference_smallest=0.02"],
            ["exploration.preference_share=0.3", "exploration.preference_largest=0.2"],
            ["exploration.preference_share=0.3", "exploration.preference_steps=4"],
            ["exploration.preference_share=0.3", "exploration.preferences_end=50"],
            ["evaluation.interval_env_steps=99"],
            ["evaluation.episodes=3"],
            ["evaluation.seed=3"],
            ["optimizer=rmsprop"],
            ["optimizer.learning_rate=3"],
            ["optimizer.learning_rate_end=1e-4"],
            ["optimizer.learning_rate_steps=9"],
            ["target=n_step"],
            ["target=n_step", "target.n=2"],
            ["target=one_step"],
            ["target=q_lambda"],
            ["target=pymarl2_q_lambda"],
            ["target.td_lambda=0.1"],
            ["target.double_q=false"],
            ["target.update=soft"],
            ["target.update_unit=episodes"],
            ["target.update_interval=3"],
            ["target.update=soft", "target.tau=0.3"],
            ["agent=lstm"],
            ["agent=feed_forward"],
            ["agent.hidden_size=3"],
            ["agent.last_action=false"],
            ["agent.agent_id=false"],
            ["agent.norm=none"],
            ["agent.shared=false"],
            ["mixer=vdn_s"],
            ["mixer=qmix_lin"],
            ["mixer=qmix_ns"],
            ["mixer=cross_channel"],
            ["mixer=cross_channel", "mixer.learned=true"],
            ["mixer=cross_channel", "mixer.projection_seed=3"],
            ["mixer.embed_size=3"],
            ["mixer.hypernet_layers=1"],
            ["mixer.hypernet_size=3"],
            ["mixer.init_scale=3"],
            ["mixer.nonnegative=square"],
        ],
        ids=" ".join,
    )
    def test_every_setting_of_the_algorithm_changes_what_is_built(self, arguments):
        assert built(*arguments) != built()
        if len(arguments) > 1:
            assert built(*arguments) != built(arguments[0])

    @pytest.mark.parametrize("path", sections(OWN), ids=lambda path: ".".join(path) or "root")
    def test_no_section_takes_another_key(self, path, tree):
        parent(tree, (*path, "bogus"))["bogus"] = 1
        with pytest.raises(ConfigError, match=re.escape(".".join((*path, "bogus=1: unknown key")))):
            parse(tree)

    @pytest.mark.parametrize("name", ["env", "agent", "mixer", "target", "optimizer", "algorithm"])
    def test_no_part_can_be_left_out(self, name, tree):
        del tree[name]
        with pytest.raises(ConfigError, match=f"^{name}: missing"):
            parse(tree)


def train_process(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """``python -m qmix_jax.train`` in a folder of its own, with this process's settings of JAX."""
    command = [sys.executable, "-m", "qmix_jax.train", *arguments]
    environment = {**os.environ, "JAX_NUMPY_RANK_PROMOTION": "raise"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


def test_a_wrong_setting_ends_the_program_in_one_line(tmp_path):
    ended = train_process(tmp_path, "env=smax", "env.scenario=nope")
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: env.scenario=nope: unknown; did you mean ")
    assert ended.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


class Run:
    """A finished training run."""

    arguments = (
        "experiment=two_step_game",
        "num_seeds=2",
        "seed=5",
        "total_env_steps=200",
        "evaluation.interval_env_steps=100",
        "agent.hidden_size=16",
        "logger.wandb.mode=disabled",
    )

    def __init__(self, folder: Path):
        started = time.monotonic()
        self.run_dir = folder / "run"
        self.process = train_process(folder, *self.arguments, f"run_dir={self.run_dir}")
        assert self.process.returncode == 0, self.process.stderr
        self.seconds = time.monotonic() - started
        self.summary = json.loads((self.run_dir / "summary.json").read_text())
        lines = (self.run_dir / "metrics.jsonl").read_text().splitlines()
        self.metrics = [json.loads(line) for line in lines]


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Run:
    return Run(tmp_path_factory.mktemp("train"))


class TestRun:
    def test_the_folder_holds_what_it_should_and_nothing_else_is_left(self, finished):
        names = {str(path.relative_to(finished.run_dir)) for path in finished.run_dir.rglob("*") if path.is_file()}
        names = {name for name in names if not name.startswith("checkpoints/00000002/")}
        assert [path.name for path in (finished.run_dir / "checkpoints").iterdir()] == ["00000002"]
        policies = {
            f"policies/seed_{seed}/{name}{suffix}"
            for seed in (5, 6)
            for name in ("final", "best", "mixer", "best_mixer")
            for suffix in (".json", ".safetensors")
        }
        assert names == {"config.json", "metrics.jsonl", "summary.json", "marl_eval.json", "curves.png", *policies}
        assert [path.name for path in finished.run_dir.parent.iterdir()] == ["run"]

    def test_the_resolved_configuration_can_be_used_again(self, finished):
        saved = json.loads((finished.run_dir / "config.json").read_text())
        assert saved["run_dir"] == str(finished.run_dir)
        config = parse(saved)
        assert config.num_seeds == 2
        assert config.total_env_steps == 200
        assert config.parts["agent"]["hidden_size"] == 16
        assert parse(to_container(compose_config([*finished.arguments, f"run_dir={finished.run_dir}"]))) == config

    def test_metrics_have_a_row_for_every_epoch_and_seed(self, finished):
        assert [(row["epoch"], row["seed"], row["env_steps"]) for row in finished.metrics] == [
            (1, 5, 100),
            (1, 6, 100),
            (2, 5, 200),
            (2, 6, 200),
        ]
        for row in finished.metrics:
            assert {"loss", "epsilon", "eval_return", "eval_episode_length", "updates", "seconds"} <= row.keys()
            assert row["eval_return"] in {0.0, 1.0, 7.0, 8.0}
            assert row["eval_episode_length"] == 2.0
            assert row["epsilon"] == 1.0

    def test_the_curves_are_a_picture(self, finished):
        assert (finished.run_dir / "curves.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")

    def test_the_summary_says_what_was_promised(self, finished):
        summary = finished.summary
        assert {
            "algorithm",
            "env",
            "num_seeds",
            "seeds",
            "env_steps",
            "updates",
            "updates_per_env_step",
            "compile_seconds",
            "wall_seconds",
            "env_steps_per_second",
            "evaluation",
            "best",
            "versions",
            "git_commit",
        } <= summary.keys()
        assert summary["algorithm"] == "qmix"
        assert summary["env"] == "two_step"
        assert (summary["num_seeds"], summary["seeds"], summary["env_steps"]) == (2, [5, 6], 200)
        # One update for each of the 100 episodes, once there are 32 to choose from.
        assert summary["updates"] == 69
        assert summary["updates_per_env_step"] == pytest.approx(69 / 200)
        assert 0 < summary["compile_seconds"] < summary["wall_seconds"] < finished.seconds
        assert summary["env_steps_per_second"] > 0
        assert summary["versions"]["jax"]
        last = {row["seed"]: row for row in finished.metrics}
        for name in ("evaluation", "best"):
            assert summary[name]["win_rate"] is None
            assert summary[name]["episode_length"] == [2.0, 2.0]
        assert summary["evaluation"]["return"] == [last[seed]["eval_return"] for seed in (5, 6)]
        for seed, best in zip((5, 6), summary["best"]["return"], strict=True):
            assert best == max(row["eval_return"] for row in finished.metrics if row["seed"] == seed)

    def test_output_that_is_not_for_a_terminal_is_plain(self, finished):
        out = finished.process.stdout
        assert all(character.isprintable() or character == "\n" for character in out)
        assert "phase=compiling state=done seconds=" in out
        assert re.search(r"^env_steps=200 total_env_steps=200 .*eval_return=", out, re.MULTILINE)
        assert "update : data ratio: 1 updates of 32 sequences" in out
        assert re.search(r"^seed=mean return=", out, re.MULTILINE)
        assert "Traceback" not in finished.process.stderr

    @pytest.mark.parametrize(("which", "key"), [("final", "evaluation"), ("best", "best")])
    def test_its_policies_can_be_played(self, finished, which, key, tmp_path):
        """The game and the greedy policy are deterministic: playing gives what the run's own evaluation gave."""
        output = tmp_path / "evaluation.json"
        evaluate.main([f"run_dir={finished.run_dir}", f"which={which}", "episodes=2", f"output={output}"])
        played = json.loads(output.read_text())
        assert [policy["seed"] for policy in played["policies"]] == [5, 6]
        assert [policy["return"]["mean"] for policy in played["policies"]] == finished.summary[key]["return"]

    def test_its_folder_is_not_overwritten(self, finished):
        ended = train_process(finished.run_dir.parent, *finished.arguments, f"run_dir={finished.run_dir}")
        assert ended.returncode == 2
        assert re.match(r"error: run_dir=.*: already holds a run; .*resume=true\n$", ended.stderr)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"^run_dir=.*file.run: cannot be made: "):
        resume.make_run_dir(tmp_path / "file" / "run")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rollout.length=64"], ["rollout.length=64: an episode has up to 101 transitions; those after its first 63"]),
        (["rollout.length=102"], []),
        (["rollout.length=64", "rollout.sequences=continue"], []),
        (
            ["rollout.length=102", "total_env_steps=10", "learner.warmup_env_steps=0"],
            ["learning starts after", "evaluation.interval_env_steps=50000 environment steps, one"],
        ),
        (
            ["total_env_steps=10_000"],
            ["learner.warmup_env_steps=10000: learning starts after 11312 environment", "one"],
        ),
        (["total_env_steps=20_000", "evaluation.interval_env_steps=10_000"], []),
        (["sweep.lr=[1e-3,1e-2]", "sweep.halving=19"], []),
        (["sweep.lr=[1e-3,1e-2]", "sweep.halving=21"], ["sweep.halving=21: the run has about 20 epochs"]),
        (["sweep.lr=[1e-3]", "sweep.halving=1"], ["sweep.halving=1: there is one cell, so that no cell is stopped"]),
    ],
)
def test_settings_that_may_surprise_are_pointed_out(arguments, words):
    container = to_container(compose_config(arguments))
    config = parse(container)
    env = make_env({"_target_": "toy_env.make_toy"})._replace(episode_limit=101)
    found = launch.notices(config, sizes(config, env), env.episode_limit, len(cells(container, config)))
    assert len(found) == len(words)
    for line, expected in zip(found, words, strict=True):
        assert expected in line


@pytest.mark.parametrize("target", ["os.system", "builtins.dict", "math.sqrt", "os.sep", "json.loads"])
@pytest.mark.parametrize("section", ["agent", "mixer", "target", "optimizer", "exploration", "algorithm"])
def test_code_that_does_not_fit_its_section_is_one_line(section, target):
    with pytest.raises(ConfigError, match=rf"^{section}\.") as raised:
        make_algorithm(["env=two_step", f"{section}._target_={target}"])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_a_path_is_quoted_for_playing_as_for_training(quote):
    argument = f"run_dir={quote}runs/läufe ✓ [1]{quote}"
    assert evaluate.parse([argument]).run_dir == compose_config([argument]).run_dir == "runs/läufe ✓ [1]"


@pytest.mark.parametrize("path", ["", "name", "/.", "..name", "...", "a package.name", "package.1"])
def test_a_target_is_a_dotted_path(path):
    with pytest.raises(ConfigError, match=rf"^algorithm\._target_={re.escape(path)}: must be a dotted path"):
        locate("algorithm", path)
