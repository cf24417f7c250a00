"""Playing saved policies: episodes, reports and rejected input."""

import dataclasses
import io
import json
import math
import re
import runpy
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_env
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from safetensors.numpy import load_file, save_file
from scipy import stats

from qmix_jax import evaluate
from qmix_jax.acting import greedy_episodes
from qmix_jax.envs.build import make_env
from qmix_jax.logging import ConsoleSink
from qmix_jax.networks.agents import RecurrentAgent
from qmix_jax.results import play
from qmix_jax.results.confidence import mean_interval, rate_interval
from qmix_jax.results.policies import SUFFIXES, find_policy, load_policy, save_policy, shipped_policies
from qmix_jax.results.team import Choice, load_team
from qmix_jax.settings.arguments import HELP
from qmix_jax.settings.command_line import shipped_targets

TWO_STEP = {"_target_": "qmix_jax.envs.two_step.make_two_step"}
TOY = {"_target_": "toy_env.make_toy"}
AGENT = {"_target_": "qmix_jax.networks.agents.RecurrentAgent", "hidden_size": 8}
TRUST_TOY = "env._target_=toy_env.make_toy"
SEEDS = (0, 3)
BATCHES_OF_TWO = ("episodes=5", "batch=2")

greedy_pair = jax.jit(
    lambda env, agent, params, key: greedy_episodes.greedy_episodes(env, agent, params, key, 2), static_argnums=(0, 1)
)


def save_run(folder: Path, settings: dict, **changes) -> Path:
    """A run's folder with random policies for two seeds: the files of a training run that playing needs."""
    env = make_env(settings)
    sizes = {name: getattr(env, name) for name in ("num_agents", "num_actions", "obs_size", "state_size")}
    description = {"env": settings, "agent": AGENT, "sizes": sizes, **changes}
    for seed in SEEDS:
        for name in ("final", "best"):
            params = random_params(agent_for(env), seed + (name == "best"))
            save_policy(folder / "policies" / f"seed_{seed}" / name, params, description)
    return folder


def agent_for(env) -> RecurrentAgent:
    return RecurrentAgent(env.obs_size, env.num_agents, env.num_actions, hidden_size=AGENT["hidden_size"])


def random_params(agent: RecurrentAgent, seed: int):
    """Normal numbers in the shapes of the agent's parameters; much faster than initialising them."""

    def init():
        obs, last_action = jnp.zeros((agent.num_agents, agent.obs_size)), jnp.zeros(agent.num_agents, jnp.int32)
        return agent.init(jax.random.key(0), agent.initial_hidden(), obs, last_action)

    numbers = np.random.default_rng(seed)
    return jax.tree.map(lambda x: numbers.normal(size=x.shape).astype(np.float32), jax.eval_shape(init))


@pytest.fixture(scope="module")
def two_step(tmp_path_factory) -> Path:
    return save_run(tmp_path_factory.mktemp("two_step"), TWO_STEP)


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    return save_run(tmp_path_factory.mktemp("toy"), TOY)


@pytest.fixture
def run(tmp_path) -> Path:
    """A copy of the folder that a test may damage."""
    return save_run(tmp_path / "run", TWO_STEP)


def refused(capsys, *arguments: str) -> str:
    """The one line that the command prints before it exits with status 2."""
    with pytest.raises(SystemExit) as exit_info:
        evaluate.main(arguments)
    assert exit_info.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def results(folder: Path, tmp_path: Path, *arguments: str) -> dict:
    output = tmp_path / "evaluation.json"
    evaluate.main([f"run_dir={folder}", f"output={output}", *arguments])
    return json.loads(output.read_text())


def spoil(path: Path, **changes) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


class TestIntervals:
    def test_means_have_students_interval(self):
        values = np.random.default_rng(0).normal(3.0, 2.0, 17)
        mean, low, high = mean_interval(values)
        expected = stats.t.interval(0.95, 16, loc=values.mean(), scale=stats.sem(values))
        np.testing.assert_allclose((mean, low, high), (values.mean(), *expected), rtol=1e-12)

    def test_equal_values_leave_no_doubt_and_one_value_says_nothing(self):
        assert mean_interval(np.full(5, 8.0)) == (8.0, 8.0, 8.0)
        mean, low, high = mean_interval(np.array([8.0]))
        assert mean == 8.0
        assert math.isnan(low)
        assert math.isnan(high)

    @pytest.mark.parametrize(("wins", "total"), [(0, 10), (10, 10), (7, 10), (1, 1), (968, 1000)])
    def test_rates_have_wilsons_interval(self, wins, total):
        z, rate = stats.norm.ppf(0.975), wins / total
        centre = (rate + z**2 / (2 * total)) / (1 + z**2 / total)
        half = z / (1 + z**2 / total) * math.sqrt(rate * (1 - rate) / total + z**2 / (4 * total**2))
        mean, low, high = rate_interval(np.arange(total) < wins)
        np.testing.assert_allclose((mean, low, high), (rate, centre - half, centre + half), atol=1e-12)
        assert 0 <= low < high <= 1


@pytest.mark.parametrize(
    ("episodes", "batch", "size"), [(1000, 256, 250), (1, 256, 1), (5, 2, 2), (5, 5, 5), (6, 1, 1), (257, 256, 129)]
)
def test_batches_are_equal_and_hold_all_episodes(episodes, batch, size):
    plan = play.Plan(episodes, batch)
    assert plan.batch_size == size
    keys = plan.keys(0)
    assert 0 <= size * len(keys) - episodes < len(keys)
    assert len(np.unique(jax.random.key_data(keys), axis=0)) == len(keys)


def test_the_report_matches_the_episodes_played(toy, tmp_path):
    found = results(toy, tmp_path, TRUST_TOY, *BATCHES_OF_TWO, "evaluation_seed=7")
    env = toy_env.make_toy()
    returns, wins, lengths = [], [], []
    for seed, policy in zip(SEEDS, found["policies"], strict=True):
        params = load_policy(toy / "policies" / f"seed_{seed}" / "final").params
        keys = jax.random.split(jax.random.fold_in(jax.random.key(7), seed), 3)
        batches = [greedy_pair(env, agent_for(env), params, key) for key in keys]
        own_returns, own_lengths, own_wins = (np.concatenate(values)[:5] for values in zip(*batches, strict=True))
        assert policy["seed"] == seed
        assert policy["episodes"] == 5
        np.testing.assert_allclose(policy["return"]["mean"], own_returns.mean(), rtol=1e-6)
        assert tuple(policy["win_rate"].values()) == rate_interval(own_wins)
        assert tuple(policy["episode_length"].values()) == mean_interval(own_lengths)
        returns, wins, lengths = [*returns, *own_returns], [*wins, *own_wins], [*lengths, *own_lengths]
    pooled = found["pooled"]
    assert pooled["episodes"] == 10
    np.testing.assert_allclose(tuple(pooled["return"].values()), mean_interval(np.array(returns)), rtol=1e-6)
    assert tuple(pooled["win_rate"].values()) == rate_interval(np.array(wins))
    assert tuple(pooled["episode_length"].values()) == mean_interval(np.array(lengths))


def test_only_the_first_episode_of_each_environment_counts(toy):
    """Episodes have 2 or 3 transitions; shorter ones wait and get no reward for continuing."""
    team = load_team(Choice(str(toy), env=TOY))
    keys = play.Plan(episodes=39, most_parallel=2).keys(0)
    played = play.play(lambda params, key: greedy_pair(team.env, team.agent, params, key), team.policies[0], keys, 39)
    assert set(np.unique(played.episode_length)) == {2, 3}
    assert played.episode_return.shape == (39,)
    assert (played.episode_return > 0).all()
    assert (played.episode_return < toy_env.BEYOND).all()


def test_a_seed_gives_the_same_results_alone_and_with_others(toy, tmp_path):
    together = results(toy, tmp_path, TRUST_TOY, *BATCHES_OF_TWO)
    alone = results(toy, tmp_path, TRUST_TOY, *BATCHES_OF_TWO, "seed=3")
    assert alone["policies"] == together["policies"][1:]


def test_the_best_policy_and_other_episodes_can_be_chosen(toy, tmp_path):
    shown = [
        results(toy, tmp_path, TRUST_TOY, *BATCHES_OF_TWO, *arguments)["pooled"]
        for arguments in ((), ("which=best",), ("evaluation_seed=2",))
    ]
    assert shown[0] != shown[1]
    assert shown[0] != shown[2]


def test_settings_of_the_environment_can_be_changed(toy, tmp_path):
    found = results(toy, tmp_path, TRUST_TOY, "env.has_win_rate=false", *BATCHES_OF_TWO)
    assert found["env_settings"] == {**TOY, "has_win_rate": False}
    assert found["pooled"]["win_rate"] is None


def test_a_recorded_episode_is_the_first_counted_one(toy):
    team = load_team(Choice(str(toy), env=TOY))
    key, params = jax.random.key(11), team.policies[0]
    played = greedy_pair(team.env, team.agent, params, key)
    episode = play.record(team.env, team.agent, params, key, 2)
    length = int(played.episode_length[0])
    assert [len(part) for part in episode] == [length + 1, length, length, length]
    assert sum(episode.rewards) == pytest.approx(float(played.episode_return[0]))
    for time in range(length):
        state, _, outcome = team.env.step(episode.keys[time], episode.env_states[time], episode.actions[time])
        assert int(state.time) == int(episode.env_states[time + 1].time) == time + 1
        assert float(outcome.reward) == episode.rewards[time]
        assert bool(outcome.last) == (time == length - 1)


def test_an_episode_is_drawn(two_step, tmp_path, capsys):
    path = tmp_path / "episode.md"
    evaluate.main([f"run_dir={two_step}", "episodes=1", f"render={path}"])
    rows = [line for line in path.read_text().splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert rows[3].split("|")[5].strip() == "end"
    assert f"render={path}" in capsys.readouterr().out


def test_output_is_key_value_lines_without_a_terminal(two_step, toy, capsys):
    evaluate.main([f"run_dir={two_step}", "episodes=3"])
    out = capsys.readouterr().out
    assert all(character.isprintable() or character == "\n" for character in out)
    lines = [dict(pair.split("=") for pair in line.split()) for line in out.splitlines()]
    found = [line for line in lines if "seed" in line]
    assert [line["seed"] for line in found] == ["0", "3", "pooled"]
    assert all("win_rate" not in line for line in found)
    assert {line["episode_length"] for line in found} == {"2"}
    assert [line["episodes"] for line in found] == ["3", "3", "6"]
    assert all(float(line["return_low"]) <= float(line["return"]) <= float(line["return_high"]) for line in found)


def test_output_is_a_table_on_a_terminal(toy, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(evaluate, "ConsoleSink", lambda: ConsoleSink(console))
    evaluate.main([f"run_dir={toy}", TRUST_TOY, "episodes=4"])
    text = screen.getvalue()
    for words in ("final policies on toy: 4 greedy episodes each", "return [95%]", "win rate [95%]", "pooled"):
        assert words in text


def test_the_module_evaluate_is_the_command(two_step, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluate", f"run_dir={two_step}", "episodes=1", "seed=3"])
    runpy.run_path(evaluate.__file__, run_name="__main__")
    assert "seed=3 episodes=1 return=" in capsys.readouterr().out


@pytest.mark.parametrize("argument", HELP)
def test_help_names_every_key(argument, capsys):
    evaluate.main([argument])
    out = capsys.readouterr().out
    defaults = dataclasses.asdict(evaluate.Settings())
    assert all(f"  {key}=" in out for key in defaults if key not in ("env", "agent", "mixer"))
    assert all(
        f"  {key}={'null' if value is None else value} " in out
        for key, value in defaults.items()
        if key not in ("env", "agent", "mixer", "run_dir", "policy", "render", "explain", "output")
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("run_dir: missing", "run_dir=")),
        (("run_dri=x",), ("run_dri=x", "did you mean run_dir?")),
        (("run_dir={run}", "episods=3"), ("episods=3", "did you mean episodes?")),
        (("run_dir={run}", "episodes"), ("episodes", "key=value")),
        (("run_dir={run}", "episodes=0"), ("episodes=0", "at least 1")),
        (("run_dir={run}", "episodes=many"), ("episodes=many", "whole number")),
        (("run_dir={run}", "batch=0"), ("batch=0", "at least 1")),
        (("run_dir={run}", "which=bst"), ("which=bst", "'best'")),
        (("run_dir={run}", "seed=4"), ("seed=4", "did you mean 3?", "0, 3")),
        (("run_dir={run}x",), ("run_dir={run}x", "no such folder", "did you mean {run}?")),
        (("run_dir={run}/policies",), ("run_dir={run}/policies", "holds no policies", "did you mean {run}?")),
        (("policy={run}",), ("policy={run}", "a folder; did you mean policy={run}/policies/seed_0/best?")),
        ((f"policy={'a' * 300}",), ("a name in it is too long",)),
        (("run_dir={run}", f"explain={'ä' * 130}"), ("a name in it is too long",)),
        (("gamma=0.5",), ("gamma=0.5: unknown key; there are run_dir, policy,",)),
        (("run_dir={run}", "output={run}"), ("output={run}: is a folder",)),
        (
            ("run_dir={run}", "explain={run}/policies/seed_0/final.json"),
            ("explain={run}/policies/seed_0/final.json: cannot be made", "is a file"),
        ),
        (("run_dir={run}", "render=episode.gfi"), ("render=episode.gfi", "did you mean episode.gif?")),
        (("run_dir={run}", "render=episode.mp4"), ("render=episode.mp4", "did you mean episode.gif?")),
        (("run_dir={run}", "render=episode.jpg"), ("render=episode.jpg", "did you mean episode.png?")),
        (("run_dir={run}", "render=nowhere/episode.gif"), ("render=nowhere/episode.gif", "no folder")),
        (("run_dir={run}", "output=nowhere/x.json"), ("output=nowhere/x.json", "no folder")),
        (("run_dir={run}", "env=smax"), ("env=smax", "one by one")),
        (("run_dir={run}", "env.size=3"), ("env.size=3: unknown (choices: none)",)),
        (("run_dir={run}", "env.size={{"), ("env.size={{", "cannot be read")),
        (("run_dir={run}", "env._target_=qmix_jax.envs.matrix.make_climbing"), ("num_actions=2", "num_actions=3")),
        (("run_dir={run}", "env._target_=toy_env.make_toi"), ("toy_env.make_toi", "did you mean make_toy?")),
        (("run_dir={run}", "agent.hidden_size=9"), ("float32[2, 8]", "float32[2, 9]")),
        (("run_dir={run}", "agent.hidden_size=-1"), ("agent.hidden_size=-1", "at least 1")),
    ],
)
def test_invalid_settings_are_named_in_one_line(arguments, words, two_step, capsys):
    message = refused(capsys, *(argument.format(run=two_step) for argument in arguments))
    for word in words:
        assert word.format(run=two_step) in message


@pytest.mark.parametrize(("key", "name"), [("output", "x.json"), ("render", "x.md")])
def test_a_file_that_cannot_be_written_is_named_in_one_line(key, name, two_step, tmp_path, capsys):
    (tmp_path / name).mkdir()
    with pytest.raises(SystemExit) as exit_info:
        evaluate.main([f"run_dir={two_step}", "episodes=1", f"{key}={tmp_path / name}"])
    assert exit_info.value.code == 2
    said = capsys.readouterr()
    assert re.fullmatch(rf"error: {key}=.*{name}: is a folder; give the name of a file in it\n", said.err)
    assert said.out == "", "nothing was played"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: content[:40], "not a readable policy"),
        (lambda content: (10 * 10**9).to_bytes(8, "little") + content[8:], "not a readable policy"),
        (lambda content: b"", "not a readable policy"),
    ],
)
def test_a_damaged_policy_is_named_in_one_line(run, capsys, damage, words):
    file = run / "policies" / "seed_0" / "final.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    assert f"seed_0/final: {words}" in refused(capsys, f"run_dir={run}")


def test_a_policy_of_a_later_version_is_named_in_one_line(run, capsys):
    spoil(run / "policies" / "seed_0" / "final.json", format="qmix_jax-policy-99")
    assert "seed_0/final.json: not of the format qmix_jax-policy" in refused(capsys, f"run_dir={run}")


def test_a_battle_is_drawn_as_a_gif_only(capsys, tmp_path):
    with pytest.raises(SystemExit):
        evaluate.main(["policy=smax_3m", "episodes=1", f"render={tmp_path / 'battle.png'}"])
    said = capsys.readouterr()
    assert said.err == "error: render=battle.png: must end in .gif; did you mean battle.gif?\n"
    assert said.out == "", "nothing was played"


def test_an_environment_without_a_renderer_is_not_drawn(toy, capsys):
    assert "render=x.gif: toy has nothing" in refused(capsys, f"run_dir={toy}", TRUST_TOY, "render=x.gif")


class TestTrust:
    """A run's folder may come from anywhere; it must not choose which code runs."""

    @pytest.mark.parametrize("part", ["env", "agent"])
    @pytest.mark.parametrize(
        "target",
        [
            "harmful.make",
            "qmix_jax.settings.build.build_part",
            "qmix_jax.envs.build.make_env",
            "qmix_jax.envs.build._import_target",
            "qmix_jax_harmful.make",
            "make",
            None,
            ["qmix_jax.envs.two_step.make_two_step"],
        ],
    )
    def test_a_foreign_target_in_a_file_is_not_followed(self, part, target, run, tmp_path, capsys, monkeypatch):
        for name in ("harmful", "qmix_jax_harmful"):
            (tmp_path / f"{name}.py").write_text("def make(): ...")
        monkeypatch.syspath_prepend(tmp_path)
        settings = {"_target_": target, "key": "env", "settings": {"_target_": "harmful.make"}}
        for seed in SEEDS:
            spoil(run / "policies" / f"seed_{seed}" / "final.json", **{part: settings})
        message = refused(capsys, f"run_dir={run}")
        assert f"{part}._target_=" in message
        assert "on the command line" in message
        assert not {"harmful", "qmix_jax_harmful"} & set(sys.modules)

    def test_a_foreign_environment_is_played_when_it_is_named(self, toy, capsys):
        assert f"name it on the command line: {TRUST_TOY}" in refused(capsys, f"run_dir={toy}")
        evaluate.main([f"run_dir={toy}", TRUST_TOY, "episodes=1"])

    def test_what_train_can_build_by_default_is_followed(self):
        assert TWO_STEP["_target_"] in shipped_targets("env")
        assert "qmix_jax.envs.jaxmarl.make_smax" in shipped_targets("env")
        kinds = ["agents.RecurrentAgent", "agents.LSTMAgent", "agents.FeedForwardAgent", "deep.DeepRecurrentAgent"]
        kinds += [
            "parallel_agents.LRUAgent",
            "parallel_agents.MinGRUAgent",
            "images.ImageAgent",
            "entities.EntityAgent",
        ]
        assert shipped_targets("agent") == {f"qmix_jax.networks.{kind}" for kind in kinds}


class TestFiles:
    def test_nothing_but_the_agent_is_in_them(self, two_step):
        names = load_file(two_step / "policies" / "seed_0" / "final.safetensors")
        assert "q_kernel" in names
        assert not [name for name in names if "mix" in name or "hyper" in name]

    def test_parameters_come_back_as_they_were(self, two_step):
        env = make_env(TWO_STEP)
        params = random_params(agent_for(env), 3)
        loaded = load_policy(two_step / "policies" / "seed_3" / "final").params
        jax.tree.map(np.testing.assert_array_equal, loaded, params)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"sizes": {"num_agents": 5, "num_actions": 2, "obs_size": 3}}, "num_agents=5, but two_step"),
            ({"sizes": {"num_agents": 2, "num_actions": 2}}, "obs_size=None"),
            ({"sizes": None}, "num_agents=None"),
            ({"env": None}, "no settings under 'env'"),
            ({"agent": "gru"}, "no settings under 'agent'"),
            ({"format": "pickle"}, "not of the format"),
            ({"env": {**TWO_STEP, "size": 3}}, "env.size=3"),
            ({"agent": {**AGENT, "hidden_size": 10**6}}, "agent_id_kernel is float32[2, 8]"),
            ({"agent": {**AGENT, "hidden_size": "8"}}, "agent.hidden_size=8: must be a whole number"),
        ],
    )
    def test_a_description_must_fit(self, changes, words, run, capsys):
        spoil(run / "policies" / "seed_0" / "final.json", **changes)
        assert words in refused(capsys, f"run_dir={run}", "seed=0")

    def test_policies_must_be_of_one_kind(self, run, capsys):
        spoil(run / "policies" / "seed_3" / "final.json", agent={**AGENT, "agent_id": False})
        assert "agent is not that of seed 0" in refused(capsys, f"run_dir={run}")

    @pytest.mark.parametrize(
        "change",
        [
            lambda arrays: {**arrays, "q_bias": arrays["q_bias"][:1]},
            lambda arrays: {**arrays, "q_bias": arrays["q_bias"].astype(np.float64)},
            lambda arrays: {name: array for name, array in arrays.items() if name != "q_bias"},
            lambda arrays: {**arrays, "mixer.bias": arrays["q_bias"]},
            lambda arrays: {**arrays, "q_bias.more": arrays["q_bias"]},
        ],
        ids=["shape", "dtype", "missing", "unknown", "nested"],
    )
    def test_parameters_must_fit(self, change, run, capsys):
        path = run / "policies" / "seed_0" / "final.safetensors"
        save_file(change(load_file(path)), path)
        message = refused(capsys, f"run_dir={run}", "seed=0")
        assert "seed_0/final" in message

    @pytest.mark.parametrize("suffix", [".json", ".safetensors"])
    @pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"[" * 100_000, b"\xff" * 64], ids=repr)
    def test_a_corrupt_file_is_refused(self, suffix, content, run, capsys):
        (run / "policies" / "seed_0" / f"final{suffix}").write_bytes(content)
        assert "not a readable policy" in refused(capsys, f"run_dir={run}")

    @pytest.mark.parametrize("suffix", [".json", ".safetensors"])
    def test_a_missing_file_is_named(self, suffix, run, capsys):
        (run / "policies" / "seed_0" / f"final{suffix}").unlink()
        assert f"final{suffix}: no such policy file" in refused(capsys, f"run_dir={run}")


T, N = 4, 3
AGENT_UNDER_TEST = RecurrentAgent(obs_size=6, num_agents=N, num_actions=5, hidden_size=8)


@jax.jit
def act_along(params, obs):
    """Greedy values and actions [T, N] along observations [T, N, O], each agent with its own hidden state."""

    def tick(carry, obs):
        hidden, last_action = carry
        hidden, q = AGENT_UNDER_TEST.apply(params, hidden, obs, last_action)
        action = q.argmax(axis=-1).astype(jnp.int32)
        return (hidden, action), (q, action)

    start = AGENT_UNDER_TEST.initial_hidden(), jnp.full(N, -1, jnp.int32)
    return jax.lax.scan(tick, start, obs)[1]


@given(seed=st.integers(0, 2**31 - 1), agent=st.integers(0, N - 1), scale=st.sampled_from([1.0, 100.0]))
def test_an_agent_acts_on_its_own_observations_only(seed, agent, scale):
    numbers = np.random.default_rng(seed)
    params = random_params(AGENT_UNDER_TEST, seed)
    obs = numbers.normal(size=(T, N, AGENT_UNDER_TEST.obs_size)).astype(np.float32)
    others = (scale * numbers.normal(size=obs.shape)).astype(np.float32)
    others[:, agent] = obs[:, agent]
    before, after = jax.device_get((act_along(params, obs), act_along(params, others)))
    np.testing.assert_allclose(after[0][:, agent], before[0][:, agent], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(after[1][:, agent], before[1][:, agent])
    assert not np.allclose(np.delete(after[0], agent, axis=1), np.delete(before[0], agent, axis=1))


@pytest.mark.parametrize("name", sorted(shipped_policies()))
def test_a_policy_that_comes_with_the_project_fits_its_environment_and_is_small(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a bare name is found from anywhere
    team = load_team(Choice("", policy=name))
    assert team.env.name.replace("-", "_") == name
    path = find_policy(name)
    assert sum(path.with_suffix(suffix).stat().st_size for suffix in SUFFIXES) <= 300_000
    fresh = load_policy(path).description["fresh_episodes"]
    assert fresh["episodes"] >= 1000
    low, high = fresh["win_rate"][1:]
    assert f"| `{name}` |" in (path.parent / "README.md").read_text(encoding="utf-8")
    assert low < fresh["win_rate"][0] < high


def test_a_policy_is_played_by_its_file_too(tmp_path, capsys):
    folder = save_run(tmp_path, TWO_STEP, seed=3)
    for policy in ("policies/seed_3/best", "policies/seed_3/best.safetensors"):
        evaluate.main([f"policy={folder / policy}", *BATCHES_OF_TWO])
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("seed=3 episodes=5 ")]) == 2
    played = result_of(load_team(Choice("", policy=str(folder / "policies/seed_3/best"))))
    assert played == result_of(load_team(Choice(str(folder), "best", 3)))


def result_of(team) -> list:
    plan = play.Plan(5, 2)
    return play.result_rows(play.play_team(team, play.compile_episodes(team, plan), plan), team.env.has_win_rate)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["policy=smax_3s5"], "did you mean smax_3s5z?"),
        (["policy=nowhere/best"], "no such file"),
        (["policy=smax_3m", "run_dir=runs/x"], "leave it out"),
        (["policy=smax_3m", "seed=3"], "leave it out"),
        (["policy=smax_3m", "which=best"], "which=best: leave it out"),
        ([], "policy=NAME"),
    ],
)
def test_a_policy_that_is_not_there_is_one_line(arguments, words, capsys):
    with pytest.raises(SystemExit, match="2"):
        evaluate.main(arguments)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert words in lines[0]
