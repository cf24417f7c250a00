"""Any settings whatever: a run that could start, or one line. Never a stack trace."""

import copy
import functools

import jax
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmix_jax.algorithms import loop as qmix
from qmix_jax.envs.build import make_env
from qmix_jax.errors import ConfigError
from qmix_jax.settings.build import build
from qmix_jax.settings.command_line import compose_config, conf_dir
from qmix_jax.settings.reading import parse, to_container

EXAMPLES = 500
ENVS = ("two_step", "climbing", "penalty")
GROUPS = ("algorithm", "mixer", "agent", "target", "replay", "optimizer")


@functools.cache
def composed(choices: tuple[str, ...]) -> dict:
    return to_container(compose_config(choices))


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def paths(tree: dict, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Sections as well as what is in them."""
    found = []
    for name, value in tree.items():
        found.append((*prefix, name))
        if isinstance(value, dict):
            found += paths(value, (*prefix, name))
    return found


# Few different ones, so that each is composed once.
choices = st.tuples(
    st.sampled_from([f"env={name}" for name in ENVS]),
    st.sampled_from(["", *(f"{group}={name}" for group in GROUPS for name in names(group))]),
).map(lambda pair: tuple(choice for choice in pair if choice))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([10**3, 10**6, 10**9, 10**12, 2**31, 2**63, -(10**9)]),
    st.floats(),
    st.floats(0, 1),
    st.text(max_size=5),
    st.sampled_from(["abs", "td_lambda", "os.system", "qmix_jax.mixers.vdn.VDNMixer", "../..", "1e5", "${gamma}"]),
)
values = st.one_of(
    scalars, st.lists(scalars, max_size=2), st.dictionaries(st.sampled_from(["a", "_target_", "alpha"]), scalars)
)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_settings_start_or_are_refused_in_one_line(data):
    tree = copy.deepcopy(composed(data.draw(choices)))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(paths(tree)))
        section = functools.reduce(lambda inner, name: inner[name], path[:-1], tree)
        match data.draw(st.sampled_from(["set", "set", "set", "delete", "add"])):
            case "set":
                section[path[-1]] = data.draw(values)
            case "delete":
                del section[path[-1]]
            case "add":
                section[data.draw(st.text(max_size=5))] = data.draw(values)
    try:
        config = parse(tree)
        algorithm, _ = build(config, make_env(config.parts["env"]))
        jax.eval_shape(lambda: qmix.init(algorithm, jax.random.key(config.seed)))
    except ConfigError as error:
        message = str(error)
        assert message
        assert message.isprintable()
