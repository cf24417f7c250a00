"""PQN: its returns by hand, two iterations against NumPy, and what does not fit together."""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from toy_env import Kind, expected_avail, expected_reward, make_toy

from qmix_jax import make_algorithm
from qmix_jax.acting.rollout import draw_all, number_of_starts
from qmix_jax.algorithms import loop as qmix
from qmix_jax.algorithms.base import Algorithm, Sizes, TargetUpdate
from qmix_jax.algorithms.pqn import PQN
from qmix_jax.errors import ConfigError
from qmix_jax.learning import optimizers, targets
from qmix_jax.mixers.vdn import VDNMixer
from qmix_jax.networks.agents import RecurrentAgent
from qmix_jax.replay.on_policy import passes
from qmix_jax.settings.build import sizes
from qmix_jax.settings.command_line import check, compose_config
from qmix_jax.settings.reading import parse, to_container
from qmix_jax.types import HyperParams

KINDS = (Kind(3, True), Kind(6, False))
ENV = make_toy(KINDS)
NUM_ENVS, LENGTH, WINDOW, BATCH, UPDATES, HIDDEN = 4, 5, 2, 2, 4, 3
GAMMA, LAMBDA, RATE, RATE_STEPS, CLIP, REWARD_SCALE = 0.9, 0.6, 0.05, 100.0, 11.0, 0.5
SIZES = Sizes(
    num_envs=NUM_ENVS,
    length=LENGTH,
    auto_reset=True,
    capacity=NUM_ENVS,
    batch_size=BATCH,
    updates_per_iteration=UPDATES,
    warmup_iterations=0,
    iterations_per_epoch=2,
    evaluation_episodes=2,
    evaluation_seed=0,
    continues=True,
    memory_window=WINDOW,
)
ALGORITHM = Algorithm(
    method=PQN(),
    env=ENV,
    agent=RecurrentAgent(obs_size=3, num_agents=2, num_actions=3, hidden_size=HIDDEN, layer_norm=True),
    mixer=VDNMixer(num_agents=2, state_size=2),
    target=targets.td_lambda,
    optimizer=optimizers.radam(),
    sizes=SIZES,
    target_update=TargetUpdate.ONLINE,
    on_policy=True,
)
HYPER = HyperParams(
    learning_rate=jnp.float32(RATE),
    learning_rate_end=jnp.float32(0.0),
    learning_rate_steps=jnp.float32(RATE_STEPS),
    gamma=jnp.float32(GAMMA),
    td_lambda=jnp.float32(LAMBDA),
    exploration_start=jnp.float32(0.8),
    exploration_end=jnp.float32(0.2),
    exploration_steps=jnp.float32(30.0),
    target_update_interval=jnp.int32(3),
    target_tau=jnp.float32(0.25),
    max_grad_norm=jnp.float32(CLIP),
    reward_scale=jnp.float32(REWARD_SCALE),
    priority_alpha=jnp.float32(0.0),
    priority_beta=jnp.float32(0.0),
    priority_beta_steps=jnp.float32(1.0),
)


def test_the_lambda_return_of_a_sequence_with_a_termination_a_time_limit_and_a_cut():
    """Calculated by hand with gamma 1/2 and lambda 1/2, from the last slot to the first."""
    algorithm, _ = make_algorithm(["env=two_step", "algorithm=pqn_vdn"])
    reward = [2.0, 1, 0, 9, 2, 9, 1, 9]  # 9 is read nowhere
    value = [3.0, 2, 4, 8, 6, 10, 4, 12]
    discount = [1.0, 1, 0, 1, 1, 1, 1, 1]  # slot 2 terminates, slot 4 is the last before a time limit
    mask = [1.0, 1, 1, 0, 1, 0, 1, 0]  # slots 3 and 5 are final observations, 7 is the end of the sequence
    sequence = targets.Sequence(*(jnp.array(x) for x in (reward, discount, mask, value, value)))
    y = algorithm.target(sequence, jnp.float32(0.5), jnp.float32(0.5))
    # 6: 1 + 12/2 = 7. 4: 2 + 10/2 = 7. 2: 0, for nothing follows. 1: 1 + (4/2 + 0/2)/2 = 2. 0: 2 + (2/2 + 2/2)/2 = 3.
    np.testing.assert_allclose(y, [3, 2, 0, 8, 7, 10, 7, 12], rtol=1e-6)


# Two iterations in NumPy


Parameters = dict[str, Any]


def layer(p: Parameters, obs: np.ndarray, last_action: np.ndarray) -> np.ndarray:
    """The first layer of all agents ``[..., N, H]``."""
    x = obs @ p["obs_kernel"] + p["agent_id_kernel"] + p["first_bias"]
    x = x + np.where(last_action[..., None] >= 0, p["last_action_kernel"][np.maximum(last_action, 0)], 0.0)
    x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
    return np.maximum(x * p["norm"]["scale"] + p["norm"]["bias"], 0.0)


def gru(p: Parameters, x: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    by_x = np.split(x @ p["gru_input_kernel"] + p["gru_input_bias"], 3, axis=-1)
    by_h = np.split(hidden @ p["gru_hidden_kernel"] + p["gru_hidden_bias"], 3, axis=-1)
    reset, update = (1 / (1 + np.exp(-a - b)) for a, b in zip(by_x[:2], by_h[:2], strict=True))
    return (1 - update) * np.tanh(by_x[2] + reset * by_h[2]) + update * hidden


def step(p: Parameters, hidden, obs, last_action) -> tuple[np.ndarray, np.ndarray]:
    hidden = gru(p, layer(p, obs, last_action), hidden)
    return hidden, hidden @ p["q_kernel"] + p["q_bias"]


class Played(NamedTuple):
    """One slot of one environment, and what its agents remembered before it."""

    time: int
    kind: int
    first: bool
    hidden: np.ndarray
    last_action: np.ndarray
    action: np.ndarray
    reward: float
    discount: float
    mask: bool


class Actor:
    """One environment in mid-episode."""

    def __init__(self, kind: int) -> None:
        self.window: list[Played] = []
        self.begin(kind)

    def begin(self, kind: int) -> None:
        self.time, self.kind, self.first = 0, kind, True
        self.hidden, self.last_action = np.zeros((2, HIDDEN)), np.full(2, -1)

    @property
    def over(self) -> bool:
        return self.time == KINDS[self.kind].length

    def look(self, action=(0, 0), reward=0.0, discount=0.0, mask=False) -> Played:
        told = (self.time, self.kind, self.first, self.hidden, self.last_action)
        return Played(*told, np.array(action), reward, discount, mask)


def obs_of(time: int, kind: int) -> np.ndarray:
    return np.array([[time, kind, agent] for agent in range(2)], float)


def collect(p: Parameters, actors: list[Actor], epsilon: float, noise: np.ndarray, kinds: np.ndarray):
    """Sequences of all environments, each with the window before it."""
    sequences = []
    for env, actor in enumerate(actors):
        slots, starts = [], 0
        for t in range(LENGTH - 1):
            if actor.over:
                slots.append(actor.look())
                actor.begin(kinds[starts, env])
                starts += 1
                continue
            hidden, q = step(p, actor.hidden, obs_of(actor.time, actor.kind), actor.last_action)
            avail = expected_avail(actor.time)
            greedy = np.where(avail, q, -np.inf).argmax(axis=-1)
            share = epsilon * avail / avail.sum(axis=-1, keepdims=True) + (1 - epsilon) * np.eye(3)[greedy]
            with np.errstate(divide="ignore"):
                action = (np.log(share) + noise[t, env]).argmax(axis=-1)
            ends = KINDS[actor.kind].terminal and actor.time + 1 == KINDS[actor.kind].length
            slots.append(actor.look(action, expected_reward(actor.time, action), 1.0 - ends, True))
            actor.time, actor.hidden, actor.last_action, actor.first = actor.time + 1, hidden, action, False
        sequences.append([*actor.window, *slots, actor.look()])
        actor.window = slots[-WINDOW:]
    return sequences


def loss(p: Parameters, minibatch: list[list[Played]], fixed: list | None) -> tuple[float, list]:
    """Mean squared error, and the returns: those of these parameters, unless they are given (no gradient)."""
    errors, returns = [], []
    for number, sequence in enumerate(minibatch):
        hidden, last_action = sequence[0].hidden, sequence[0].last_action
        chosen, value = [], []
        for slot in sequence:
            if slot.first:
                hidden, last_action = np.zeros((2, HIDDEN)), np.full(2, -1)
            hidden, q = step(p, hidden, obs_of(slot.time, slot.kind), last_action)
            last_action = slot.action
            chosen.append(q[np.arange(2), slot.action].sum())
            value.append(np.where(expected_avail(slot.time), q, -np.inf).max(axis=-1).sum())
        own, following = [], 0.0
        for t in reversed(range(len(sequence))):
            slot = sequence[t]
            if slot.mask:
                bootstrap = (1 - LAMBDA) * value[t + 1] + LAMBDA * following
                following = REWARD_SCALE * slot.reward + GAMMA * slot.discount * bootstrap
            else:
                following = value[t]
            own.append(following)
        returns.append(own[::-1])
        y = returns[-1] if fixed is None else fixed[number]
        errors += [chosen[t] - y[t] for t, slot in enumerate(sequence) if slot.mask]
    return float(np.mean(np.square(errors))), returns


def gradient(vector: np.ndarray, restore, minibatch) -> np.ndarray:
    """By central differences, with the returns held fixed."""
    _, fixed = loss(restore(vector), minibatch, None)
    found = np.zeros_like(vector)
    for i in range(len(vector)):
        shift = np.zeros_like(vector)
        shift[i] = 1e-5
        up, down = (loss(restore(moved), minibatch, fixed)[0] for moved in (vector + shift, vector - shift))
        found[i] = (up - down) / 2e-5
    return found


class RAdam:
    """Liu et al. 2020, algorithm 2."""

    def __init__(self) -> None:
        self.m, self.v, self.t = 0.0, 0.0, 0

    def __call__(self, g: np.ndarray) -> np.ndarray:
        self.t += 1
        self.m, self.v = 0.9 * self.m + 0.1 * g, 0.999 * self.v + 0.001 * g**2
        m = self.m / (1 - 0.9**self.t)
        longest = 2 / (1 - 0.999) - 1
        length = longest - 2 * self.t * 0.999**self.t / (1 - 0.999**self.t)
        if length < 5:
            return m
        rectified = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        return np.sqrt(rectified) * m / (np.sqrt(self.v / (1 - 0.999**self.t)) + 1e-8)


def restorer(tree: Parameters):
    """From one vector to named arrays, in the order of ``ravel_pytree``, in float64."""
    leaves, structure = jax.tree.flatten(tree)
    ends = list(itertools.accumulate((x.size for x in leaves), initial=0))

    def restore(vector: np.ndarray) -> Parameters:
        parts = [vector[i:j].reshape(x.shape) for i, j, x in zip(ends, ends[1:], leaves, strict=False)]
        return jax.tree.unflatten(structure, parts)

    return restore


def test_two_iterations_give_the_parameters_of_a_plain_numpy_version():
    """All but the random numbers is NumPy: acting, hidden states, windows, returns, gradients, clipping, RAdam."""
    init, iterate = (jax.jit(functools.partial(f, ALGORITHM)) for f in (qmix.init, qmix.iterate))
    state = init(jax.random.key(5))
    agent = jax.tree.map(np.asarray, state.learner.online.agent["params"])
    restore = restorer(agent)
    vector = np.asarray(ravel_pytree(agent)[0], float)
    actors = [Actor(int(kind)) for kind in np.asarray(state.actors.actors.env_state.kind)]
    padding = Played(0, 0, False, np.zeros((2, HIDDEN)), np.full(2, -1), np.zeros(2, int), 0.0, 0.0, False)
    for actor in actors:
        actor.window = [padding] * WINDOW
    optimizer, env_steps, norms = RAdam(), 0, []
    for iteration in range(2):
        keys = jax.random.split(state.key, 2 + UPDATES)
        random = draw_all(ENV, keys[0], NUM_ENVS, LENGTH, number_of_starts(LENGTH))
        epsilon = 0.8 - 0.6 * min(env_steps / 30, 1)
        sequences = collect(
            restore(vector), actors, epsilon, np.asarray(random.noise), np.asarray(random.begin[0].kind)
        )
        env_steps += sum(slot.mask for sequence in sequences for slot in sequence[WINDOW:])
        rate = RATE * (1 - min(env_steps / RATE_STEPS, 1))
        for places in np.asarray(passes(keys[2], NUM_ENVS, BATCH, UPDATES)):
            g = gradient(vector, restore, [sequences[place] for place in places])
            norm = np.sqrt((g**2).sum())
            norms.append(norm)
            vector = vector - rate * optimizer(g * min(1, CLIP / (norm + 1e-6)))
        state, metrics = iterate(HYPER, state, jnp.int32(iteration))
        assert int(state.env_steps) == env_steps
        assert float(metrics["epsilon"]) == pytest.approx(epsilon)
        assert float(metrics["learning_rate"]) == pytest.approx(rate)
        found = np.asarray(ravel_pytree(state.learner.online.agent["params"])[0])
        np.testing.assert_allclose(found, vector, rtol=1e-3, atol=1e-4)
        for one, other in zip(*map(jax.tree.leaves, (state.learner.online, state.learner.target)), strict=True):
            np.testing.assert_array_equal(one, other)
    assert len(norms) == 2 * UPDATES
    assert min(norms) < CLIP < max(norms)
    moved = np.abs(vector - np.asarray(ravel_pytree(agent)[0], float))
    assert moved.max() > 0.05, "the tolerance is small beside the steps"
    kinds = {slot.kind for sequence in sequences for slot in sequence}
    assert kinds == {0, 1}


# What does not fit


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["algorithm=pqn_vdn", "rollout.num_envs=8"], "rollout.num_envs=8: fewer sequences than a minibatch has"),
        (["experiment=two_step_game", "algorithm=pqn_vdn"], "rollout.num_envs=1: fewer sequences than a minibatch has"),
        (["algorithm=pqn_vdn", "replay.replacement=true"], "learned from equally often; leave it out"),
        (["algorithm=pqn_vdn", "target.double_q=false"], "there is no target network; leave it out"),
        (["replay=on_policy", "+replay.priority.alpha=1", "+replay.priority.beta=1", "+replay.priority.beta_steps=1"],
         "replay.priority"),
        (["algorithm=pqn_vdn", "target.update_interval=5"], "target.network=online there is no target network"),
        (["target.network=online", "target.tau=0.1"], "target.tau=0.1: with target.network=online there is no"),
        (["algorithm=pqn_qmix", "sweep.target_update_interval=[5,10]"], "no effect with target.network=online"),
        (["algorithm=pqn_vdn", "replay.capacity=1000"], "one iteration's sequences are kept; leave it out"),
        (["algorithm=pqn_vdn", "replay.batch_size=15"], "does not divide rollout.num_envs=64, the sequences of one"),
        (["algorithm=pqn_vdn", "learner.updates_per_iteration=7"], "takes 4 updates; use 8"),
        (["algorithm=pqn_vdn", "rollout.sequences=fresh"], "replay.memory_window=4: sequences that begin with an epis"),
        (["replay=on_policy", "replay.batch_size=8", "replay.memory_window=1"], "use 0, or rollout.sequences=continue"),
        (["learner.burn_in=2"], "learner.burn_in=2: sequences that begin with an episode have nothing before them"),
        (["rollout.sequences=continue", "rollout.auto_reset=false"], "use rollout.auto_reset=true"),
        (["rollout.sequences=always"], "rollout.sequences=always: unknown"),
        (["target.network=none"], "target.network=none: unknown"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused_in_one_line(arguments, words):
    with pytest.raises(ConfigError) as error:
        check(arguments)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["algorithm=pqn_vdn", "replay=uniform", "replay.memory_window=0"], "PQN keeps no replay to sample from"),
        (
            ["algorithm=pqn_vdn", "replay=prioritised"],
            "replay=prioritised: PQN keeps no replay to sample from; leave replay=on_policy",
        ),
        (
            ["rollout.sequences=continue", "replay=on_policy", "replay.on_policy=false", "replay.memory_window=2"],
            "replay.memory_window=2: a memory that is sampled from",
        ),
        (["algorithm=pqn_vdn", "target.network=target"], "PQN has no target network; use target.network=online"),
        (["algorithm=pqn_vdn", "rollout.length=4"], "replay.memory_window=4: the sequence before has only 3 slots"),
        (["rollout.sequences=continue", "rollout.length=6", "learner.burn_in=6"], "use at most 5"),
        (["algorithm=pqn_iql", "rollout.length=6", "learner.burn_in=3"], "use at most 5 together"),
        (["rollout.sequences=continue", "rollout.overlap=true"], "rollout.overlap=true: only for hosted environments"),
        (["agent.norm=batch"], "an agent that acts alone has no batch to normalise over; use layer"),
        (["agent.norm=true"], "agent.norm=true: is given by name; use layer"),
        (["agent.norm=false"], "agent.norm=false: is given by name; use none"),
        (["agent.norm=group"], "agent.norm=group: unknown"),
        (["agent=deep_gru", "agent.layers=0"], "agent.layers=0: must be at least 1"),
    ],
)
def test_parts_that_do_not_fit_are_refused_in_one_line(arguments, words):
    with pytest.raises(ConfigError) as error:
        make_algorithm(["env=two_step", *arguments])
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_the_epochs_of_worker_processes_hold_an_episode():
    """They begin new ones after every evaluation, so the end of a longer one would never be seen."""
    arguments = ["rollout.sequences=continue", "rollout.length=3", "rollout.num_envs=4", "replay.batch_size=4"]
    hosted = ENV._replace(hosted=object())
    config = parse(to_container(compose_config(["env=two_step", *arguments, "evaluation.interval_env_steps=16"])))
    with pytest.raises(
        ConfigError, match=r"evaluation.interval_env_steps=16: workers .* of toy have .* use at least (\d+)$"
    ) as error:
        sizes(config, hosted)
    enough = str(error.value).split()[-1]
    config = parse(
        to_container(compose_config(["env=two_step", *arguments, f"evaluation.interval_env_steps={enough}"]))
    )
    assert sizes(config, hosted).iterations_per_epoch * 2 >= ENV.episode_limit


def test_a_preset_beside_another_may_set_what_is_not_read():
    """Only what is typed must have an effect: an experiment sets a replay's capacity and the target's interval."""
    algorithm, _ = make_algorithm(["experiment=smax_3m", "algorithm=pqn_vdn"])
    assert (algorithm.sizes.capacity, algorithm.target_update) == (64, TargetUpdate.ONLINE)


def test_settings_for_smax_are_an_experiment_and_the_map_is_the_user_s():
    algorithm, hyper = make_algorithm(["experiment=smax_pqn_vdn", "env.scenario=8m"])
    assert algorithm.env.num_agents == 8
    assert (algorithm.sizes.num_envs, algorithm.sizes.length) == (32, 65)
    assert float(hyper.reward_scale) == 10
