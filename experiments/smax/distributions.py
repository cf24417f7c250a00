"""Our SMAX and JaxMARL's under random play, noise included: do return, length and wins have the same distributions?

For each scenario: means, and the p-values of Kolmogorov-Smirnov tests (return, length) and of Fisher's exact test
(wins). Where nothing differs, a p-value is uniform or, with ties, larger: 1 of 20 tests gives less than 0.05.

Usage: JAX_PLATFORMS=cpu python experiments/smax/distributions.py [--episodes 4096] [SCENARIO ...]
"""

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from qmix_jax.envs.base import Env
from qmix_jax.envs.jaxmarl import make_smax as make_jaxmarls
from qmix_jax.envs.smax import make_smax
from qmix_jax.envs.smax.scenarios import find_scenario
from qmix_jax.settings.arguments import run_command

SCENARIOS = ("3m", "5m_vs_6m", "2s3z", "3s5z", "smacv2_5_units")
BATCH = 64


class Episodes(NamedTuple):
    """What came of some episodes."""

    total: Any
    length: Any
    won: Any


def player(env: Env) -> Callable:
    """A program that plays a batch of episodes by chance until all are over: ``(key) -> Episodes``."""

    def transition(carry):
        key, state, step, over, total, length, won = carry
        key, act_key, env_key = jax.random.split(key, 3)
        noise = jax.random.uniform(act_key, step.avail_actions.shape)
        action = jnp.argmax(jnp.where(step.avail_actions, noise, -1.0), axis=-1).astype(jnp.int32)
        state, step, outcome = jax.vmap(env.step)(jax.random.split(env_key, BATCH), state, action)
        total = total + jnp.where(over, 0.0, outcome.reward)
        length, won = length + ~over, won | (outcome.won & ~over)
        return key, state, step, over | outcome.last, total, length, won

    def play(key):
        reset_key, key = jax.random.split(key)
        state, step = jax.vmap(env.reset)(jax.random.split(reset_key, BATCH))
        nothing = jnp.zeros(BATCH, bool)
        carry = (key, state, step, nothing, jnp.zeros(BATCH), jnp.zeros(BATCH, jnp.int32), nothing)
        *_, total, length, won = jax.lax.while_loop(lambda carry: ~jnp.all(carry[3]), transition, carry)
        return Episodes(total, length, won)

    return jax.jit(play)


def episodes_of(env: Env, episodes: int, seed: int) -> Episodes:
    """At least this many episodes."""
    play = player(env)
    keys = jax.random.split(jax.random.key(seed), -(-episodes // BATCH))
    batches = [jax.device_get(play(key)) for key in keys]
    return Episodes(*(np.concatenate(column) for column in zip(*batches, strict=True)))


def pvalue(result: Any) -> float:
    """Of one of SciPy's tests, whose types do not say that there is one."""
    return float(result.pvalue)


def p_values(ours: Episodes, theirs: Episodes) -> dict[str, float]:
    """How likely differences like these are where there is none."""
    table = [[side.won.sum(), (~side.won).sum()] for side in (ours, theirs)]
    return {
        "return": pvalue(stats.ks_2samp(ours.total, theirs.total)),
        "length": pvalue(stats.ks_2samp(ours.length, theirs.length)),
        "wins": pvalue(stats.fisher_exact(table)),
    }


def row(scenario: str, episodes: int) -> str:
    """One scenario's line of the table."""
    sides = episodes_of(make_smax(scenario), episodes, 0), episodes_of(make_jaxmarls(scenario), episodes, 1)
    means = [
        f"{', '.join(f'{column.mean():.{digits}f}' for column in columns)}"
        for columns, digits in zip(zip(*sides, strict=True), (4, 2, 4), strict=True)
    ]
    values = [f"{value:.2g}" for value in p_values(*sides).values()]
    cells = [cell for pair in zip(means, values, strict=True) for cell in pair]
    return f"| {scenario} | {len(sides[0].won)} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", default=SCENARIOS)
    parser.add_argument("--episodes", type=int, default=4096)
    settings = parser.parse_args()
    run_command(__doc__ or "", settings.scenarios, lambda scenarios: print_table(scenarios, settings.episodes))


def print_table(scenarios: list[str], episodes: int) -> None:
    """All scenarios, line by line."""
    for scenario in scenarios:
        find_scenario(scenario)
    print("| scenario | episodes | return: ours, JaxMARL's | p | length | p | win rate | p |", flush=True)
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for scenario in scenarios:
        print(row(scenario, episodes), flush=True)


if __name__ == "__main__":
    main()
