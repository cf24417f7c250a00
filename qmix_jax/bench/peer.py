"""Translate settings for JaxMARL's ``qmix_rnn.py``, and measure it and ours, alternating."""

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qmix_jax.bench.process import Process, worker_command
from qmix_jax.bench.spread import alternate, ratio, spread
from qmix_jax.envs.jaxmarl import SMAX_SCENARIOS
from qmix_jax.errors import ConfigError, require
from qmix_jax.settings.config import Config

FILE = Path("baselines/QLearning/qmix_rnn.py")
DRIVER = Path(__file__).with_name("jaxmarl_driver.py")


def peer_file(checkout: str) -> Path:
    """The peer's program in a checkout.

    Raises :class:`ConfigError` if it is missing.
    """
    path = Path(checkout) / FILE
    require(path.is_file(), "bench.peer", checkout, f"a checkout of JaxMARL, with {FILE}")
    return path


def peer_config(config: Config, length: int, num_seeds: int, env_steps: int) -> dict[str, Any]:
    """JaxMARL's configuration for the sizes and schedules of ``config``; ``length`` counts slots, one more than steps.

    Raises :class:`ConfigError` for settings without an equivalent in the peer.
    """
    agent, mixer = config.parts["agent"], config.parts["mixer"]
    _only(
        str(agent["_target_"]).endswith(".RecurrentAgent") and agent.get("shared", True), "agent=gru agent.shared=true"
    )
    _only(str(mixer["_target_"]).endswith(".QMIXMixer"), "mixer=qmix")
    _only(mixer.get("hypernet_layers") == 2, "mixer.hypernet_layers=2 (and its mixer.hypernet_size)")
    _only(config.exploration.level == "epsilon", "exploration=epsilon_greedy")
    _only(config.replay.priority is None, "replay=uniform")
    _only(config.target.update == "hard" and config.target.update_unit == "updates", "target.update=hard")
    rollout, steps = config.rollout, rollout_steps(config, length)
    updates = config.learner.updates_per_iteration
    return {
        **_peer_env(config.parts["env"]),
        "TOTAL_TIMESTEPS": math.ceil(env_steps / steps) * steps,
        "NUM_ENVS": rollout.num_envs,
        "NUM_STEPS": length - 1,
        "BUFFER_SIZE": config.replay.sequences(config.rollout.num_envs),
        "BUFFER_BATCH_SIZE": config.replay.batch_size,
        "HIDDEN_SIZE": agent.get("hidden_size", 64),
        "MIXER_EMBEDDING_DIM": mixer.get("embed_size", 32),
        "MIXER_HYPERNET_HIDDEN_DIM": mixer.get("hypernet_size", 64),
        "MIXER_INIT_SCALE": 0.001,
        "EPS_START": config.exploration.start,
        "EPS_FINISH": config.exploration.end,
        "EPS_DECAY": min(1.0, max(config.exploration.steps(config.total_env_steps), 1) / env_steps),
        "MAX_GRAD_NORM": config.learner.max_grad_norm or 1e9,
        # The peer counts iterations, not updates.
        "TARGET_UPDATE_INTERVAL": max(1, round(config.target.update_interval / updates)),
        "TAU": 1.0,
        "NUM_EPOCHS": updates,
        "LR": config.optimizer.learning_rate,
        "LR_LINEAR_DECAY": config.optimizer.learning_rate_end is not None,
        "LEARNING_STARTS": config.learner.warmup_env_steps,
        "GAMMA": config.gamma,
        "REW_SCALE": config.reward.scale,
        "TEST_DURING_TRAINING": False,
        "TEST_INTERVAL": 1.0,
        "TEST_NUM_STEPS": length - 1,
        "TEST_NUM_ENVS": 1,
        "WANDB_MODE": "disabled",
        "NUM_SEEDS": num_seeds,
    }


def rollout_steps(config: Config, length: int) -> int:
    """Steps of all environments in one iteration."""
    return config.rollout.num_envs * (length - 1)


def compare(
    config: Config,
    arguments: Sequence[str],
    length: int,
    *,
    checkout: str,
    python: str | None,
    seeds: int,
    env_steps: int,
    repetitions: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Measure ours and the peer's, alternating, ``repetitions`` times; runs start anew and do not evaluate."""
    settings = peer_config(config, length, seeds, env_steps)
    path = peer_file(checkout)
    peer_command = [python or sys.executable, "-P", str(DRIVER), str(path), json.dumps(settings)]
    peer_env = {"PYTHONPATH": str(Path(checkout).resolve()), "WANDB_MODE": "disabled"}
    say(f"{seeds} seed(s): compiling ours, then the peer's")
    ours_command = worker_command(arguments, seeds, env_steps, warm_up=True)
    with Process(ours_command) as ours, Process(peer_command, peer_env) as peer:
        say(f"{seeds} seed(s): running both, alternating, {repetitions} times")
        alternate({"ours": ours.env_steps_per_second, "peer": peer.env_steps_per_second}, repetitions)
        both = {name: summary(process.compiled, process.runs) for name, process in (("ours", ours), ("peer", peer))}
        return {"seeds": seeds, "peer_settings": settings, **both, "ratios": ratios(ours, peer)}


def summary(compiled: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The measurements of one process."""
    return {
        **compiled,
        "env_steps_per_second": spread([run["env_steps"] / run["seconds"] for run in runs])._asdict(),
        "updates_per_second": spread([run["updates"] / run["seconds"] for run in runs])._asdict(),
        "env_steps": runs[0]["env_steps"],
        "updates": runs[0]["updates"],
        "seconds": [run["seconds"] for run in runs],
        "peak_rss_bytes": max(run["peak_rss_bytes"] for run in runs),
    }


def ratios(ours: Process, peer: Process) -> dict[str, Any]:
    """Ours over the peer's: the spread of speed ratios per round, and one number for each of the rest."""

    def rates(process: Process, what: str) -> list[float]:
        return [run[what] / run["seconds"] for run in process.runs]

    def start(process: Process) -> float:
        return process.compiled["trace_seconds"] + process.compiled["compile_seconds"]

    def peak(process: Process) -> float:
        return max(run["peak_rss_bytes"] for run in process.runs)

    bytes_per_step = [process.compiled["replay_bytes"]["per_step"] for process in (ours, peer)]
    return {
        "env_steps_per_second": ratio(rates(ours, "env_steps"), rates(peer, "env_steps"))._asdict(),
        "trace_and_compile_seconds": start(ours) / start(peer),
        "replay_bytes_per_step": bytes_per_step[0] / bytes_per_step[1],
        "peak_rss_bytes": peak(ours) / peak(peer),
    }


def _peer_env(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The environment's name and settings under JaxMARL's names."""
    given = {key: value for key, value in settings.items() if value is not None}
    target = given.pop("_target_")
    for name in ("time_limit", "reward"):  # the peer's treatment of both is built in
        given.pop(name, None)
    if target in ("qmix_jax.envs.jaxmarl.make_smax", "qmix_jax.envs.smax.make_smax"):
        return {"ENV_NAME": "HeuristicEnemySMAX", **_peer_battle(given)}
    if target == "qmix_jax.envs.jaxmarl.make_mpe":
        task = given.pop("task", "simple_spread")
        version = 4 if task == "simple_speaker_listener" else 3
        return {"ENV_NAME": f"MPE_{task}_v{version}", "ENV_KWARGS": given}
    raise ConfigError(f"env._target_={target}: bench.peer compares on env=smax and env=mpe only")


def _peer_battle(given: dict[str, Any]) -> dict[str, Any]:
    """The map, and what JaxMARL's constructor takes: it knows nothing of our other physics, maps and walls."""
    scenario, physics = given.pop("scenario", "3m"), given.pop("physics", "smax")
    given.pop("terrain", None)  # none of its maps has walls
    own = next((name for name in ("allies", "enemies") if name in given), None)
    if own is not None:
        raise ConfigError(f"env.{own}={given[own]}: JaxMARL has no such battle; compare on one of its env.scenario")
    if physics != "smax":
        raise ConfigError(f"env.physics={physics}: JaxMARL has its own only; compare with env.physics=smax")
    if scenario not in SMAX_SCENARIOS:
        raise ConfigError(f"env.scenario={scenario}: JaxMARL lacks it; compare on one of {', '.join(SMAX_SCENARIOS)}")
    return {"MAP_NAME": scenario, "ENV_KWARGS": given}


def _only(fits: bool, settings: str) -> None:
    if not fits:
        raise ConfigError(f"bench.peer: the peer has one kind of network and replay; compare with {settings}")
