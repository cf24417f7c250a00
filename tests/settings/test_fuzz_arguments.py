"""Any arguments whatever: a run that could start, or one line. Never a stack trace, never an exit of Hydra's own.

The suite draws a few; ``FUZZ_EXAMPLES=500 python -m pytest tests/settings/test_fuzz_arguments.py`` draws more.
"""

import os

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qmix_jax.errors import ConfigError
from qmix_jax.settings.command_line import _known_keys, check, for_hydra
from qmix_jax.settings.groups import choices, group_names

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "25"))
KEYS = sorted(_known_keys((), None) | set(group_names()))
ODD = [
    "",
    "null",
    "true",
    "1e5",
    "-1",
    "nan",
    ".inf",
    "1,2",
    "[1,2",
    "{a:1}",
    "${gamma}",
    "${",
    "???",
    "'",
    '"',
    "a b",
    "=",
    "~/x",
]
ODD += [
    "a#b",
    "läufe",
    "\\",
    "\n",
    "range(1,3)",
    "choice(1,2)",
    "shuffle(1,2)",
    "int(3)",
    "1M",
    "[]",
    "{}",
    "@",
    "os.system",
]
FLAGS = [
    "-m",
    "--multirun",
    "--cfg",
    "--cfg=job",
    "--resolve",
    "--info",
    "-s",
    "--config-dir",
    "--config-dir=/nope",
    "--",
    "-h",
]

keys = st.one_of(st.sampled_from(KEYS), st.text(max_size=6))
values = st.one_of(
    st.sampled_from(ODD),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6),
    st.floats().map(str),
    st.integers().map(str),
    st.sampled_from([choice for group in group_names() for choice in choices(group)]),
)
prefixes = st.sampled_from(["", "", "", "", "+", "++", "~"])
arguments = st.one_of(
    st.tuples(prefixes, keys, st.just("="), values).map("".join),
    st.tuples(prefixes, keys, st.just("="), values).map("".join),
    st.one_of(values, keys, st.sampled_from(FLAGS)),
)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow], derandomize=EXAMPLES <= 25)
@given(st.lists(arguments, min_size=1, max_size=4))
@example(["+seed=3"])
@example(["gamma=0.9,range(1,3)", "-m"])
@example(["run_dir=a${b"])
@example(["~agent=0"])
def test_any_arguments_start_or_are_refused_in_one_line(given_arguments):
    try:
        check(given_arguments)
        for_hydra(given_arguments)
    except ConfigError as error:
        message = str(error)
        assert message
        assert message.isprintable()
