"""Each check of an environment finds its own fault and no other; a correct environment passes all."""

import io
import itertools
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_env
from jaxtyping import Array, Int
from rich.console import Console

from qmix_jax import check_env
from qmix_jax.envs.base import Env
from qmix_jax.envs.build import as_env
from qmix_jax.envs.contract import PROMISES, Finding, check_contract
from qmix_jax.errors import ConfigError
from qmix_jax.logging import ConsoleSink
from qmix_jax.types import Outcome, TimeStep

ROOT = Path(__file__).parents[2]
EPISODES = 6
LIMIT = 4
SIDE = 5


class WalkState(NamedTuple):
    time: Int[Array, ""]
    place: Int[Array, " N"]


def see(state: WalkState) -> TimeStep:
    place = state.place.astype(jnp.float32) / SIDE
    return TimeStep(
        obs=jnp.stack([place, place[::-1]]),
        avail_actions=jnp.stack([jnp.ones(2, bool), state.place > 0, state.place < SIDE - 1], axis=-1),
        state=place,
    )


def bits(key):
    """Two random numbers: a key is made of them, and nothing has to be compiled to draw more."""
    return (jax.random.key_data(key) >> 8).astype(jnp.int32)


@jax.jit
def reset(key):
    state = WalkState(time=jnp.int32(0), place=bits(key) % SIDE)
    return state, see(state)


@jax.jit
def step(key, state, action):
    """Agents stay, or walk; where there is wind. Standing together in the middle is the end."""
    wind = bits(key) % 3 - 1
    place = jnp.clip(state.place + jnp.asarray([0, -1, 1])[action] + wind, 0, SIDE - 1)
    state = WalkState(time=state.time + 1, place=place)
    met = (place == SIDE // 2).all()
    outcome = Outcome(
        reward=met.astype(jnp.float32),
        discount=1.0 - met.astype(jnp.float32),
        last=met | (state.time >= LIMIT),
        won=met,
    )
    return state, see(state), outcome


WALK = Env(
    name="walk",
    num_agents=2,
    num_actions=3,
    obs_size=2,
    state_size=2,
    episode_limit=LIMIT,
    reset=reset,
    step=step,
    has_win_rate=True,
    max_return=1.0,
)


def results(findings: list[Finding]) -> dict[str, list[str]]:
    found = {"ok": [], "warning": [], "broken": [], "not_checked": []}
    for finding in findings:
        found[finding.result].append(finding.check)
    return found


def checked(env: Env, twin: Env | None = None, **options) -> list[Finding]:
    return check_contract(env, twin, episodes=EPISODES, **options)


def words_of(findings: list[Finding], check: str) -> str:
    return next(finding.words for finding in findings if finding.check == check)


# Environments that break one promise


def seeing(change: Callable[[TimeStep], TimeStep], of: str = "both") -> Env:
    """Walk, with another TimeStep from reset, step or both."""
    env = WALK
    if of != "step":
        env = env._replace(reset=lambda key: (lambda state, seen: (state, change(seen)))(*reset(key)))
    if of != "reset":
        env = stepping(lambda key, before, state, seen, outcome: (state, change(seen), outcome), env)
    return env


def stepping(change: Callable, env: Env = WALK) -> Env:
    """Walk, with ``change(key, before, state, seen, outcome)`` in place of what step returns."""
    return env._replace(step=lambda key, before, action: change(key, before, *step(key, before, action)))


def paying(change: Callable[[WalkState, Outcome], Outcome], **declared) -> Env:
    return stepping(lambda key, before, state, seen, outcome: (state, seen, change(state, outcome)))._replace(
        **declared
    )


def branching() -> Env:
    def branch(key, before, state, seen, outcome):
        if state.time > 3:
            return before, seen, outcome
        return state, seen, outcome

    return stepping(branch)


def with_numpy() -> Env:
    return paying(lambda state, outcome: outcome._replace(reward=jnp.float32(np.sum(np.sin(state.place)))))


def with_item() -> Env:
    return paying(lambda state, outcome: outcome._replace(reward=jnp.float32(float(state.place[0]))))


def with_list_index() -> Env:
    return paying(
        lambda state, outcome: outcome._replace(reward=jnp.float32([0.0, 1.0, 2.0, 3.0, 4.0][state.place[0]]))
    )


def with_mask() -> Env:
    return paying(lambda state, outcome: outcome._replace(reward=jnp.float32(state.place[state.place > 1].sum())))


def raising() -> Env:
    def step(key, state, action):
        raise KeyError("no such unit")

    return WALK._replace(step=step)


def growing_state() -> Env:
    def step_more(key, before, action):
        walk, *more = before if isinstance(before, list) else [before]
        state, seen, outcome = step(key, walk, action)
        return [state, *more, jnp.zeros(2)], seen, outcome

    return WALK._replace(step=step_more)


def widening_state() -> Env:
    def reset_more(key):
        state, seen = reset(key)
        return {"walk": state, "more": jnp.zeros(2)}, seen

    def step_more(key, before, action):
        state, seen, outcome = step(key, before["walk"], action)
        return {"walk": state, "more": jnp.zeros(3)}, seen, outcome

    return WALK._replace(reset=reset_more, step=step_more)


def wrong_under_vmap() -> Env:
    @jax.custom_batching.custom_vmap
    def pay(time):
        return time.astype(jnp.float32) / LIMIT / LIMIT

    @pay.def_vmap
    def pay_batch(axis_size, in_batched, time):
        return jnp.zeros(axis_size, jnp.float32), True

    return paying(lambda state, outcome: outcome._replace(reward=pay(state.time)))


def callback(draw: Callable, **options) -> Env:
    like = jax.ShapeDtypeStruct((), jnp.float32)

    def pay(state, outcome):
        # A pure_callback that depends on nothing may be called once and for all.
        return outcome._replace(reward=jax.pure_callback(draw, like, state.time, **options) / LIMIT)

    return paying(pay)


def drawing_in_python() -> Env:
    numbers = random.Random(0)
    return callback(lambda time: np.full(np.shape(time), numbers.random(), np.float32), vmap_method="expand_dims")


def drawing_while_tracing() -> Env:
    numbers = random.Random(0)

    @jax.jit  # What it has traced is kept, so that calling it again would not show anything.
    def windy(key, state, action):
        state, seen, outcome = step(key, state, action)
        return state, seen, outcome._replace(reward=jnp.float32(numbers.random() / LIMIT))

    return WALK._replace(step=windy)


def counting_calls() -> Env:
    calls = itertools.count()

    def reset_count(key):
        state, seen = reset(key)
        return state, seen._replace(obs=seen.obs + 0.01 * next(calls))

    return WALK._replace(reset=reset_count)


def keeping_a_tracer() -> Env:
    kept = []

    def step_with_memory(key, state, action):
        kept.append(state.time)
        following, seen, outcome = step(key, state, action)
        return following, seen, outcome._replace(reward=(following.time - kept[0]).astype(jnp.float32) / LIMIT)

    return WALK._replace(step=step_with_memory)


def without_actions(agent: int, time: int) -> Env:
    def change(key, before, state, seen, outcome):
        stuck = (jnp.arange(2) == agent)[:, None] & (state.time == time)
        return state, seen._replace(avail_actions=seen.avail_actions & ~stuck), outcome

    return stepping(change)


def restarting(how: Callable) -> Env:
    """Walk that returns the start of another episode with ``last``; ``how(key)`` makes the key of its reset."""

    def change(key, before, state, seen, outcome):
        fresh = reset(how(key))
        state, seen = jax.tree.map(lambda new, old: jnp.where(outcome.last, new, old), fresh, (state, seen))
        return state, seen, outcome

    return stepping(change)


def restarting_without_a_counter() -> Env:
    """Only sign of it: the end is what reset makes of a key split from the step's."""

    def reset_uncounted(key):
        state, seen = reset(key)
        return state.place, seen

    def step_uncounted(key, place, action):
        outcome = step(key, WalkState(jnp.int32(0), place), action)[2]
        outcome = outcome._replace(last=jnp.ones((), bool), discount=jnp.ones((), jnp.float32))
        return *reset_uncounted(jax.random.split(key)[1]), outcome

    return WALK._replace(reset=reset_uncounted, step=step_uncounted, episode_limit=1)


def cast(name: str, dtype: str) -> Env:
    """Walk, with one part of another type."""
    if name in TimeStep._fields:
        return seeing(lambda seen: seen._replace(**{name: getattr(seen, name).astype(dtype)}))
    return paying(lambda state, outcome: outcome._replace(**{name: getattr(outcome, name).astype(dtype)}))


NAN = jnp.float32(jnp.nan)
BROKEN: dict[str, tuple[str, Callable[[], Env], str]] = {
    "size": ("declared", lambda: WALK._replace(num_actions=0), "num_actions=0"),
    "size-kind": ("declared", lambda: WALK._replace(state_size=2.0), "state_size=2.0"),
    "bound": ("declared", lambda: WALK._replace(max_return=-1.0), "max_return=-1.0"),
    "if": ("jit", branching, "use jnp.where"),
    "numpy": ("jit", with_numpy, "use jax.numpy"),
    "item": ("jit", with_item, "int(), float(), .item()"),
    "list": ("jit", with_list_index, "index a jnp array"),
    "mask": ("jit", with_mask, "unknown number of elements"),
    "exception": ("jit", raising, "step fails: KeyError: 'no such unit' (test_check_env.py:"),
    "callback-exception": ("jit", lambda: callback(lambda time: 1 / 0, vmap_method="sequential"), "ZeroDivisionError"),
    "reset-returns": ("returns", lambda: WALK._replace(reset=lambda key: reset(key)[1]), "reset returns a TimeStep"),
    "gym-step": (
        "returns",
        lambda: WALK._replace(step=lambda key, state, action: (*step(key, state, action), {})),
        "step returns (WalkState, TimeStep, Outcome, dict)",
    ),
    "obs-shape": ("obs_type", lambda: WALK._replace(obs_size=3), "obs_size=3"),
    "agents": (
        "obs_type",
        lambda: seeing(lambda seen: seen._replace(obs=seen.obs[:1]), of="step"),
        "step returns float32[1,2], expected float32[2,2]",
    ),
    "avail-shape": ("avail_actions_type", lambda: WALK._replace(num_actions=4), "num_agents=2, num_actions=4"),
    "state-shape": (
        "state_type",
        lambda: WALK._replace(state_size=4),
        "reset and step return float32[2], expected float32[4]",
    ),
    "reward-each": (
        "reward_type",
        lambda: paying(lambda state, outcome: outcome._replace(reward=jnp.full(2, outcome.reward))),
        "step returns a reward for each agent, float32[2], and the team needs one; return their sum, or say how to "
        "combine them: +env.reward=sum|mean|first",
    ),
    "reward-shape": (
        "reward_type",
        lambda: paying(lambda state, outcome: outcome._replace(reward=outcome.reward[None])),
        "step returns float32[1], expected float32[]; return one number",
    ),
    "discount-shape": (
        "discount_type",
        lambda: paying(lambda state, outcome: outcome._replace(discount=jnp.full(2, outcome.discount))),
        "step returns float32[2]",
    ),
    "last-shape": (
        "last_type",
        lambda: paying(lambda state, outcome: outcome._replace(last=jnp.full(2, outcome.last))),
        "step returns bool[2]",
    ),
    "won-shape": (
        "won_type",
        lambda: paying(lambda state, outcome: outcome._replace(won=jnp.full(3, outcome.won))),
        "step returns bool[3]",
    ),
    "state-widens": ("env_state_type", widening_state, "env_state['more'] is float32[2] after reset and float32[3]"),
    "state-grows": ("env_state_type", growing_state, "it changes with every step"),
    "callback": ("vmap", lambda: callback(np.float32), "under vmap fails"),
    "vmap-rule": ("vmap", wrong_under_vmap, "reward after transition 1 differs between a batch"),
    "python-random": ("repeatable", drawing_in_python, "reward differs after transition 1"),
    "jit-random": ("pure", drawing_while_tracing, "traced a second time, reward differs"),
    "attribute": ("pure", counting_calls, "obs differs after reset"),
    "tracer": ("pure", keeping_a_tracer, "keep everything that changes in env_state"),
    "stuck-end": ("available", lambda: without_actions(agent=0, time=LIMIT), f"first after transition {LIMIT}"),
    "obs-nan": (
        "finite",
        lambda: seeing(lambda seen: seen._replace(obs=seen.obs.at[0, 0].set(jnp.nan)), of="reset"),
        f"obs is not finite in {EPISODES} of {EPISODES} episodes, first after reset",
    ),
    "state-inf": (
        "finite",
        lambda: seeing(lambda seen: seen._replace(state=1 / (seen.state - seen.state))),
        "state is not finite",
    ),
    "reward-nan": (
        "finite",
        lambda: paying(lambda state, outcome: outcome._replace(reward=jnp.where(state.time == 2, NAN, 0.0))),
        "reward is not finite in",
    ),
    "discount-nan": (
        "discount",
        lambda: paying(lambda state, outcome: outcome._replace(discount=outcome.discount * NAN)),
        "discount is nan in",
    ),
    "discount-early": (
        "discount",
        lambda: paying(
            lambda state, outcome: outcome._replace(discount=jnp.where(state.time < 2, 0.0, outcome.discount))
        ),
        "without last",
    ),
    "endless": (
        "episode_limit",
        lambda: paying(lambda state, outcome: outcome._replace(last=outcome.won)),
        f"episodes are not over after {LIMIT} transitions",
    ),
    "limit": ("episode_limit", lambda: WALK._replace(episode_limit=LIMIT - 1), "declare a larger limit"),
    "won": ("win_rate", lambda: WALK._replace(has_win_rate=False), "declare has_win_rate=True"),
    "return": (
        "max_return",
        lambda: paying(lambda state, outcome: outcome._replace(reward=jnp.float32(-1.0))),
        f"is {LIMIT}, above max_return=1",
    ),
    "restart": ("no_reset", lambda: restarting(lambda key: jax.random.fold_in(key, 7)), "start of another episode"),
    "restart-split": ("no_reset", restarting_without_a_counter, "the caller resets"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_named_by_its_own_check_in_one_line(name):
    check, make, words = BROKEN[name]
    findings = checked(make())
    assert results(findings)["broken"] == [check], findings
    found = words_of(findings, check)
    assert words in found
    assert "\n" not in found
    assert "; " in found, "no word on what to do"


def test_every_promise_can_be_broken():
    assert {check for check, _, _ in BROKEN.values()} == PROMISES.keys() - {"time_limit", "scale"}


# Good environments, and what is only worth a warning


MENDED: dict[str, tuple[str, Callable[[], Env], str]] = {
    "obs-uint8": ("obs_type", lambda: cast("obs", "uint8"), "obs is uint8 and cast to float32"),
    "obs-int32": ("obs_type", lambda: cast("obs", "int32"), "obs is int32 and cast to float32"),
    "obs-float16": ("obs_type", lambda: cast("obs", "float16"), "obs is float16 and cast to float32"),
    "avail": ("avail_actions_type", lambda: cast("avail_actions", "int32"), "avail_actions is int32 and cast to bool"),
    "state": ("state_type", lambda: cast("state", "int32"), "state is int32 and cast to float32"),
    "reward": ("reward_type", lambda: cast("reward", "int32"), "reward is int32 and cast to float32"),
    "discount": ("discount_type", lambda: cast("discount", "bool"), "discount is bool and cast to float32"),
    "last": ("last_type", lambda: cast("last", "float32"), "last is float32 and cast to bool"),
    "won": ("won_type", lambda: cast("won", "int32"), "won is int32 and cast to bool"),
    "no-state": (
        "state_type",
        lambda: seeing(lambda seen: seen._replace(state=None))._replace(state_size=0),
        "it has no state: the observations of all agents in a row are used",
    ),
    "undeclared-state": (
        "declared",
        lambda: WALK._replace(state_size=0),
        "state_size=0: the state has 2 numbers, which is used",
    ),
}


@pytest.mark.parametrize("name", MENDED)
def test_what_training_puts_right_by_itself_is_a_warning_and_trained_in(name):
    check, make, words = MENDED[name]
    findings = checked(make(), make(), time_limit="bootstrap")
    assert all_ok(findings, but=check), findings
    assert words_of(findings, check) == f"{words}; training does this by itself"
    as_env(make())  # raises where training would not


def all_ok(findings: list[Finding], but: str | None = None) -> bool:
    return all(finding.result == ("warning" if finding.check == but else "ok") for finding in findings)


def test_a_good_environment_keeps_every_promise():
    findings = checked(WALK, WALK, time_limit="bootstrap")
    assert [finding.check for finding in findings] == list(PROMISES)
    assert all_ok(findings), findings


def with_discount(at_limit: float, early: float) -> Env:
    def change(state, outcome):
        discount = jnp.where(state.time >= LIMIT, at_limit, early).astype(jnp.float32)
        return outcome._replace(discount=jnp.where(outcome.last, discount, 1.0), won=outcome.last & False)

    return paying(change)


@pytest.mark.parametrize(
    ("env", "time_limit", "check", "result"),
    [
        (with_discount(0.0, 0.0), None, "time_limit", "warning"),
        (with_discount(0.0, 0.0), "bootstrap", "time_limit", "broken"),
        (with_discount(1.0, 0.0), "terminal", "time_limit", "broken"),
        (with_discount(1.0, 1.0), None, "discount", "warning"),
        (with_discount(0.5, 0.0), None, "discount", "warning"),
        (seeing(lambda seen: seen._replace(obs=seen.obs * 100)), None, "scale", "warning"),
    ],
)
def test_what_only_the_user_can_know_is_a_warning(env, time_limit, check, result):
    """With 30 episodes some end early, so that both kinds of end are seen."""
    findings = check_contract(env, episodes=30, time_limit=time_limit)
    assert {finding.check: finding.result for finding in findings if finding.result != "ok"} == {check: result}


def test_scale_says_how_large():
    assert words_of(checked(seeing(lambda seen: seen._replace(state=seen.state * 100))), "scale").startswith(
        "|state| is up to "
    )


def test_a_flag_and_a_return_to_the_start_are_no_restart():
    """Two rounds. The observation marks the second one; the end looks like the start, but the time differs."""

    def reset_round(key):
        return jnp.int32(0), see_round(jnp.int32(0))

    def see_round(time):
        second = (time == 1).astype(jnp.float32)
        return TimeStep(jnp.full((2, 1), second), jnp.ones((2, 3), bool), second[None])

    def step_round(key, time, action):
        last = time >= 1
        outcome = Outcome(jnp.float32(0.0), 1.0 - last.astype(jnp.float32), last, jnp.zeros((), bool))
        return time + 1, see_round(time + 1), outcome

    env = WALK._replace(reset=reset_round, step=step_round, obs_size=1, state_size=1, episode_limit=2)
    assert all_ok(checked(env, time_limit="terminal"))


def test_prng_keys_may_be_part_of_the_state():
    def reset_keyed(key):
        state, seen = reset(key)
        return (key, state), seen

    def step_keyed(key, before, action):
        state, seen, outcome = step(before[0], before[1], action)
        return (jax.random.fold_in(before[0], 1), state), seen, outcome

    assert all_ok(checked(WALK._replace(reset=reset_keyed, step=step_keyed)))


def test_a_factory_that_draws_is_found_by_making_it_twice():
    def make(payoff: float) -> Env:
        return paying(lambda state, outcome: outcome._replace(reward=jnp.float32(payoff / LIMIT)))

    findings = checked(make(0.5), make(0.25))
    assert results(findings)["broken"] == ["pure"]
    assert "made a second time with the same settings, reward differs" in words_of(findings, "pure")


def test_all_broken_promises_are_listed():
    env = paying(lambda state, outcome: outcome._replace(reward=NAN, discount=outcome.discount * 3))
    assert results(checked(env._replace(has_win_rate=False, obs_size=3)))["broken"] == [
        "obs_type",
        "finite",
        "discount",
        "win_rate",
    ]


def test_what_cannot_be_checked_is_not_called_good():
    found = results(checked(branching()))
    assert found["ok"] == ["declared"]
    assert found["not_checked"] == list(PROMISES)[2:]


def test_the_toy_environment_of_other_tests_breaks_no_promise():
    """What truly ends in it does so at the limit, and what is interrupted before: unusual enough for warnings."""
    found = results(checked(toy_env.make_toy()))
    assert found["warning"] == ["discount", "time_limit"]
    assert not found["broken"] + found["not_checked"]


# The command line


@pytest.fixture
def example_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "example_package"))


@pytest.fixture
def my_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of a user's, with JaxMARL's interface to be filled in."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "walk_of_mine", raising=False)
    return tmp_path / "walk_of_mine.py"


def lines(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, str]:
    """What the command prints, by name; each line is one name and one value."""
    if status:
        with pytest.raises(SystemExit) as ended:
            check_env.main(arguments)
        assert ended.value.code == status
    else:
        check_env.main(arguments)
    captured = capsys.readouterr()
    assert captured.err == ""
    return dict(line.split("=", 1) for line in captured.out.splitlines())


@pytest.mark.parametrize(
    "arguments",
    [
        ("env=two_step",),
        ("env=mpe", "env.task=simple_speaker_listener", "env.max_steps=4"),
        ("env=custom", "env._target_=example_envs.guess.Guess", "+env.length=3"),
    ],
    ids=lambda arguments: arguments[-1],
)
def test_the_environments_of_this_package_and_its_examples_pass(arguments, example_package, capsys):
    found = lines(capsys, *arguments, "episodes=4", "seed=3")
    assert all(found[name] == "ok" for name in PROMISES.keys() - {"time_limit"})
    assert found["time_limit"].startswith("warning: all 4 episodes" if "env=two_step" in arguments else "ok")
    assert found["ok"].endswith("broken=0 not_checked=0")
    assert "episode_limit=" in found["env"]


def test_a_broken_environment_ends_with_status_1_and_a_line_for_every_promise(my_package, capsys):
    my_package.write_text("from test_check_env import branching as make_env")
    found = lines(capsys, "env=custom", "env._target_=walk_of_mine.make_env", status=1)
    assert list(found)[2:-1] == list(PROMISES)
    assert found["jit"].startswith("broken: step fails: TracerBoolConversionError")
    assert "(test_check_env.py:" in found["jit"]


def test_an_environment_with_jaxmarls_interface_that_cannot_be_traced_is_broken_not_refused(
    my_package, example_package, capsys
):
    my_package.write_text(
        "from example_envs.guess import Guess\n\nclass Branching(Guess):\n    def reset(self, key):\n"
        "        obs, state = super().reset(key)\n        return (obs, state) if state.secret else (obs, state)\n"
    )
    found = lines(capsys, "env=custom", "env._target_=walk_of_mine.Branching", status=1)
    assert found["env"] == "not_made"
    assert "reset fails: TracerBoolConversionError" in found["jit"]
    assert "(walk_of_mine.py:6)" in found["jit"]


@pytest.mark.parametrize(("reward", "status"), [("sum", 0), (None, 1)])
def test_a_reward_for_each_agent_is_combined_as_for_training(reward, status, my_package, capsys):
    my_package.write_text(
        "from test_check_env import WALK, paying\nimport jax.numpy as jnp\n\n"
        "def make_env():\n    return paying(lambda state, outcome: outcome._replace(\n"
        "        reward=jnp.stack([outcome.reward, jnp.zeros(())])))\n"
    )
    arguments = [] if reward is None else [f"+env.reward={reward}"]
    found = lines(capsys, "env=custom", "env._target_=walk_of_mine.make_env", *arguments, "episodes=4", status=status)
    assert (found["reward_type"] == "ok") == (status == 0)


def test_a_reset_inside_the_adapter_is_found(my_package, example_package, capsys):
    """The adapter keeps counting, but the inner state restarts."""
    my_package.write_text(
        "import jax\nimport jax.numpy as jnp\nfrom example_envs.guess import Guess\n\nclass Restarting(Guess):\n"
        "    def step_env(self, key, state, actions):\n"
        "        obs, state, rewards, dones, info = super().step_env(key, state, actions)\n"
        "        fresh = self.reset(jax.random.fold_in(key, 7))\n"
        "        obs, state = jax.tree.map(lambda x, y: jnp.where(dones['__all__'], x, y), fresh, (obs, state))\n"
        "        return obs, state, rewards, dones, info\n"
    )
    found = lines(capsys, "env=custom", "env._target_=walk_of_mine.Restarting", "episodes=4", status=1)
    assert [name for name, value in found.items() if value.startswith("broken")] == ["no_reset"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["env=two_steps"], "did you mean 'two_step'?"),
        (["env=two_step", "episode=3"], "episode=3: unknown key; did you mean episodes?"),
        (["env=two_step", "num_seeds=3"], "num_seeds=3: unknown key; did you mean seed?"),
        (["env=two_step", "episodes=1"], "episodes=1: must be at least 2"),
        (["env=two_step", "episodes=many"], "episodes=many: must be a whole number"),
        (["env=two_step", "seed=-1"], "seed=-1: must be at least 0"),
        (["two_step"], "must look like key=value"),
        (["env=smax", "env.scenario=4m"], "env.scenario=4m"),
        (["env=two_step", "+env.size=3"], "env.size=3: unknown"),
        (["env=custom"], "env._target_: missing"),
        (["env=custom", "env._target_=no_such_module.make"], "cannot import no_such_module"),
        (["env=two_step,mpe"], "one at a time"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_settings_that_cannot_be_used_end_with_status_2_and_one_line(arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        check_env.main(arguments)
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert len(message.splitlines()) == 1
    assert words in message


def test_the_environment_is_chosen_as_for_training():
    settings, env = check_env.parse(["experiment=smax_3m", "env.max_steps=5", "episodes=7"])
    assert settings.episodes == 7
    assert env["_target_"] == "qmix_jax.envs.smax.make_smax"
    assert (env["scenario"], env["max_steps"]) == ("3m", 5)


def test_a_terminal_gets_a_table():
    findings = [
        Finding("jit", "ok"),
        Finding("finite", "broken", "obs [0] is not finite; look"),
        Finding("scale", "warning", "large; scale"),
        Finding("vmap", "not_checked", "because"),
    ]
    console = Console(file=io.StringIO(), force_terminal=True, width=160, _environ={"TERM": "xterm"})
    check_env.show(ConsoleSink(console), check_env.Report(WALK, findings))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())  # type: ignore[attr-defined]
    for words in ("walk num_agents=2", PROMISES["jit"], "obs [0] is not finite; look", "not checked", "1 broken"):
        assert words in shown


def test_help_names_every_check(capsys):
    check_env.main(["--help"])
    shown = capsys.readouterr().out
    for name, promise in PROMISES.items():
        assert f"{name:<20}{promise}" in shown


def test_settings_files_of_one_s_own_are_found(tmp_path):
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "my_game.yaml").write_text("_target_: qmix_jax.envs.two_step.make_two_step\n")
    settings, env = check_env.parse(["episodes=4", "--config-dir", str(tmp_path), "env=my_game"])
    assert (settings.episodes, env["_target_"]) == (4, "qmix_jax.envs.two_step.make_two_step")
    assert check_env.parse([f"--config-dir={tmp_path}", "env=my_game"])[1] == env
    with pytest.raises(ConfigError, match="--multirun: an option of the command line"):
        check_env.parse(["--multirun", "env=two_step"])
