"""What each algorithm finds in one-shot matrix games: ``python experiments/matrix_games.py [ALGORITHM ...]``.

Purely random behaviour (epsilon 1), 20 seeds, 5000 episodes (two_step: 2500), the settings of
``experiment=two_step_game`` with 16 hidden units and Adam; weighted QMIX with ``alpha`` 0.1
(OW-QMIX with another in two games), QPLEX with 10 heads of 3 layers and a rate of 2e-3, QTRAN with both weights 1.
Prints a Markdown table of the greedy payoffs and writes ``experiments/results/matrix_games/results.json``: payoffs, and
the mean and spread over seeds of the learned joint values. Games and algorithms that are already in that file are kept.

``python experiments/matrix_games.py try GAME ALGORITHM [key=value ...]`` trains other settings with seeds 100 to 119,
which the table does not use, and prints payoffs and joint values.
"""

import collections
import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from script import call_with, checked, start

from qmix_jax import make_algorithm
from qmix_jax.algorithms.base import Algorithm
from qmix_jax.algorithms.qtran import QTRAN, outputs_and_values, over_slots
from qmix_jax.algorithms.value_decomposition import mixed
from qmix_jax.learning.values import action_values
from qmix_jax.logging.files import write_json
from qmix_jax.running.waves import Waves
from qmix_jax.types import Slot

OUT = Path(__file__).parent / "results" / "matrix_games"
SEEDS, TRIED, EPISODES = range(20), range(100, 120), 5000
GAMES = {
    "qtran_game": (["env=qtran_game"], 8.0),
    "climbing": (["env=climbing"], 11.0),
    "penalty k=-100": (["env=penalty"], 10.0),
    "penalty k=0": (["env=penalty", "env.k=0"], 10.0),
    "two_step": (["env=two_step"], 8.0),
}
"""Arguments, and the best payoff."""
ALGORITHMS = ("iql", "vdn", "qmix", "cw_qmix", "ow_qmix", "qplex", "qtran", "qtran_alt")
OWN = {
    "qtran": ["algorithm.nopt_weight=1"],  # with 0.1 a few seeds choose one agent's action of each of two best ones
    "qtran_alt": ["algorithm.nopt_weight=1"],
    "qmix": ["mixer.hypernet_layers=1"],
    "cw_qmix": ["mixer.hypernet_layers=1", "algorithm.alpha=0.1", "algorithm.central_embed_size=64"],
    "ow_qmix": ["mixer.hypernet_layers=1", "algorithm.alpha=0.1", "algorithm.central_embed_size=64"],
    "qplex": [
        "mixer.attention_layers=3",
        "mixer.attention_size=32",
        "mixer.heads=10",
        "optimizer.learning_rate=2e-3",  # with 5e-4 its values are far from fitted after 5000 episodes
    ],
}
"""Arguments of an algorithm in all games."""
BY_GAME = {
    ("climbing", "ow_qmix"): ["algorithm.alpha=0.01", "mixer.init_scale=1"],
    ("penalty k=0", "ow_qmix"): ["algorithm.alpha=0.5"],
}
"""Arguments in one game, in place of those: no alpha is right for all of them."""


def main(*names: str) -> None:
    """Train, print, save."""
    if names[:1] == ("try",):
        call_with(try_settings, names[1:], "try ")
        return
    checked("algorithm", names, ALGORITHMS)
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    path = OUT / "results.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    OUT.mkdir(parents=True, exist_ok=True)
    for game in GAMES:
        for name in names or ALGORITHMS:
            if name not in results.setdefault(game, {}):
                results[game][name] = trained(name, game, SEEDS)
                write_json(path, results)
                print(f"{game}, {name}: {counted(results[game][name]['payoff'])}", flush=True)
    print("\n".join(table(results)))


def try_settings(game: str, algorithm: str, *settings: str) -> None:
    """Train with other settings, and print what comes of it."""
    checked("game", [game], GAMES)
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    result = trained(algorithm, game, TRIED, settings)
    print(f"{game}, {algorithm}, {' '.join(settings)}: {counted(result['payoff'])}\n{result.get('values')}")


def trained(name: str, game: str, seeds: Sequence[int], more: Sequence[str] = ()) -> dict[str, Any]:
    """Final greedy payoffs of all seeds, on how many it is the best, and the learned joint values.

    ``more`` are settings of a trial; they take the place of those of :data:`OWN` and :data:`BY_GAME` for the same keys.
    """
    arguments, best = GAMES[game]
    settings = [
        "experiment=two_step_game",
        "agent.hidden_size=16",
        "optimizer=adam",
        "optimizer.learning_rate_end=null",
    ]
    own: dict[str, str] = {}
    for argument in (*OWN.get(name, []), *BY_GAME.get((game, name), []), *more):
        own[argument.partition("=")[0]] = argument
    settings += [f"total_env_steps={EPISODES}", f"algorithm={name}", *arguments, *own.values()]
    if not any(setting.startswith("optimizer.learning_rate=") for setting in settings):
        settings.append("optimizer.learning_rate=5e-4")
    algorithm, hyper = make_algorithm(settings)
    started = time.monotonic()
    each = math.ceil(len(seeds) / jax.device_count())
    waves = Waves(algorithm, hyper, list(seeds), each)  # many small seeds at once
    waves.compile()
    metrics = waves.epoch()
    while metrics["env_steps"].min() < EPISODES:
        metrics = waves.epoch()
    payoff = np.asarray(metrics["eval_return"])
    result = {"payoff": payoff.tolist(), "optimal": int((payoff == best).sum()), "seconds": time.monotonic() - started}
    if name != "iql":
        tables = np.asarray(jax.jit(jax.vmap(lambda params: joint_table(algorithm, params)))(waves.online()))
        result |= {"values": tables.mean(axis=0).round(2).tolist(), "spread": tables.std(axis=0).round(2).tolist()}
    return result


def joint_table(algorithm: Algorithm, networks: Any) -> jax.Array:
    """The joint value of every joint action, ``[A, A]``: ``q_tot``, or of QTRAN the joint network's."""
    env = algorithm.env
    _, step = env.reset(jax.random.key(0))
    actions = jnp.stack(jnp.meshgrid(*[jnp.arange(env.num_actions)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    nothing = jnp.zeros(())
    batch: Slot = jax.tree.map(
        lambda x: jnp.broadcast_to(x[None, None], (1, len(actions), *x.shape)),
        Slot(step, jnp.zeros(2, jnp.int32), nothing, nothing, nothing, jnp.ones((), bool)),
    )
    action = actions[None].astype(jnp.int32)
    if isinstance(algorithm.method, QTRAN):
        hidden, _ = outputs_and_values(algorithm, networks.agent, batch, None)
        network = algorithm.method.network(algorithm, hidden.shape[-1])
        values = over_slots(network, networks.joint, batch.step.state, hidden, action, method="joint")
    else:
        q = action_values(algorithm.agent, networks.agent, batch, None)
        values = mixed(algorithm, networks, q, action, batch)
    return values.reshape(env.num_actions, env.num_actions)


def table(results: dict[str, Any]) -> list[str]:
    """Markdown: payoffs and on how many seeds, a row for each game."""
    names = [name for name in ALGORITHMS if all(name in results[game] for game in GAMES)]
    rows = [[game, *(counted(results[game][name]["payoff"]) for name in names)] for game in GAMES]
    lines = [["game", *names], ["---"] * (len(names) + 1), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def counted(returns: list[float]) -> str:
    """``11 (3), 7 (17)``: payoffs and on how many seeds."""
    counts = collections.Counter(np.round(returns, 1).tolist())
    return ", ".join(f"{value:g} ({count})" for value, count in sorted(counts.items(), reverse=True))


if __name__ == "__main__":
    start(__doc__, main)
