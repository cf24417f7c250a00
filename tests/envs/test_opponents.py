"""Games of two opposed sides: said at the start, and one side trained against players of the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qmix_jax
from qmix_jax.envs.build import make_env
from qmix_jax.envs.opponents.sides import OPPOSED, OneSide, sides_of
from qmix_jax.envs.settings import foreign_code, say
from qmix_jax.errors import ConfigError
from qmix_jax.logging.moved import current_settings

JAXMARL = "qmix_jax.envs.jaxmarl.make_jaxmarl"
TAG = {"_target_": JAXMARL, "id": "MPE_simple_tag_v3"}


class Duel:
    """Two hunters and a hare whose rewards are opposed; a hare sees more and has more actions than a hunter."""

    agents = ("adversary_0", "adversary_1", "agent_0")
    good_agents = ("agent_0",)
    max_steps = 3

    def action_space(self, agent):
        return type("Space", (), {"n": 4 if agent == "agent_0" else 3, "shape": ()})

    def see(self, time):
        return {"adversary_0": jnp.full(2, time), "adversary_1": jnp.full(2, -time), "agent_0": jnp.full(3, 10 * time)}

    def reset(self, key):
        return self.see(jnp.int32(0)), {"time": jnp.int32(0), "actions": jnp.zeros(3, jnp.int32)}

    def step_env(self, key, state, actions):
        played = jnp.stack([actions[agent] for agent in self.agents])
        time = state["time"] + 1
        rewards = {"adversary_0": 1.0, "adversary_1": 2.0, "agent_0": -3.0}
        done = time >= self.max_steps
        dones = {**dict.fromkeys(self.agents, done), "__all__": done}
        return self.see(time), {"time": time, "actions": played}, rewards, dones, {}


Duel.__name__ = OPPOSED[0]


def three(key, obs, avail_actions):
    """A hare that does what it sees the time to be, or its last action."""
    return jnp.minimum(obs[:, 0] / 10, avail_actions.sum(axis=-1) - 1)


def of_two(key, obs, avail_actions):
    return jnp.zeros(2)


def in_numpy(key, obs, avail_actions):
    return np.argmax(np.asarray(obs), axis=-1)


def test_the_sides_are_told_apart():
    assert sides_of(Duel()) == {"adversaries": ("adversary_0", "adversary_1"), "good_agents": ("agent_0",)}
    assert sides_of(object()) == {}


def test_one_side_is_an_environment_and_the_other_side_plays_by_what_it_sees():
    side = OneSide(Duel(), "adversaries", f"{__name__}:three")
    obs, state = side.reset(jax.random.key(0))
    assert list(obs) == side.agents == ["adversary_0", "adversary_1"]
    for time in range(1, 4):
        actions = {"adversary_0": jnp.int32(2), "adversary_1": jnp.int32(1)}
        obs, state, rewards, dones, _ = side.step_env(jax.random.key(time), state, actions)
        np.testing.assert_array_equal(state.game["actions"], [2, 1, time - 1])
        np.testing.assert_array_equal(obs["adversary_1"], [-time, -time])
        assert rewards == {"adversary_0": 1.0, "adversary_1": 2.0}
        assert bool(dones["__all__"]) == (time == 3)


def test_random_opponents_take_their_own_actions_only_and_all_of_them():
    side = OneSide(Duel(), "good_agents", "random")
    _, state = side.reset(jax.random.key(0))
    step = jax.vmap(lambda key: side.step_env(key, state, {"agent_0": jnp.int32(3)})[1].game["actions"])
    actions = np.asarray(step(jax.random.split(jax.random.key(1), 64)))
    assert (actions[:, 2] == 3).all()
    assert set(actions[:, :2].ravel()) == {0, 1, 2}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"team": "adversary"}, "env.team=adversary: unknown; did you mean 'adversaries'"),
        ({"team": "adversaries", "opponents": "nobody"}, "env.opponents=nobody: no such folder; choose random"),
        ({"team": "adversaries", "opponents": "no_such:thing"}, "env.opponents=no_such:thing: cannot be imported"),
        ({"team": "adversaries", "opponents": f"{__name__}:of_two"}, r"returns \[2\]; return one action for each of 1"),
        ({"team": "adversaries", "opponents": f"{__name__}:in_numpy"}, r"cannot be called with key, obs \[1, 14\] and"),
        ({"team": "adversaries", "id": "MPE_simple_spread_v3"}, "env.team=adversaries: unknown; did you mean 'null'"),
    ],
)
def test_wrong_sides_and_opponents_are_one_line(settings, words):
    with pytest.raises(ConfigError, match=words) as caught:
        make_env({**TAG, **settings})
    assert "\n" not in str(caught.value)


def test_opposed_rewards_are_said_once_and_not_when_one_side_is_trained(capsys):
    say.cache_clear()
    make_env({**TAG, "team": "adversaries"})
    assert capsys.readouterr().err == ""
    make_env(TAG)
    make_env(TAG)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "its sides (3 adversaries, 1 good_agents) have opposed rewards" in said
    assert "env=jaxmarl env.team=adversaries env.opponents=random" in said


SMALL = [
    "env=jaxmarl",
    "env.id=MPE_simple_tag_v3",
    "agent.hidden_size=4",
    "mixer=vdn",
    "rollout.num_envs=2",
    "replay.batch_size=2",
    "replay.capacity=4",
    "learner.warmup_env_steps=0",
    "learner.updates_per_iteration=1",
    "evaluation.interval_env_steps=50",
    "evaluation.episodes=2",
    "total_env_steps=50",
    "logger.plot=false",
    "logger.wandb.mode=disabled",
    "logger.progress=false",
]


def test_a_policy_of_one_side_is_the_opponent_of_the_other(tmp_path):
    hare, hunters = tmp_path / "hare", tmp_path / "hunters"
    trained = qmix_jax.run([*SMALL, "env.team=good_agents", f"run_dir={hare}"])
    env = make_env({**TAG, "team": "adversaries", "opponents": str(hare)})
    assert (env.num_agents, env.name) == (3, "MPE_simple_tag_v3-adversaries")
    env_state, _ = env.reset(jax.random.key(0))
    after, _, _ = env.step(jax.random.key(1), env_state, jnp.zeros(3, jnp.int32))
    policy = trained.policy()
    seen = env_state.env_state.seen["agent_0"][None]
    action, _ = policy.act(seen, None, jnp.ones((1, policy.env.num_actions), bool))
    np.testing.assert_array_equal(after.env_state.memory.last_action, action)
    with pytest.raises(ConfigError, match="the other side has"):
        make_env({**TAG, "team": "good_agents", "opponents": str(hare)})
    run = qmix_jax.run([*SMALL, "env.team=adversaries", f"env.opponents={hare}", f"run_dir={hunters}"])
    assert run.policy().env.num_agents == 3


def test_older_folders_and_untrusted_ones():
    saved = {"env": dict(TAG)}
    assert current_settings(saved)["env"] == {**TAG, "team": None, "opponents": "random"}
    assert foreign_code({**TAG, "opponents": "os:system"}) == ["opponents"]
    assert foreign_code({**TAG, "opponents": "runs/hare"}) == []


@pytest.mark.parametrize("team", ["allies", "enemies"])
@pytest.mark.parametrize("dead", ["allies", "enemies"])
def test_a_side_of_smax_wins_when_the_other_is_dead_and_is_paid_once(team, dead):
    env = make_env({**TAG, "id": "SMAX", "team": team, "max_steps": 20})
    assert (env.num_agents, env.episode_limit, env.max_return) == (5, 21, 2.0)
    env_state, timestep = env.reset(jax.random.key(0))
    positions = timestep.state[:100].reshape(10, 10)[:, 1:3]
    assert 0.0 < positions.min() < positions.max() < 1.0  # of all units, in units of the map
    side = env_state.env_state
    lost = (jnp.arange(10) < 5) == (dead == "allies")
    game = side.game
    inner = game.replace(unit_alive=~lost, unit_health=jnp.where(lost, 0.0, game.unit_health))
    over = env_state._replace(env_state=side._replace(game=inner))
    _, _, outcome = env.step(jax.random.key(1), over, jnp.zeros(5, jnp.int32))
    assert bool(outcome.won) == (team != dead)
    assert float(outcome.reward) == pytest.approx(1.0 if team != dead else 0.0, abs=0.2)
    assert float(outcome.discount) == 0.0
