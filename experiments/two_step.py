"""The two-step game: greedy returns of 20 seeds, and learned joint values compared with the published ones.

``python experiments/two_step.py [ALGORITHM ...]`` trains IQL, VDN, QMIX and the paper's ablations (or the named
algorithms) with ``experiment=two_step_game`` and writes ``experiments/results/two_step/{results.json,values.png}``.
What was recorded of others before stays.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from script import checked, start

from qmix_jax import make_algorithm
from qmix_jax.algorithms.base import Algorithm
from qmix_jax.learning.values import joint_values as mixed_values
from qmix_jax.learning.values import mixer_inputs
from qmix_jax.logging.files import write_json
from qmix_jax.networks.agents import NO_ACTION, unroll
from qmix_jax.running.waves import Waves
from qmix_jax.types import HyperParams, Params, TimeStep

OUT = Path(__file__).parent / "results" / "two_step"
SEEDS, EPISODES = 20, 5000
STATES = ("first", "2A", "2B")
PUBLISHED = {  # Rashid et al. 2018, table 1 of appendix B and figure 3
    "vdn": {
        "first": [[6.94, 6.94], [6.35, 6.36]],
        "2A": [[6.99, 7.02], [6.99, 7.02]],
        "2B": [[-1.87, 2.31], [2.33, 6.51]],
    },
    "qmix": {"first": [[6.93, 6.93], [7.92, 7.92]], "2A": [[7.0, 7.0], [7.0, 7.0]], "2B": [[0.0, 1.0], [1.0, 8.0]]},
}
OWN = {"qmix": ["mixer.hypernet_layers=1"]}  # as in the paper
PUBLISHED_RETURN = {"iql": 7.0, "vdn": 7.0, "vdn_s": 7.0, "qmix": 8.0, "qmix_lin": 7.0, "qmix_ns": 8.0}


def main(*names: str) -> None:
    """Train, print, save."""
    checked("algorithm", names, PUBLISHED_RETURN)
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    results: dict[str, Any] = {}
    for name in names or PUBLISHED_RETURN:
        algorithm, hyper = make_algorithm(["experiment=two_step_game", f"algorithm={name}", *OWN.get(name, [])])
        started = time.monotonic()
        returns, params = train_seeds(algorithm, hyper)
        result = {"greedy_return": returns, "published_return": PUBLISHED_RETURN[name]}
        tables = None
        if name != "iql":
            tables = jax.vmap(lambda p, a=algorithm: joint_values(a, p))(params)
            tables = jax.tree.map(np.asarray, tables)
            result["values"] = {s: tables[s].mean(axis=0) for s in STATES}
        if name in PUBLISHED and tables is not None:
            result["published_values"] = PUBLISHED[name]
            result["largest_error_of_mean"] = max(
                float(np.abs(result["values"][s] - np.array(PUBLISHED[name][s])).max()) for s in STATES
            )
            result["largest_error_of_each_seed"] = np.max(
                [np.abs(tables[s] - np.array(PUBLISHED[name][s])).max(axis=(1, 2)) for s in STATES], axis=0
            )
        result["seconds"] = time.monotonic() - started
        results[name] = result
        print(f"{name}: greedy returns {np.asarray(returns).tolist()} in {result['seconds']:.0f} s", flush=True)
        for state, table in result.get("values", {}).items():
            published = f" published {PUBLISHED[name][state]}" if name in PUBLISHED else ""
            print(f"  {state}: {np.round(table, 2).tolist()}{published}", flush=True)
    save(results)


def save(results: dict[str, Any]) -> None:
    """Write numbers and figure, together with what was recorded before of other algorithms."""
    path = OUT / "results.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    both = before | results
    OUT.mkdir(parents=True, exist_ok=True)
    write_json(path, {name: both[name] for name in PUBLISHED_RETURN if name in both})
    draw(both, OUT / "values.png")


def train_seeds(algorithm: Algorithm, hyper: HyperParams) -> tuple[np.ndarray, Params]:
    """Final greedy return [seeds] and final parameters of seeds 0 to 19."""
    waves = Waves(algorithm, hyper, list(range(SEEDS)))
    waves.compile()
    metrics = waves.epoch()
    while metrics["env_steps"].min() < 2 * EPISODES:
        metrics = waves.epoch()
    return metrics["eval_return"], waves.online()


def joint_values(algorithm: Algorithm, params: Params) -> dict[str, jax.Array]:
    """``q_tot`` of every joint action, [2, 2], in the first state and in the two that can follow.

    The second state's values depend on the first joint action through the agents' hidden states. They are averaged over
    the second agent's first action, which does not change the state.
    """
    env, key = algorithm.env, jax.random.key(0)
    env_state, first = env.reset(key)
    values: dict[str, jax.Array] = {"2A": jnp.zeros((2, 2)), "2B": jnp.zeros((2, 2))}
    for mine, other in np.ndindex(2, 2):
        action = jnp.array([mine, other], jnp.int32)
        _, second, _ = env.step(key, env_state, action)
        q = unroll(
            algorithm.agent,
            params.agent,
            jnp.stack([first.obs, second.obs]),
            jnp.stack([jnp.full_like(action, NO_ACTION), action]),
            jnp.array([True, False]),
        )
        tables = [
            jnp.array([[mix(algorithm, params, q[t], (i, j), step.state) for j in range(2)] for i in range(2)])
            for t, step in enumerate((first, second))
        ]
        values["first"] = tables[0]
        state = STATES[1 + mine]
        values[state] = values[state] + tables[1] / 2
    return values


def mix(algorithm: Algorithm, params: Params, q: jax.Array, action: tuple[int, int], state: jax.Array) -> jax.Array:
    """``q_tot`` of one joint action."""
    step = TimeStep(
        obs=jnp.zeros((1, 1, 2, 1)), avail_actions=jnp.ones((1, 1, *q.shape), bool), state=state[None, None]
    )
    inputs = mixer_inputs(q[None, None], jnp.array(action)[None, None], step)
    return mixed_values(algorithm.mixer, params.mixer, inputs)[0, 0]


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw the learned tables, with the published ones below if there are any."""
    rows = [(name, kind) for name in results for kind in ("values", "published_values") if kind in results[name]]
    if not rows:  # IQL has no joint values
        return
    figure = Figure(figsize=(7.5, 2.1 * len(rows)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for row, (name, kind) in enumerate(rows):
        for column, state in enumerate(STATES):
            axes = figure.add_subplot(len(rows), len(STATES), row * len(STATES) + column + 1)
            table = np.asarray(results[name][kind][state])
            axes.imshow(table, cmap="viridis", vmin=-2, vmax=8)
            for (i, j), value in np.ndenumerate(table):
                axes.text(
                    j, i, f"{value:.2f}", ha="center", va="center", color="white" if value < 5 else "black", fontsize=13
                )
            axes.set_xticks([0, 1], ["A", "B"])
            axes.set_yticks([0, 1], ["A", "B"])
            axes.set_title(
                f"{name.upper()}, {'learned' if kind == 'values' else 'published'}, state {state}", fontsize=10
            )
    figure.suptitle("Two-step game: joint values (rows agent 1, columns agent 2)", x=0.01, ha="left", fontweight="bold")
    figure.savefig(path)


if __name__ == "__main__":
    start(__doc__, main)
