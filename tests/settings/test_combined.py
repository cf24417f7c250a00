"""Choices beside each other: what would have no effect, or the name of something else, is said in one line."""

import pytest

from qmix_jax.envs.settings import say
from qmix_jax.errors import ConfigError
from qmix_jax.settings.combined import UNREAD, mixer_of
from qmix_jax.settings.command_line import check, compose_config
from qmix_jax.settings.groups import choices
from qmix_jax.settings.reading import to_container

REFUSED = {
    "algorithm=iql mixer=vdn": "mixer=vdn: the agents of algorithm=iql learn without a mixer; leave it out, or choose "
    "algorithm=vdn",
    "algorithm=pqn_iql mixer=qmix": "or choose algorithm=pqn_qmix",
    "algorithm=pymarl_iql mixer=qplex": "or choose algorithm=qplex",
    "algorithm=iql mixer=cross_channel": "or choose algorithm=qmix",
    "experiment=smax_3m env=mpe": "env=mpe: experiment=smax_3m sets env.scenario=3m, which env=mpe does not have; "
    "leave one of the two out, or add ~env.scenario",
    "experiment=simple_spread env=smax": "experiment=simple_spread sets env.task=simple_spread, which env=smax",
    "algorithm=pymarl_qmix mixer=vdn": "mixer=vdn: algorithm=pymarl_qmix sets mixer.hypernet_layers=2, which mixer=vdn "
    "does not have; leave one of the two out, or add ~mixer.hypernet_layers ~mixer.hypernet_size ~mixer.init_scale",
    "algorithm=wqmix_ow mixer=vdn": "mixer=vdn: algorithm=wqmix_ow sets mixer.hypernet_layers=2",
    "target.tau=0.1": "target.tau=0.1: with target.update=hard the network is copied; leave it out, or use "
    "target.update=soft",
    "target.update=soft target.update_interval=10": "leave it out, or use target.update=hard",
    "target.update=soft target.update_unit=episodes": "leave it out, or use target.update=hard",
    "replay=on_policy replay.replacement=true": "learned from equally often; leave it out, or use replay=uniform",
    "target.network=online target.double_q=false": "there is no target network; leave it out, or use target.network=",
    "agent=feed_forward rollout.sequences=continue learner.burn_in=2": "learner.burn_in=2: with agent=feed_forward",
    "optimizer.learning_rate_end=null optimizer.learning_rate_steps=9": "the learning rate is constant; leave it out",
    "env=mpe exploration.preference_steps=3": "no team has preferences; leave it out",
}
NOTES = {
    "mixer=vdn": "note: mixer=vdn: the mixer of algorithm=qmix is qmix; this run is called qmix all the same, unless "
    "you give algorithm.name=...",
    "algorithm=qplex mixer=qmix": "the mixer of algorithm=qplex is qplex; this run is called qplex all the same",
    "algorithm=qplex_sc2 mixer=vdn": "this run is called qplex_sc2 all the same",
    "algorithm=ow_qmix mixer=vdn": "this run is called ow_qmix all the same",
    "mixer=cross_channel": "note: mixer=cross_channel: the mixer of algorithm=qmix is qmix",
    "mixer=none mixer._target_=my_mixer.WeightedSum +mixer.hidden_size=64": "note: mixer._target_=my_mixer.WeightedSum",
}
FINE = [
    "mixer=vdn algorithm.name=my_vdn",
    "algorithm=vdn mixer=vdn",
    "env=mpe mixer=qmix",
    "algorithm=iql mixer=none",
    "algorithm=pymarl_qmix mixer=qatten algorithm.name=pymarl_qatten",
    "algorithm=pymarl_qmix mixer=vdn ~mixer.hypernet_layers ~mixer.hypernet_size ~mixer.init_scale algorithm.name=x",
    "experiment=smax_3m env=mpe ~env.scenario",
    "target.update=soft target.tau=0.1",
    "agent._target_=my_agent.Agent +agent.layers=2",
    "env=jaxmarl +env.num_agents=2",
]


@pytest.mark.parametrize("line", REFUSED)
def test_what_does_not_fit_is_one_line(line):
    with pytest.raises(ConfigError) as error:
        check(line.split())
    assert REFUSED[line] in str(error.value)


@pytest.mark.parametrize("line", NOTES)
def test_a_mixer_that_the_algorithm_is_not_named_after_is_pointed_out(line, capsys):
    say.cache_clear()
    check(line.split())
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert NOTES[line] in told[0]


@pytest.mark.parametrize("line", FINE)
def test_what_fits_needs_no_words(line, capsys):
    say.cache_clear()
    check(line.split())
    assert capsys.readouterr().err == ""


def test_the_mixer_of_an_algorithm_is_the_one_that_it_is_composed_with():
    for algorithm in choices("algorithm"):
        alone, named = ([f"algorithm={algorithm}", *more] for more in ([], [f"mixer={mixer_of(algorithm)}"]))
        targets = {to_container(compose_config(arguments))["mixer"]["_target_"] for arguments in (alone, named)}
        assert len(targets) == 1, algorithm


def test_what_is_not_read_exists():
    tree = to_container(compose_config([]))
    for unread in UNREAD:
        for key in (*unread.keys, unread.other):
            section, _, name = key.partition(".")
            assert name in tree[section] or key == "replay.on_policy", key
