"""Structure and arithmetic of the benchmark; durations are never tested."""

import importlib
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_env import Kind, make_toy

from qmix_jax import make_algorithm
from qmix_jax.bench import __main__ as bench_command
from qmix_jax.bench import baselines, figure, jaxmarl_driver, peer, pieces, settings, table, worker
from qmix_jax.bench import measure as bench
from qmix_jax.bench.process import Process, ProcessError, worker_command
from qmix_jax.bench.spread import Spread, alternate, ratio, spread
from qmix_jax.errors import ConfigError
from qmix_jax.learning.values import chosen_values
from qmix_jax.networks.agents import RecurrentAgent, unroll
from qmix_jax.replay import packing as storage
from qmix_jax.settings.command_line import compose_config
from qmix_jax.settings.reading import parse, to_container

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
START = "python -m qmix_jax.bench "
TINY = ("env=two_step", "rollout.num_envs=2", "replay.capacity=6", "replay.batch_size=3", "learner.warmup_env_steps=0")
SMALL = (
    *TINY,
    "agent.hidden_size=4",
    "mixer=vdn",
    "target=one_step",
    "evaluation.episodes=2",
    "learner.updates_per_iteration=2",
)
PEER = ("experiment=simple_spread", "mixer.hypernet_layers=2", "mixer.hypernet_size=128")


def test_a_spread_is_median_minimum_and_maximum():
    assert spread([3.0, 1.0, 2.0, 10.0]) == Spread(2.5, 1.0, 10.0)
    assert str(spread([2.0])) == "2 (2 to 2)"


def test_ratios_are_taken_per_round():
    assert ratio([2.0, 8.0, 3.0], [1.0, 2.0, 3.0]) == Spread(2.0, 1.0, 4.0)
    with pytest.raises(ValueError, match="zip"):
        ratio([1.0], [1.0, 2.0])


def test_functions_alternate():
    calls = []

    def function(name):
        return lambda: calls.append(name) or float(len(calls))

    found = alternate({"a": function("a"), "b": function("b")}, 3)
    assert "".join(calls) == "ababab"
    assert found == {"a": [1.0, 3.0, 5.0], "b": [2.0, 4.0, 6.0]}


def test_smax_3m_is_measured_by_default():
    own, others = settings.parse([])
    assert others == ["experiment=smax_3m"]
    assert own == settings.Settings()
    assert settings.parse(["env=mpe", "gamma=0.9"])[1] == ["env=mpe", "gamma=0.9"]


def test_own_settings_are_separated_from_the_configuration():
    own, others = settings.parse(
        ["bench.seeds=[1,2,4]", "bench.scenarios=[3m,27m_vs_30m]", "gamma=0.9", "bench.env_steps=1e5", "bench.peer=a/b"]
    )
    assert own.seeds == ["1", "2", "4"]
    assert own.scenarios == ["3m", "27m_vs_30m"]
    assert own.env_steps == 100_000
    assert own.peer == "a/b"
    assert others == ["experiment=smax_3m", "gamma=0.9"]


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("bench.repetitions=0", "bench.repetitions=0: must be at least 1"),
        ("bench.seed=1", "bench.seed=1: unknown key; did you mean bench.seeds"),
        ("bench.seeds=[1,x]", "bench.seeds=x: must be a list of whole numbers"),
        ("bench.seeds=[0]", "bench.seeds=0: must be a list of whole numbers"),
        ("bench.lengths=8", "bench.lengths=8: must be a list"),
        ("bench.baseline=flax", "bench.baseline=flax: unknown; did you mean 'flax_gru'"),
    ],
)
def test_a_mistake_is_named_in_one_line(argument, words):
    with pytest.raises(ConfigError, match=words) as error:
        settings.parse([argument])
    assert "\n" not in str(error.value)


@pytest.fixture
def set_up_already(monkeypatch):
    """JAX has computed in this process and cannot be set up again."""
    monkeypatch.setattr(bench, "set_up", lambda platform, num_devices: None)


@pytest.mark.usefixtures("set_up_already")
def test_mistakes_end_the_command_with_status_2(capsys):
    for argument in ("bench.repetitions=0", "gama=0.9", "bench.peer=/nowhere", "run_dir=somewhere"):
        with pytest.raises(SystemExit, match="2"):
            bench_command.main([*TINY, argument])
        assert capsys.readouterr().err.startswith(f"error: {argument.partition('=')[0]}=")


def test_help_names_every_setting(capsys):
    bench_command.main(["--help"])
    shown = capsys.readouterr().out
    for name in settings.Settings.__dataclass_fields__:
        assert f"bench.{name}=" in shown


def documented() -> list[str]:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.removeprefix(START) for line in lines if line.startswith(START)]


@pytest.mark.parametrize("command", documented())
def test_documented_commands_build_what_they_would_measure(command):
    own, others = settings.parse(shlex.split(command))
    algorithm, _ = make_algorithm(others)
    if own.peer is not None:
        assert peer.peer_config(configuration(others), algorithm.sizes.length, 1, own.env_steps)["NUM_SEEDS"] == 1


def test_the_documents_show_commands():
    assert len(documented()) >= 3


@pytest.fixture(scope="module")
def small():
    """The counting environment, whose episodes have 3 and 2 transitions, with the networks of a small run."""
    algorithm, hyper = make_algorithm(SMALL)
    env = make_toy((Kind(3, True), Kind(2, False)))
    agent = RecurrentAgent(obs_size=3, num_agents=2, num_actions=3, hidden_size=4)
    mixer = algorithm.mixer.clone(state_size=2)
    sizes = algorithm.sizes._replace(length=6, capacity=7, warmup_iterations=2)
    return algorithm._replace(env=env, agent=agent, mixer=mixer, sizes=sizes), hyper


@pytest.fixture(scope="module")
def state(small):
    return pieces.filled_state(*small)


def test_iterations_cover_the_steps(small):
    algorithm, _ = small
    assert pieces.iterations_for(algorithm, 10) == 1  # 2 environments, 5 steps
    assert pieces.iterations_for(algorithm, 11) == 2


def test_all_of_a_filled_replay_can_be_sampled(small, state):
    assert int(state.replay.size) == 7
    assert (
        np.asarray(storage.unpack(small[0].storage, state.replay.slots).mask).sum(axis=1) > 0
    ).sum() == 2  # two of them are not empty


def test_the_environments_step_and_restart(small):
    algorithm, _ = small
    piece = pieces.env_piece(algorithm, iterations=2)
    kinds, times = set(), set()
    for _ in range(4):
        assert piece.seconds() > 0
        (env_state, seen) = piece.carry[1]
        kinds |= set(np.asarray(env_state.kind).tolist())
        times |= set(np.asarray(env_state.time).tolist())
        np.testing.assert_array_equal(seen.state[:, 0], env_state.time)
    assert kinds <= {0, 1}
    assert max(times) <= 2  # never beyond an episode's end


def test_actions_are_chosen_from_a_moving_hidden_state(small, state):
    piece = pieces.act_piece(*small, state, iterations=1)
    piece.seconds()
    before = np.asarray(piece.carry[1][0])
    piece.seconds()
    hidden, action = piece.carry[1]
    assert hidden.shape == (2, 2, 4)
    assert (np.asarray(hidden) != before).any()
    assert set(np.asarray(action).ravel().tolist()) <= {0, 1, 2}


def test_learning_does_the_updates_of_an_iteration(small, state):
    piece = pieces.learn_piece(*small, state, iterations=3)
    piece.seconds()
    assert int(piece.carry.updates) == 3 * 2
    piece.seconds()
    assert int(piece.carry.updates) == 2 * 3 * 2


def test_the_minibatch_to_learn_from_is_not_empty(small, state):
    batch = pieces.new_minibatch(*small, state).slots
    assert batch.mask.shape == (6, 3)
    assert (np.asarray(batch.mask).sum(axis=0) > 0).all()


def test_the_whole_learns_from_its_first_iteration(small, state):
    piece = pieces.whole_piece(*small, state, iterations=2)
    before = pieces.env_steps(piece)
    piece.seconds()
    assert 0 < pieces.env_steps(piece) - before <= 2 * 2 * 5
    assert int(piece.carry.learner.updates) == 2 * 2
    assert int(piece.carry.replay.cursor) == (2 + 4) % 7
    assert int(state.learner.updates) == 0  # the piece works on a copy
    assert not any(x.is_deleted() for x in jax.tree.leaves(state))


def test_collecting_stores_and_sampling_reads(small, state):
    collect = pieces.collect_piece(*small, state, iterations=3)
    collect.seconds()
    assert int(collect.carry.replay.cursor) == (2 + 6) % 7
    sample = pieces.sample_piece(*small, state, iterations=1)
    places = np.asarray(sample.carry[1].places)
    sample.seconds()
    assert sample.carry[1].slots.mask.shape == (6, 3)
    assert (np.asarray(sample.carry[1].places) != places).any()


def test_evaluating_gives_seconds(small):
    assert pieces.evaluation_seconds(small[0])() > 0


def flax_cell(params: dict, hidden: int) -> dict:
    """The parameters of our GRU under the names of flax's cell."""
    gates = ("r", "z", "n")
    kernel, recurrent = params["gru_input_kernel"], params["gru_hidden_kernel"]
    bias, recurrent_bias = params["gru_input_bias"], params["gru_hidden_bias"]
    cell = {}
    for index, gate in enumerate(gates):
        columns = slice(index * hidden, (index + 1) * hidden)
        added = 0 if gate == "n" else recurrent_bias[columns]
        cell[f"i{gate}"] = {"kernel": kernel[:, columns], "bias": bias[columns] + added}
        cell[f"h{gate}"] = {"kernel": recurrent[:, columns]}
    cell["hn"]["bias"] = recurrent_bias[2 * hidden :]
    return cell


def test_the_flax_agent_equals_ours():
    ours = RecurrentAgent(obs_size=3, num_agents=2, num_actions=4, hidden_size=5)
    plain = baselines.FlaxGRUAgent(**baselines.fields_of(ours))
    draw = np.random.default_rng(0)
    obs = jnp.asarray(draw.normal(size=(7, 6, 2, 3)), jnp.float32)
    last_action = jnp.asarray(draw.integers(-1, 4, (7, 6, 2)), jnp.int32)
    first = jnp.asarray(draw.random((7, 6)) < 0.3)
    step = (ours.initial_hidden(6) + 0.5, obs[0], last_action[0])
    params = jax.jit(ours.init)(jax.random.key(1), *step)
    shared = {name: value for name, value in params["params"].items() if not name.startswith("gru_")}
    mapped = {"params": {**shared, "cell": flax_cell(params["params"], 5)}}
    made = jax.eval_shape(plain.init, jax.random.key(1), *step)
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, mapped)

    def both(agent, params):
        return unroll(agent, params, obs, last_action, first), agent.apply(params, *step)

    both = jax.jit(both, static_argnums=0)
    expected, found = jax.tree.leaves(both(ours, params)), jax.tree.leaves(both(plain, mapped))
    assert len(expected) == len(found) == 3
    for x, y in zip(expected, found, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_gathering_takes_the_same_values():
    draw = np.random.default_rng(0)
    q = jnp.asarray(draw.normal(size=(4, 3, 2, 5)), jnp.float32)
    action = jnp.asarray(draw.integers(0, 5, (4, 3, 2)), jnp.int32)
    np.testing.assert_allclose(baselines.gathered_values(q, action, 5), chosen_values(q, action, 5), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        pytest.param("flax_gru", ["unroll and its gradient", "learn"], marks=pytest.mark.slow),
        ("gather", ["learn"]),
    ],
)
def test_baselines_are_compared_with_their_spread(small, name, parts):
    found = baselines.compare(name, *small, iterations=1, repetitions=2)
    assert list(found) == parts
    for part in found.values():
        for values in part.values():
            assert 0 < values["lowest"] <= values["median"] <= values["highest"]


def test_the_gru_is_only_compared_if_there_is_one(small):
    algorithm, hyper = small
    with pytest.raises(ConfigError, match="needs agent=gru"):
        baselines.compare("flax_gru", algorithm._replace(agent=object()), hyper, 1, 1)


def configuration(arguments):
    return parse(to_container(compose_config(arguments)))


def test_the_peer_gets_the_same_sizes_and_schedules():
    config = configuration(
        [*PEER, "rollout.num_envs=4", "target.update_interval=200", "learner.updates_per_iteration=2"]
    )
    found = peer.peer_config(config, length=27, num_seeds=8, env_steps=1000)
    expected = {
        "ENV_NAME": "MPE_simple_spread_v3",
        "ENV_KWARGS": {"max_steps": 25},
        "TOTAL_TIMESTEPS": 10 * 4 * 26,
        "NUM_ENVS": 4,
        "NUM_STEPS": 26,
        "BUFFER_SIZE": 5000,
        "BUFFER_BATCH_SIZE": 32,
        "HIDDEN_SIZE": 64,
        "MIXER_EMBEDDING_DIM": 32,
        "MIXER_HYPERNET_HIDDEN_DIM": 128,
        "NUM_EPOCHS": 2,
        "TARGET_UPDATE_INTERVAL": 100,  # the peer counts iterations
        "LEARNING_STARTS": 10_000,
        "GAMMA": 0.9,
        "MAX_GRAD_NORM": 25.0,
        "NUM_SEEDS": 8,
        "TEST_DURING_TRAINING": False,
        "WANDB_MODE": "disabled",
    }
    assert {name: found[name] for name in expected} == expected
    assert json.loads(json.dumps(found)) == found


def test_the_peer_gets_the_scenario():
    config = configuration(["experiment=smax_3m", "agent=gru", "env.scenario=8m", "mixer.hypernet_layers=2"])
    found = peer.peer_config(config, length=129, num_seeds=1, env_steps=1)
    assert (found["ENV_NAME"], found["MAP_NAME"]) == ("HeuristicEnemySMAX", "8m")
    assert found["ENV_KWARGS"]["attack_mode"] == "closest"
    assert not {"scenario", "time_limit", "_target_"} & set(found["ENV_KWARGS"])
    # Its constructor passes what it does not know on to SMAX's, which refuses what that does not know.
    environment = importlib.import_module("jaxmarl.environments.smax")
    known = [inspect.signature(kind).parameters for kind in (environment.HeuristicEnemySMAX, environment.SMAX)]
    assert set(found["ENV_KWARGS"]) <= {*known[0], *known[1]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["env.physics=smac"], "env.physics=smac: JaxMARL has its own only"),
        (["env.scenario=MMM"], "env.scenario=MMM: JaxMARL lacks it"),
        (["env.allies={marine: 2}", "env.enemies={marine: 3}"], "env.allies={'marine': 2}: JaxMARL has no such battle"),
    ],
)
def test_battles_that_the_peer_lacks_are_refused(change, words):
    config = configuration(["experiment=smax_3m", "agent=gru", "mixer.hypernet_layers=2", *change])
    with pytest.raises(ConfigError, match=re.escape(words)):
        peer.peer_config(config, length=129, num_seeds=1, env_steps=1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("agent=lstm", "agent=gru"),
        ("agent.shared=false", "agent.shared=true"),
        ("mixer=vdn", "mixer=qmix"),
        ("mixer.hypernet_layers=1", "mixer.hypernet_layers=2"),
        ("replay=prioritised", "replay=uniform"),
        ("target.update=soft", "target.update=hard"),
    ],
)
def test_settings_without_an_equivalent_are_rejected(change, words):
    arguments = [a for a in PEER if not (change.startswith("mixer=") and a.startswith("mixer."))]
    with pytest.raises(ConfigError, match=words):
        peer.peer_config(configuration([*arguments, change]), 27, 1, 1000)


def test_other_environments_are_not_compared():
    with pytest.raises(ConfigError, match="env=smax and env=mpe only"):
        peer.peer_config(configuration(["env=two_step", "mixer.hypernet_layers=2"]), 3, 1, 1000)


@pytest.mark.usefixtures("set_up_already")
def test_an_environment_in_worker_processes_is_not_measured():
    with pytest.raises(ConfigError, match="worker processes; give one in JAX"):
        bench.measure(*settings.parse(["env=pettingzoo", "env.name=mpe2.simple_spread_v3"]))


@pytest.mark.usefixtures("set_up_already")
def test_a_run_with_few_updates_is_rejected(tmp_path):
    program = tmp_path / peer.FILE
    program.parent.mkdir(parents=True)
    program.write_text("")
    with pytest.raises(ConfigError, match="without updates; use at least 20000"):
        bench.measure(*settings.parse([*PEER, f"bench.peer={tmp_path}", "bench.env_steps=15_000"]))


ANSWERS = """
import json, sys
print(json.dumps({"trace_seconds": 1.0, "compile_seconds": 2.0, "replay_bytes": {"per_step": BYTES}}), flush=True)
for count, _ in enumerate(sys.stdin, 1):
    print(json.dumps({"seconds": count, "env_steps": STEPS, "updates": 6, "peak_rss_bytes": 100 * count}), flush=True)
"""


def answering(steps: int, stored: int) -> Process:
    return Process([sys.executable, "-c", ANSWERS.replace("STEPS", str(steps)).replace("BYTES", str(stored))])


def test_ours_is_divided_by_the_peers():
    with answering(steps=40, stored=10) as ours, answering(steps=20, stored=50) as other:
        assert ours.compiled["trace_seconds"] == 1.0
        alternate({"ours": ours.env_steps_per_second, "peer": other.env_steps_per_second}, 3)
        found = peer.ratios(ours, other)
        summary = peer.summary(ours.compiled, ours.runs)
    assert found["env_steps_per_second"] == {"median": 2.0, "lowest": 2.0, "highest": 2.0}
    assert found["replay_bytes_per_step"] == pytest.approx(0.2)
    assert found["trace_and_compile_seconds"] == found["peak_rss_bytes"] == 1.0
    assert summary["env_steps_per_second"] == {"median": 20.0, "lowest": pytest.approx(40 / 3), "highest": 40.0}
    assert summary["updates_per_second"]["median"] == 3.0
    assert summary["peak_rss_bytes"] == 300


def test_a_process_that_fails_says_why():
    with pytest.raises(ProcessError, match="no such thing"):
        Process([sys.executable, "-c", "raise SystemExit('no such thing')"])


def test_a_process_that_hangs_is_ended():
    with pytest.raises(ProcessError, match=r"did not answer within 0.3 s"):
        Process([sys.executable, "-c", "import time; time.sleep(600)"], timeout=0.3)


FAKE_PEER = """
    import types
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    from flax.linen.initializers import orthogonal

    fbx = types.SimpleNamespace(make_trajectory_buffer=lambda **settings: settings)

    def env_from_config(config):
        print("Config:", config)
        return "env", config["ENV_NAME"]

    def make_train(config, env):
        assert env == "env"
        buffer = fbx.make_trajectory_buffer(min_length_time_axis=config["BUFFER_BATCH_SIZE"])
        assert buffer == {"min_length_time_axis": 3}, buffer
        assert orthogonal.__qualname__ == "load.<locals>.uniform"
        assert nn.GRUCell(4).recurrent_kernel_init.__qualname__.startswith("variance_scaling")

        def train(key):
            weights = orthogonal(1.0)(key, (3, 4))
            stored = {"obs": jnp.zeros((config["NUM_ENVS"], 2, 5, 7)) + weights[0, 0]}
            state = types.SimpleNamespace
            Train = __import__("collections").namedtuple("Train", "timesteps grad_steps")
            Buffer = __import__("collections").namedtuple("Buffer", "experience")
            return {"runner_state": (Train(jnp.int32(100), jnp.int32(8)), Buffer(stored))}

        return train
"""


def test_the_driver_runs_a_checkout(tmp_path):
    (tmp_path / "qmix_rnn.py").write_text(textwrap.dedent(FAKE_PEER))
    config = {"ENV_NAME": "x", "NUM_SEEDS": 3, "NUM_ENVS": 2, "NUM_STEPS": 5, "BUFFER_SIZE": 4, "BUFFER_BATCH_SIZE": 6}
    command = [sys.executable, "-P", jaxmarl_driver.__file__, str(tmp_path / "qmix_rnn.py"), json.dumps(config)]
    with Process(command) as process:
        answer = process.run()
        assert process.compiled["replay_bytes"]["per_step"] == 2 * 2 * 5 * 7 * 4 / (4 * 5)
        assert process.compiled["program_bytes"]["output"] > 0
    assert answer["env_steps"] == 3 * 100
    assert answer["updates"] == 3 * 8
    assert answer["peak_rss_bytes"] > 2**20


def test_the_loop_of_several_seeds_counts_all_of_them(small):
    algorithm, hyper = small
    request = worker.Request([], seeds=3, env_steps=30, warm_up=True, evaluate=False)
    loop = worker.Loop(algorithm, hyper, request, None)
    assert loop.iterations == 3
    found = [loop.run(), loop.run()]
    for answer in found:
        assert answer["updates"] == 3 * 2  # 3 seeds, 2 updates in the one iteration after warm-up
        assert 3 * 3 * 2 < answer["env_steps"] <= 3 * 30
    assert found[0]["env_steps"] == found[1]["env_steps"]  # all runs are the same
    assert loop.program_bytes()["argument"] > 0


@pytest.mark.slow
def test_the_loop_learns_at_once_without_warm_up(small):
    algorithm, hyper = small
    loop = worker.Loop(algorithm, hyper, worker.Request([], 1, 30, warm_up=False, evaluate=True), None)
    assert loop.run()["updates"] == 3 * 2


def test_replay_bytes_are_counted_per_step():
    algorithm, _ = make_algorithm(SMALL)
    found = worker.replay_bytes(algorithm)
    assert found["per_step"] * 2 == pytest.approx(found["per_slot"] * 3)


def spread_of(median: float) -> dict[str, float]:
    return Spread(median, 0.9 * median, 1.1 * median)._asdict()


def test_a_report_is_drawn(tmp_path):
    points = [{"value": value, "env_steps_per_second": spread_of(10.0 * value)} for value in (1, 2)]
    report = {
        "title": "qmix on toy",
        "bench": {"repetitions": 3},
        "iteration_seconds": {name: spread_of(0.1) for name in ("env", "act", "learn", "whole")},
        "curves": {
            "seeds": [*points, {"value": 4, "error": "does not fit"}],
            "scenarios": [{"value": "3m", "error": "x"}],
        },
        "baseline": {"name": "flax_gru", "parts": {"learn": {"speedup": spread_of(2.0)}}},
        "peer": [{"seeds": 8, "ratios": {"env_steps_per_second": spread_of(1.5)}}],
    }
    full = figure.draw(report, tmp_path / "new" / "bench.png")
    plain = figure.draw({**report, "curves": {}, "baseline": None, "peer": None}, tmp_path / "plain.png")
    assert full.stat().st_size > plain.stat().st_size > 0


@pytest.mark.slow
def test_the_command_measures_and_writes(tmp_path):
    own = ["bench.env_steps=8", "bench.repetitions=2", "bench.seeds=[2]", "bench.lengths=[1]"]
    env = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    command = [sys.executable, "-m", "qmix_jax.bench", *SMALL, *own, f"bench.output={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env, cwd=ROOT)
    for word in (
        "start: trace",
        "overhead: whole / (env + act + learn)",
        "curve over seeds",
        "bytes per environment step",
    ):
        assert word in done.stdout
    report = json.loads((tmp_path / "bench.json").read_text())
    assert (tmp_path / "bench.png").exists()
    (two_seeds,), (too_short,) = report["curves"]["seeds"], report["curves"]["lengths"]
    assert two_seeds["env_steps"] == 2 * 8
    assert two_seeds["updates_per_second"]["lowest"] > 0
    assert "rollout.length=1: must be at least 2" in too_short["error"]  # and the rest was still measured
    assert report["iterations"] == 2
    assert set(report["iteration_seconds"]) == {"env", "act", "learn", "collect", "sample", "whole"}


def test_the_worker_command_is_a_valid_request():
    request = json.loads(worker_command(["env=two_step"], 3, 100, evaluate=True, cache="x")[-1])
    assert worker.Request(**request) == worker.Request(["env=two_step"], 3, 100, False, True, "x")


def figures_of(steps: float) -> dict[str, Any]:
    """The parts of a ``bench.json`` that the table reads."""

    def same(value: float) -> dict[str, float]:
        return {"median": value, "lowest": value, "highest": value}

    def side(steps: float, start: float, stored: float) -> dict[str, Any]:
        return {
            "env_steps_per_second": same(steps),
            "trace_seconds": start / 2,
            "compile_seconds": start / 2,
            "replay_bytes": {"per_step": stored},
        }

    def compared(seeds: int, ours: float) -> dict[str, Any]:
        ratios = {
            "env_steps_per_second": same(ours / 100),
            "trace_and_compile_seconds": 0.5,
            "replay_bytes_per_step": 0.25,
            "peak_rss_bytes": 0.75,
        }
        return {"seeds": seeds, "ours": side(ours, 4, 50), "peer": side(100, 8, 200), "ratios": ratios}

    return {
        "peer": [compared(1, steps), compared(8, 3 * steps)],
        "start": {"second_start_seconds": 1.25},
        "baseline": {"parts": {"learn": {"speedup": same(1.5)}}},
        "overhead": same(1.1),
    }


def test_the_table_has_a_column_per_report():
    lines = table.table({"MPE": figures_of(200.0), "SMAX": figures_of(400.0)}).splitlines()
    assert lines[:2] == ["| what | MPE | SMAX |", "| --- | --- | --- |"]
    rows = dict(line.strip("| ").split(" | ", 1) for line in lines[2:])
    assert rows["env steps/s over JaxMARL's, 8 seeds"] == "6 (6 to 6): 600 over 100 | 12 (12 to 12): 1200 over 100"
    assert rows["trace + compile over JaxMARL's, 1 seed"] == "0.50: 4.0 s over 8.0 s | 0.50: 4.0 s over 8.0 s"
    assert rows["replay bytes per step over JaxMARL's"] == "0.25: 50 over 200 | 0.25: 50 over 200"
    assert rows["env steps/s with 8 seeds over 1"] == "3.00 | 3.00"
    assert rows["learn, times as fast as with flax's GRUCell"] == "1.5 (1.5 to 1.5) | 1.5 (1.5 to 1.5)"
    assert rows["second start"] == "1.2 s | 1.2 s"


def test_the_table_runs_the_benchmark_once_for_each_environment(tmp_path, monkeypatch, capsys):
    commands = []

    def run(command: list[str], check: bool) -> subprocess.CompletedProcess:
        commands.append(command)
        output = next(a for a in command if a.startswith("bench.output=")).partition("=")[2]
        Path(output).mkdir(parents=True)
        (Path(output) / "bench.json").write_text(json.dumps(figures_of(100.0 * len(commands))))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    table.main(["bench.peer=there", "bench.repetitions=2", f"bench.output={tmp_path}"])
    text = capsys.readouterr().out
    assert "1 (1 to 1): 100 over 100 | 2 (2 to 2): 200 over 100" in text
    assert (tmp_path / "table.md").read_text() == text
    assert [Path(c[-2].partition("=")[2]).name for c in commands] == ["mpe", "smax"]
    for command in commands:
        assert {"bench.peer=there", "bench.repetitions=2", "bench.seeds=[1,8]"} <= set(command)
        chosen, others = settings.parse(command[3:])
        peer.peer_config(parse(to_container(compose_config(others))), 129, 1, chosen.env_steps)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bench.repetitions=2"], "bench.peer=null: needs a checkout"),
        (["bench.peer=there", "gamma=0.9"], "gamma: not a setting of this table"),
    ],
)
def test_the_table_rejects_other_settings(arguments, words, capsys):
    with pytest.raises(SystemExit, match="2"):
        table.main(arguments)
    assert words in capsys.readouterr().err


def test_the_table_fails_if_the_benchmark_does(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda command, check: subprocess.CompletedProcess(command, 3))
    with pytest.raises(SystemExit, match="3"):
        table.main(["bench.peer=there", f"bench.output={tmp_path}"])


def test_the_table_prints_its_usage(capsys):
    table.main([])
    assert "bench.peer=FOLDER" in capsys.readouterr().out
