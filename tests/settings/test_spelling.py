"""Misspelt arguments: each is answered with the one that was meant."""

import importlib
import inspect
import os

import pytest

from qmix_jax.envs.jaxmarl import MPE_TASKS, SMAX_SCENARIOS
from qmix_jax.envs.smax.scenarios import SMAC_SCENARIOS
from qmix_jax.errors import ConfigError
from qmix_jax.settings import spelling
from qmix_jax.settings.arguments import check_form, split_options
from qmix_jax.settings.command_line import _known_keys, check, compose_config, for_hydra, shipped_targets
from qmix_jax.settings.groups import choices, group_names
from qmix_jax.settings.reading import to_container
from qmix_jax.settings.spelling import nearest_key, unknown_group_choice

KEYS = {
    "lr": "optimizer.learning_rate",
    "LR": "optimizer.learning_rate",
    "learning_rate": "optimizer.learning_rate",
    "learning-rate": "optimizer.learning_rate",
    "learnig_rate": "optimizer.learning_rate",
    "optimizer.lr": "optimizer.learning_rate",
    "optimizer.learningrate": "optimizer.learning_rate",
    "batch_size": "replay.batch_size",
    "BUFFER_BATCH_SIZE": "replay.batch_size",
    "buffer_size": "replay.capacity",
    "replay.buffer_size": "replay.capacity",
    "epsilon": "exploration.epsilon_start",
    "epsilon_finish": "exploration.epsilon_end",
    "epsilon_end": "exploration.epsilon_end",
    "epsilon_anneal_time": "exploration.epsilon_steps",
    "hidden_dim": "agent.hidden_size",
    "rnn_hidden_dim": "agent.hidden_size",
    "hidden_size": "agent.hidden_size",
    "mixing_embed_dim": "mixer.embed_size",
    "hypernet_embed": "mixer.hypernet_size",
    "map_name": "env.scenario",
    "env.map_name": "env.scenario",
    "env_args.map_name": "env.scenario",
    "env.scenari": "env.scenario",
    "scenario": "env.scenario",
    "n_envs": "rollout.num_envs",
    "num_envs": "rollout.num_envs",
    "NUM_ENVS": "rollout.num_envs",
    "batch_size_run": "rollout.num_envs",
    "total_timesteps": "total_env_steps",
    "TOTAL_TIMESTEPS": "total_env_steps",
    "t_max": "total_env_steps",
    "tau": "target.tau",
    "polyak": "target.tau",
    "target_update_interval": "target.update_interval",
    "td_lambda": "target.td_lambda",
    "double_q": "target.double_q",
    "grad_norm_clip": "learner.max_grad_norm",
    "max_grad_norm": "learner.max_grad_norm",
    "learning_starts": "learner.warmup_env_steps",
    "test_interval": "evaluation.interval_env_steps",
    "test_nepisode": "evaluation.episodes",
    "gama": "gamma",
    "GAMMA": "gamma",
    "discount": "gamma",
    "seeds": "num_seeds",
    "n_seeds": "num_seeds",
    "Seed": "seed",
    "algo": "algorithm",
    "algoritm": "algorithm",
    "mixing": "mixer",
    "optim": "optimizer",
    "use_cuda": "devices.platform",
    "save_model_interval": "checkpoint.every_minutes",
    "local_results_path": "run_dir",
    "rundir": "run_dir",
    "wandb_project": "logger.wandb.project",
    "logger.wandb.mod": "logger.wandb.mode",
    "use_wandb": "logger.wandb.mode",
    "rew_scale": "reward.scale",
    "replay.batchsize": "replay.batch_size",
    "rollout.num_env": "rollout.num_envs",
}
CHOICES = {
    "algorithm=QMIX": "did you mean 'qmix'?",
    "algorithm=q-mix": "did you mean 'qmix'?",
    "algorithm=VDN": "did you mean 'vdn'?",
    "algorithm=dqn": "did you mean 'iql'?",
    "algorithm=ppo": "value-based algorithms, no policy gradients",
    "algorithm=MAPPO": "value-based algorithms, no policy gradients",
    "env=MPE": "did you mean 'mpe'?",
    "env=SMAC": "did you mean 'smax'?",
    "env=3m": "did you mean env=smax env.scenario=3m?",
    "env=simple_spread": "did you mean env=mpe env.task=simple_spread?",
    "env=MMM2": "did you mean env=smax env.scenario=MMM2?",
    "mixer=QMIX": "did you mean 'qmix'?",
    "agent=GRU": "did you mean 'gru'?",
    "optimizer=Adam": "did you mean 'adam'?",
}
OF_ANOTHER_CHOICE = {
    "env=mpe target.td_lambda=0.9": "target.td_lambda=0.9: no setting of target=one_step; choose target=td_lambda for",
    "target=one_step target.td_lambda=0.9": "no setting of target=one_step; choose target=td_lambda for it (or q_",
    "replay.priority.alpha=0.6": "no setting of replay=uniform; choose replay=prioritised for it",
    "+replay.priority.alpha=0.6": "no setting of replay=uniform; choose replay=prioritised for it",
    "++replay.priority.alpha=0.6": "no setting of replay=uniform; choose replay=prioritised for it",
    "++agent.own=1 target.n=3": "target.n=3: no setting of target=td_lambda",
    "algorithm.alpha=0.5": "no setting of algorithm=qmix; choose algorithm=cw_qmix for it (or ow_qmix, wqmix_cw, wqmix",
    "replay.memory_window=4": "no setting of replay=uniform; choose replay=on_policy for it",
    "target.n=3": "no setting of target=td_lambda; choose target=n_step for it",
    "+target.n=3": "no setting of target=td_lambda; choose target=n_step for it",
    "agent.layers=2": "no setting of agent=entities; choose agent=deep_gru for it",
    "algorithm.joint=actions": "choose algorithm=qtran for it (or qtran_alt, pymarl_qtran)",
    "env.penalty=-1": "no setting of env=smax; choose env=predator_prey for it",
    "exploration.temperature_start=1": "choose exploration=softmax for it",
    "exploration=softmax exploration.epsilon_start=1": "choose exploration=epsilon_greedy for it",
    "mixer=vdn mixer.embed_size=16": "no setting of mixer=vdn; choose mixer=qmix for it",
    "mixer=vdn mixer.embed_siz=16": "mixer.embed_size is no setting of mixer=vdn; choose mixer=qmix for it",
    "mixer=vdn mixing_embed_dim=16": "mixer.embed_size is no setting of mixer=vdn; choose mixer=qmix for it",
    "env=mpe env.scenario=3m": "no setting of env=mpe; choose env=smax for it",
    "per_alpha=0.6": "replay.priority.alpha is no setting of replay=uniform; choose replay=prioritised for it",
}
FORMS = {
    "-s": "unknown option",
    "--seed=1": "write seed=1",
    "--num-seeds=4": "write num_seeds=4",
    "--num_seeds 4": "write num_seeds=4",
    "--env=smax": "write env=smax",
    "seed:1": "write seed=1",
    "train": "must look like key=value",
    "qmix": "did you mean algorithm=qmix?",
    "smax_3m": "did you mean experiment=smax_3m?",
    "=3": "has no key",
    "seed=1 seed=2": "seed=2: given twice, before as seed=1",
    "seed=1 +seed=2": "given twice",
    "run_dir=": "run_dir=: is empty",
    "run_dir=~/x": "write run_dir=$HOME/x",
    "--config-name=foo": "--config-dir FOLDER experiment=NAME",
    "--config-path x": "--config-dir FOLDER experiment=NAME",
    "--resolve": "only beside --cfg job",
    "--cfg=foo": "must be job, hydra or all",
    "--info=foo": "must be one of",
    "--shell-completion": "--shell-completion: the shell cannot complete",
    "-sc": "-sc: the shell cannot complete",
    "--multirun --cfg job": "only one of",
    "--config-dir": "needs a value",
    "--config-dir /nope": "no such folder",
}
WORDS = {
    "gamma=x=5": "gamma=x=5: cannot be read, for characters like these need quotes",
    "env.scenario=a#b": "'env.scenario=\"a#b\"'",
    "sweep.lr=[1e-4,": "[ and ] do not match",
    "sweep.lr={low:1": "{ and } do not match",
    "{": "must look like key=value",
    "{=1": "the key '{' cannot be read",
    "sweep.design=random": "nothing to vary",
    "total_env_steps=1 evaluation.interval_env_steps=1e9": "use at most 10000000",
    "+seed=3": "seed is a setting already; write it without +",
    "gamma=${nowhere}": "gamma=${nowhere}: Interpolation key",
    "total_env_steps=1M": "must be a whole number, like 1_000_000",
    "total_env_steps=1,000,000": "a number is 1_000_000",
    f"run_dir=runs/{'a' * 300}": "a name in it is too long; files have names of at most 250 bytes",
    f"resume={'a' * 300}": "a name in it is too long",
    "--multirun seed=1,2 run_dir=x": "run_dir=x: all jobs of a multirun would have this folder; hydra.sweep.dir=x",
    "--multirun seed=range(0,3) run_dir=x": "run_dir=x: all jobs of a multirun would have this folder",
    "--multirun gamma=interval(0.9,0.99)": "gamma=interval(0.9,0.99): cannot be swept over; give values like",
    "env=smax_jaxmarl env.scenario=MMM2": "env=smax has it",
    "logger=tensorbord": "did you mean logger=tensorboard",
    "lr=1e-3": "lr=0.001: unknown key; did you mean optimizer.learning_rate=0.001?",
    "env=pettingzoo env.name=mpe2.simple_spread_v3 env.N=3": "unknown key; settings of the environment itself have a "
    "plus: +env.N=3",
    "env=gymnasium env.sight=2": "unknown key; settings of the environment itself have a plus: +env.sight=2",
    "env=custom env._target_=mine.make env.episode_limit=5": "have a plus: +env.episode_limit=5",
    "env=pymarl env._target_=mine.make env.map_name=3m": "have a plus: +env.map_name=3m",
    "env=jumanji env.epsiode_limit=3": "did you mean env.episode_limit=3? settings of the environment itself have",
    "env=football env.maxsteps=3": "did you mean env.max_steps=3? settings of the environment itself have a plus",
    "env=mpe env.max_step=3": "env.max_step=3: unknown key; did you mean env.max_steps=3?",
    "--multirun gama=0.9,0.8": "gama=0.9: unknown key; did you mean gamma=0.9?",
    "--multirun gamma=0.9,2": "gamma=2.0: must be at most 1",
    "--multirun seed=1,2 algorithm=qmix,QMIX": "algorithm=QMIX: unknown",
    "--cfg job gama=0.9": "did you mean gamma=0.9?",
}


def refusal(*arguments: str) -> str:
    with pytest.raises(ConfigError) as error:
        check(arguments)
    assert str(error.value).isprintable()
    return str(error.value)


def test_a_misspelt_key_is_answered_with_the_one_that_was_meant():
    known = _known_keys((), None) | set(group_names())
    others = {name for name in known if not name.startswith("sweep.")}
    assert {key: nearest_key(key, others) for key in KEYS} == KEYS
    assert len(KEYS) >= 60


def test_a_key_of_another_environment_is_answered_with_one_of_this():
    known = _known_keys(("env=mpe",), None)
    assert nearest_key("map_name", known) == "env.task"


@pytest.mark.parametrize("line", OF_ANOTHER_CHOICE)
def test_a_key_of_another_choice_is_answered_with_that_choice(line):
    assert OF_ANOTHER_CHOICE[line] in refusal(*line.split())


def test_a_key_of_this_choice_comes_before_one_of_another():
    known, elsewhere = {"env.task", "env.num_agents", "optimizer.learning_rate"}, {"env.scenario", "algorithm.alpha"}
    assert nearest_key("env.map_name", known, elsewhere) == "env.task"
    assert nearest_key("alpha", known, elsewhere) == "optimizer.learning_rate"
    assert nearest_key("env.sight", known, elsewhere) in known


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("use_layer_norm=true", "did you mean agent.norm=...?"),
        ("use_wandb=true", "did you mean logger.wandb.mode=...?"),
        ("double_dqn=false", "did you mean target.double_q=false?"),
    ],
)
def test_yes_and_no_are_only_proposed_where_they_are_values(line, words):
    assert words in refusal(line)


def test_a_misspelt_choice_is_answered_with_the_one_that_was_meant():
    for argument, words in CHOICES.items():
        group, _, value = argument.partition("=")
        message = str(unknown_group_choice(group, value, choices(group)))
        assert message.startswith(f"{argument}: ")
        assert words in message


def test_an_argument_of_another_form_is_answered_with_the_right_one():
    for line, words in FORMS.items():
        message = refusal(*line.split())
        assert words in message, message


@pytest.mark.parametrize("line", WORDS)
def test_what_hydra_would_answer_in_its_own_words_is_answered_in_ours(line):
    assert WORDS[line] in refusal(*line.split())


def test_names_of_projects_stand_for_settings_that_exist():
    keys = _known_keys((), None) | _known_keys(("env=mpe", "replay=prioritised"), None) | set(group_names())
    assert set(spelling.ELSEWHERE) <= keys
    assert set(SMAX_SCENARIOS) == spelling.SMAX_SCENARIOS
    assert set(SMAC_SCENARIOS) == spelling.ONLY_IN_SMAC
    assert set(MPE_TASKS) == spelling.MPE_TASKS


def test_environments_that_pass_settings_on_are_those_that_take_any():
    takes_any = set()
    for target in shipped_targets("env"):
        module, _, name = target.rpartition(".")
        taken = inspect.signature(getattr(importlib.import_module(module), name)).parameters.values()
        if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in taken):
            takes_any.add(target)
    assert takes_any == spelling.PASSING_ON


def test_options_are_told_from_settings():
    flags = split_options(["-m", "gamma=0.9", "--config-dir", "here", "seed=1"])
    assert flags.overrides == ["gamma=0.9", "seed=1"]
    assert flags.options == {"-m": "", "--config-dir": "here"}
    assert (str(flags.config_dir), flags.multirun) == ("here", True)


def test_hydra_takes_settings_after_the_last_option_only():
    assert for_hydra(["gamma=0.9", "-cd", "here", "seed=1,2", "-m"]) == ["-cd=here", "-m", "gamma=0.9", "seed=1,2"]
    assert for_hydra(["seed=1", "--info", "gamma=0.9"]) == ["--info=all", "seed=1", "gamma=0.9"]


def test_a_folder_may_have_any_name():
    odd = ["x=5", "a b", "a#b", "läufe", "a[1]", "{a}", "a(1)", "a,b", "a;b", "a'b", 'a"b', "a\\", "a\nb", "-a", "a:b"]
    for name in odd:
        check_form([f"run_dir={name}"])
    assert os.sep not in "".join(odd)


def test_a_logger_is_chosen_like_a_group():
    assert to_container(compose_config(["logger=tensorboard"]))["logger"]["tensorboard"] is True
    assert to_container(compose_config([]))["logger"]["tensorboard"] is False
    assert for_hydra(["logger=tensorboard", "seed=1"]) == ["logger.tensorboard=true", "seed=1"]


@pytest.mark.parametrize("argument", ["", " "])
def test_an_empty_argument_is_named_as_such(argument):
    assert "an argument is empty" in refusal(argument)
