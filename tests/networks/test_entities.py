"""``agent=entities``: the network against loops, what the order of entities changes, what SMAX says, bad settings."""

import jax
import numpy as np
import pytest

from qmix_jax.envs import jaxmarl
from qmix_jax.envs.smax.environment import make_smax
from qmix_jax.errors import ConfigError
from qmix_jax.library import make_algorithm
from qmix_jax.networks.agents import RecurrentAgent, act, init_agent, unroll
from qmix_jax.networks.entities import EntityAgent
from qmix_jax.types import Entities, EntityRows

ENTITIES = Entities((EntityRows(6, 3, 2), EntityRows(1, 2, 2)), targets=0, first_target=2)
"""An observation of 13: one own number, two rows of 2, one own number, three rows of 2 that actions 2 to 4 name."""
SIZES = {"obs_size": 13, "num_agents": 2, "num_actions": 6, "hidden_size": 7}


def agent_and_params(entities: Entities = ENTITIES, **options):
    agent = EntityAgent(**SIZES, entities=entities, layer_norm=True, **options)
    return agent, init_agent(agent, agent.obs_size, jax.random.key(0))


def inputs(seed: int = 0):
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(4, 1, 2, 13)).astype(np.float32)
    return obs, rng.integers(-1, 6, size=(4, 1, 2)), np.array([[True], [False], [True], [False]])


@pytest.mark.parametrize("mixed", [False, True])
def test_the_network_equals_loops_around_a_recurrent_agent(mixed):
    agent, params = agent_and_params(ENTITIES._replace(mixed=mixed))
    obs, last, first = inputs()
    q = np.asarray(unroll(agent, params, obs, last, first))

    own = jax.tree.map(np.asarray, dict(params["params"]))
    layers = [(own.pop(f"entity_{kind}_kernel"), own.pop(f"entity_{kind}_bias")) for kind in range(2)]
    question, constant = own.pop("target_kernel"), own.pop("target_bias")
    assert agent.input_size == 3 + 2 * 7
    features, embedded = np.zeros((4, 1, 2, 17), np.float32), np.zeros((4, 1, 2, 3, 7))
    for place in np.ndindex(4, 1, 2):
        seen, sums = obs[place], []
        for kind, starts in enumerate(([6, 8, 10], [1, 3])):
            rows = [np.maximum(seen[at : at + 2] @ layers[kind][0] + layers[kind][1], 0) for at in starts]
            sums.append(np.sum(rows, axis=0))
            if kind == 0:
                embedded[place] = rows
        features[place] = [seen[0], seen[5], seen[12], *sums[0], *sums[1]]
    plain = RecurrentAgent(**(SIZES | {"obs_size": 17}), layer_norm=True)
    hidden, expected = plain.apply({"params": own}, features, last, first, method="outputs_and_values")
    expected = np.array(expected)
    for place in np.ndindex(4, 1, 2):
        asked = np.asarray(hidden)[place] @ question + constant
        common = expected[place][2:5] if mixed else expected[place][2]
        expected[place][2:5] = common + embedded[place] @ asked / np.sqrt(7)
    np.testing.assert_allclose(q, expected, rtol=1e-4, atol=1e-5)


def test_acting_step_by_step_equals_the_unroll():
    agent, params = agent_and_params()
    obs, last, first = inputs()
    expected = unroll(agent, params, obs, last, first)
    hidden = agent.initial_hidden(1)
    for slot in range(4):
        hidden = np.where(first[slot][:, None, None], 0, hidden)
        hidden, q = act(agent, params, hidden, obs[slot], last[slot])
        np.testing.assert_allclose(q, expected[slot], rtol=1e-4, atol=1e-6)


def test_entities_in_another_order_give_the_same_values_in_that_order():
    """Permutation equivariance: also of the sequence behind it, without the last action, which names them by number."""
    agent, params = agent_and_params(last_action=False)
    obs, last, first = inputs()
    order = np.array([2, 0, 1])
    moved = obs.copy()
    moved[..., 6:12] = obs[..., 6:12].reshape(4, 1, 2, 3, 2)[..., order, :].reshape(4, 1, 2, 6)
    moved[..., 1:5] = obs[..., [3, 4, 1, 2]]
    q, again = (np.asarray(unroll(agent, params, x, last, first)) for x in (obs, moved))
    np.testing.assert_allclose(again[..., [0, 1, 5]], q[..., [0, 1, 5]], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(again[..., 2:5], q[..., 2:5][..., order], rtol=1e-4, atol=1e-6)
    assert np.abs(q[..., 2:5] - again[..., 2:5]).max() > 1e-3


@pytest.mark.parametrize("scenario", ["3m", "5m_vs_6m", "MMM", "smacv2_5_units"])
@pytest.mark.parametrize("physics", ["smax", "smac"])
def test_smax_says_where_entities_are(scenario, physics):
    """A unit's place in its row is where it is, and the same unit is named by the action of its row."""
    env = make_smax(scenario, physics=physics)
    assert env.entities is not None
    state, step = jax.jit(env.reset)(jax.random.key(3))
    allies, enemies = env.entities.kinds
    units = allies.rows + 1 + enemies.rows
    assert (allies.start, allies.rows, enemies.start) == (0, env.num_agents - 1, allies.end)
    assert env.entities.first_target + enemies.rows <= env.num_actions
    assert allies.features == enemies.features
    position, met = np.asarray(state.battle.position), 0
    for agent in range(env.num_agents):
        rows = np.asarray(step.obs)[agent][: enemies.end].reshape(units - 1, enemies.features)
        others = [unit for unit in range(units) if unit != agent]
        seen = rows[:, 0] > 0
        met += seen.sum()
        if not seen.any():
            continue
        away = (position[:, others] - position[:, [agent]]).T
        sight = np.linalg.norm(away[seen][0]) / np.linalg.norm(rows[seen][0, 1:3])
        assert 1 < sight < 20
        np.testing.assert_allclose(rows[seen][:, 1:3] * sight, away[seen], rtol=1e-4, atol=1e-4)
    assert met > env.num_agents / 2
    own = len(step.obs[0]) - enemies.end
    assert own == enemies.features - 3


@pytest.mark.parametrize("scenario", ["3s5z", "5m_vs_6m", "smacv2_5_units"])
def test_jaxmarl_s_simulator_has_them_in_the_same_places(scenario):
    """So that a policy of one plays in the other."""
    assert jaxmarl.make_smax(scenario).entities == make_smax(scenario).entities
    assert jaxmarl.make_smax(scenario, observation_type="conic").entities is None


def test_actions_may_name_nobody():
    agent, params = agent_and_params(ENTITIES._replace(targets=None))
    named, of_named = agent_and_params()
    shared = {name: value for name, value in of_named["params"].items() if not name.startswith("target_")}
    assert jax.tree.structure(params["params"]) == jax.tree.structure(shared)
    q, expected = unroll(agent, {"params": shared}, *inputs()), unroll(named, of_named, *inputs())
    np.testing.assert_array_equal(q[..., [0, 1, 5]], expected[..., [0, 1, 5]])
    assert np.abs(q[..., 2:5] - expected[..., 2:5]).max() > 1e-3
    algorithm, _ = make_algorithm(["env=mpe", "agent=entities", "agent.entities={kinds: [[4, 3, 2], [10, 2, 2]]}"])
    assert algorithm.agent.entities == Entities((EntityRows(4, 3, 2), EntityRows(10, 2, 2)))


def test_one_ally_sees_one_kind():
    env = make_smax(allies={"marine": 1}, enemies={"zergling": 2})
    assert env.entities is not None
    assert len(env.entities.kinds) == 1
    assert env.entities.targets == 0
    algorithm, _ = make_algorithm(["env=smax", "env.allies={marine: 1}", "env.enemies={zergling: 2}", "agent=entities"])
    params = init_agent(algorithm.agent, env.obs_size, jax.random.key(0))
    obs, last = np.ones((1, 1, env.obs_size), np.float32), np.zeros((1, 1), int)
    assert act(algorithm.agent, params, algorithm.agent.initial_hidden(1), obs, last)[1].shape == (1, 1, 7)


def test_entities_can_be_given():
    more = ["env=custom", "env._target_=qmix_jax.envs.smax.environment.make_smax", "+env.scenario=3m", "agent=entities"]
    given = "agent.entities={kinds: [[0, 2, 13], [26, 3, 13]], targets: 1, first_target: 5}"
    algorithm, _ = make_algorithm([*more, given])
    expected = make_smax("3m").entities
    assert expected is not None
    assert algorithm.agent.entities == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["env=two_step"], "agent.entities=null: two_step does not say which of an agent's . numbers are of which"),
        (["env=smax", "env.observation_type=conic"], "agent.entities=null: smax-3m does not say which"),
        (
            ["env=smax", "agent.entities=3"],
            r"agent.entities=3: must be {kinds: \[\[start, rows, features\], ...\]}, with",
        ),
        (["env=smax", "agent.entities={kinds: [[0, 2]], targets: 0, first_target: 5}"], "agent.entities=.* must be"),
        (["env=smax", "agent.entities={kinds: [[0,2,8]], target: 0, first_target: 5}"], "agent.entities=.* must be"),
        (["env=smax", "agent.entities={kinds: [[0, 2, 8]], targets: 0}"], "agent.entities=.* must be"),
        (["env=smax", "agent.entities={kinds: [], targets: 0, first_target: 5}"], "agent.entities=.* must be"),
        (
            ["env=smax", "agent.entities={kinds: [[50, 2, 13]], targets: 0, first_target: 5}"],
            "agent.entities.kinds: 2 rows of 13 from 50 on are not in the 75 numbers that an agent of smax-3m observes",
        ),
        (
            ["env=smax", "agent.entities={kinds: [[0, 2, 8], [8, 2, 8]], targets: 0, first_target: 5}"],
            "agent.entities.kinds: rows from 8 on begin before 16, where others end",
        ),
        (
            ["env=smax", "agent.entities={kinds: [[0, 2, 8]], targets: 1, first_target: 5}"],
            "agent.entities.targets=1: must be one of the kinds",
        ),
        (
            ["env=smax", "agent.entities={kinds: [[0, 2, 8]], targets: 0, first_target: 7}"],
            "agent.entities.first_target=7: smax-3m has actions 0 to 7, and 2 of them name entities",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(arguments, message):
    with pytest.raises(ConfigError, match=message):
        make_algorithm([*arguments, "agent=entities"])
