"""``agent=cnn``: the convolutions against loops, images of both kinds of environments, bytes in the replay."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmix_jax.acting.hosted_rollout import HostedActor
from qmix_jax.algorithms import loop
from qmix_jax.algorithms.loop import train
from qmix_jax.envs.images import image_shape_of
from qmix_jax.errors import ConfigError
from qmix_jax.library import make_algorithm
from qmix_jax.networks.agents import RecurrentAgent, init_agent, unroll
from qmix_jax.networks.images import ImageAgent
from qmix_jax.replay import packing

HERE = Path(__file__).parent
LIGHTS = ["env=custom", "env._target_=image_envs.Lights", "agent=cnn"]
SMALL = ["agent.hidden_size=16", "agent.features=4", "rollout.num_envs=8", "replay.batch_size=16"]


@pytest.fixture(autouse=True)
def image_envs(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.syspath_prepend(str(HERE.parent / "envs" / "hosted"))
    yield
    for name in ("image_envs", "pastures"):
        sys.modules.pop(name, None)


def convolved(image: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: int) -> np.ndarray:
    """3 x 3, zeros around the image as TensorFlow's SAME has them, ReLU."""
    sizes = [-(-size // stride) for size in image.shape[:2]]
    out = np.zeros((*sizes, kernel.shape[-1]))
    for place in np.ndindex(*sizes):
        total = bias.astype(np.float64).copy()
        for offset in np.ndindex(3, 3):
            missing = [max((n - 1) * stride + 3 - size, 0) // 2 for n, size in zip(sizes, image.shape[:2], strict=True)]
            at = [p * stride + o - m for p, o, m in zip(place, offset, missing, strict=True)]
            if all(0 <= a < size for a, size in zip(at, image.shape[:2], strict=True)):
                total += image[tuple(at)] @ kernel[offset]
        out[place] = np.maximum(total, 0)
    return out


@pytest.mark.parametrize(("shape", "stride"), [((5, 4, 3), 2), ((6, 5, 1), 1)])
def test_the_network_is_a_recurrent_agent_behind_two_convolutions(shape, stride):
    sizes = {"num_agents": 2, "num_actions": 3, "hidden_size": 7}
    agent = ImageAgent(obs_size=int(np.prod(shape)), image_shape=shape, features=2, stride=stride, **sizes)
    params = init_agent(agent, agent.obs_size, jax.random.key(0))
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(4, 1, 2, agent.obs_size)).astype(np.float32)
    last, first = rng.integers(-1, 3, size=(4, 1, 2)), np.array([[True], [False], [True], [False]])
    q = unroll(agent, params, obs, last, first)

    own = dict(params["params"])
    weights = [(np.asarray(own.pop(f"image_{i}_kernel")), np.asarray(own.pop(f"image_{i}_bias"))) for i in range(2)]
    assert [kernel.shape for kernel, _ in weights] == [(3, 3, shape[2], 2), (3, 3, 2, 4)]
    features = np.zeros((4, 1, 2, agent.input_size), np.float32)
    for place in np.ndindex(4, 1, 2):
        image = obs[place].reshape(shape)
        for kernel, bias in weights:
            image = convolved(image, kernel, bias, stride)
        features[place] = image.ravel()
    plain = RecurrentAgent(obs_size=agent.input_size, **sizes)
    np.testing.assert_allclose(q, unroll(plain, {"params": own}, features, last, first), rtol=1e-4, atol=1e-5)


def test_a_game_seen_in_images_is_learned_from_bytes():
    """Random play is paid 1 of 4; the replay holds the bytes themselves."""
    more = ["replay.obs_dtype=uint8", "replay.capacity=400", "learner.updates_per_iteration=4", "gamma=0.5"]
    more += ["optimizer.learning_rate=0.01", "exploration.epsilon_steps=1000", "learner.warmup_env_steps=100"]
    more += ["target.update_interval=20", "evaluation.interval_env_steps=3200", "evaluation.episodes=32", "mixer=vdn"]
    algorithm, hyper = make_algorithm([*LIGHTS, *SMALL, *more])
    assert algorithm.env.image_shape == (6, 5, 1)
    state, metrics = jax.jit(lambda key: train(algorithm, hyper, key, 1))(jax.random.key(0))
    stored = state.replay.slots.obs
    assert stored.dtype == np.uint8
    assert set(np.unique(stored)) == {0, 200, 201, 202, 203}
    assert metrics["eval_return"][0] > 3.5, "of 4"


def test_bytes_come_back_from_the_replay_as_they_were():
    for scale in (1.0, 255.0):
        kept = packing.Storage(2, True, jnp.uint8, scale)
        obs = (np.arange(256, dtype=np.float32) / np.float32(scale)).reshape(1, 2, 128)
        slot = packing.unpack(kept, jax.tree.map(lambda x: x[None], packing.empty_slot(kept, env_of(128))))
        there = packing.unpack(kept, packing.pack(kept, slot._replace(step=slot.step._replace(obs=obs))))
        np.testing.assert_allclose(there.step.obs, obs, rtol=1e-7)
        np.testing.assert_array_equal(there.step.state, np.asarray(there.step.obs).reshape(1, -1))


def env_of(size):
    env = make_algorithm(["env=two_step"])[0].env
    return env._replace(num_agents=2, obs_size=size, state_size=2 * size)


def test_images_of_a_hosted_environment_are_seen_and_stored_as_bytes():
    arguments = ["env=pettingzoo", "env.name=pastures:lights", "env.workers=1", "agent=cnn", "replay.obs_dtype=uint8"]
    algorithm, hyper = make_algorithm([*arguments, *SMALL, "replay.capacity=16"])
    env = algorithm.env
    assert (env.image_shape, env.obs_size, env.byte_scale) == ((6, 5, 1), 30, 255.0)
    state = jax.jit(lambda key: loop.init(algorithm, key))(jax.random.key(0))
    actor = HostedActor(env, algorithm.agent, 8)
    played = actor.collect(state.learner.online.agent, np.float32(1), 0, 4, True)
    env.hosted.close()
    stored = jax.jit(lambda state, played: loop.collect_and_store(algorithm, hyper, state, jax.random.key(0), played))
    replay = stored(state, (*played, None))[0].replay
    assert replay.slots.obs.dtype == np.uint8
    assert set(np.unique(replay.slots.obs)) == {0, 200, 201, 202, 203}
    minibatch = loop.sample(algorithm, hyper, replay._replace(size=jnp.int32(8)), jax.random.key(0))
    back = np.asarray(minibatch.slots.step.obs)
    np.testing.assert_allclose(back, played[0].step.obs[np.asarray(minibatch.places)].swapaxes(0, 1), rtol=1e-6)


def test_what_an_image_is():
    assert image_shape_of([(6, 5, 1), (6, 5, 1)]) == (6, 5, 1)
    assert image_shape_of([(6, 5)]) == (6, 5, 1)
    assert image_shape_of([(6, 5, 1), (6, 4, 1)]) is None
    assert image_shape_of([(30,), (30,)]) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["env=two_step", "agent=cnn"], "agent.image_shape=null: two_step does not say that its . numbers are images"),
        (["env=two_step", "agent=cnn", "agent.image_shape=[1,2,9]"], r"agent.image_shape=\[1, 2, 9\]: must be height"),
        (["env=two_step", "agent=cnn", "agent.image_shape=3"], "agent.image_shape=3: must be height, width"),
        ([*LIGHTS, "agent.stride=0"], "agent.stride=0: must be at least 1"),
        (["env=two_step", "replay.obs_dtype=uint8"], "replay.obs_dtype=uint8: two_step has observations that are no b"),
    ],
)
def test_what_does_not_fit_is_one_line(arguments, words):
    with pytest.raises(ConfigError, match=f"^{words}"):
        make_algorithm(arguments)
