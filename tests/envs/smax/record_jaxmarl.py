"""Record JaxMARL's SMAX for ``test_jaxmarl_parity.py``: python tests/envs/smax/record_jaxmarl.py [CASE ...]

Each case is ``WINDOWS`` stretches of ``LENGTH`` transitions: the state that one starts in, the keys and actions, and what
they led to. Stretches are short because collisions amplify the last bits of a float. Observations are kept as their
products with fixed vectors. It takes a quarter of an hour, most of it to compile JaxMARL's programs.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qmix_jax.envs import jaxmarl
from qmix_jax.envs.base import Env

FOLDER = Path(__file__).parents[2] / "golden" / "smax"
WINDOWS, LENGTH, PROJECTIONS = 40, 5, 4
VARIED = {
    "attack_mode": "random",
    "observation_type": "conic",
    "see_enemy_actions": False,
    "walls_cause_death": False,
    "won_battle_bonus": 3.0,
    "max_steps": 30,
    "time_limit": "bootstrap",
    "world_steps_per_env_step": 4,
}
CASES: dict[str, dict[str, Any]] = {
    **{scenario: {"scenario": scenario} for scenario in jaxmarl.SMAX_SCENARIOS},
    "varied": {"scenario": "3s5z_vs_3s6z", **VARIED},
    "peaceful": {"scenario": "5m_vs_6m", "enemy_shoots": False, "see_enemy_actions": False},
}


def project(values: Any, xp: Any = jnp) -> Any:
    """Products of the last axis with fixed vectors."""
    vectors = np.random.default_rng(values.shape[-1]).uniform(-1, 1, (values.shape[-1], PROJECTIONS))
    return xp.matmul(values, vectors.astype(np.float32))


def choose(key: jax.Array, avail: jax.Array, scripted: jax.Array) -> jax.Array:
    """Any available action; or, scripted, the first target in range, else a walk east."""
    shots = avail[:, 5:]
    by_chance = jax.random.categorical(key, jnp.where(avail, 0.0, -jnp.inf))
    by_script = jnp.where(shots.any(axis=1), 5 + jnp.argmax(shots, axis=1), jnp.where(avail[:, 1], 1, 4))
    return jnp.where(scripted, by_script, by_chance).astype(jnp.int32)


def window(env: Env, carry: Any, key: jax.Array, scripted: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
    """Play one stretch."""

    def transition(carry: Any, key: jax.Array) -> Any:
        env_state, step = carry
        act_key, env_key = jax.random.split(key)
        action = choose(act_key, step.avail_actions, scripted)
        env_state, step, outcome = env.step(env_key, env_state, action)
        return (env_state, step), {"key": jax.random.key_data(env_key), "action": action, **outcome._asdict()}

    start = describe(carry[0])
    carry, played = jax.lax.scan(transition, carry, jax.random.split(key, LENGTH))
    env_state, step = carry
    seen = {"obs": project(step.obs), "state": project(step.state), "avail": step.avail_actions}
    end = {f"end_{name}": value for name, value in describe(env_state).items()}
    return carry, {**start, **played, **end, **seen}


def describe(env_state: Any) -> dict[str, jax.Array]:
    """What our state needs of theirs."""
    state, mind = env_state.env_state.state, env_state.env_state.enemy_policy_state
    similarity = state.prev_movement_actions @ jnp.asarray([[0.0, 1, 0, -1], [1, 0, -1, 0]])
    stands = jnp.all(jnp.abs(state.prev_movement_actions) < 0.1, axis=1)
    move = jnp.where(stands, 4, jnp.argmax(similarity, axis=1))
    return {
        "position": state.unit_positions,
        "health": state.unit_health,
        "cooldown": jnp.maximum(state.unit_weapon_cooldowns, 0.0),
        "types": state.unit_types,
        "last_action": jnp.where(state.prev_attack_actions > 0, state.prev_attack_actions, move),
        "goal": mind.default_target,
        "chosen": mind.last_attacked_enemy,
        "played": env_state.played,
    }


def record(name: str) -> None:
    """Write one case's file."""
    env = jaxmarl.make_smax(**CASES[name])
    reset, play = jax.jit(env.reset), jax.jit(partial(window, env))
    carry, rows, episode = None, [], 0
    for number in range(WINDOWS):
        if carry is None:
            carry = reset(jax.random.key(episode))
            episode += 1
        carry, row = play(carry, jax.random.key(1000 + number), episode % 2 == 0)
        rows.append(jax.device_get(row))
        if row["last"].any():
            carry = None
    arrays = {field: np.stack([row[field] for row in rows]) for field in rows[0]}
    arrays |= {field: arrays[field].astype(np.int8) for field in ("chosen", "end_chosen")}
    small = {"types", "end_types", "action", "last_action", "end_last_action", "played", "end_played"}
    arrays = {field: value.astype(np.uint8) if field in small else value for field, value in arrays.items()}
    FOLDER.mkdir(exist_ok=True)
    np.savez_compressed(FOLDER / f"{name}.npz", **arrays)


if __name__ == "__main__":
    for case in sys.argv[1:] or CASES:
        with jax.numpy_rank_promotion("allow"):
            record(case)
        print(case, flush=True)
