"""Win rates of random play and of two scripted teams: shoot the nearest, or whoever has least health left.

Usage: JAX_PLATFORMS=cpu python experiments/smax/balance.py [--episodes 512] [SCENARIO ...]
"""

import argparse

import jax
import jax.numpy as jnp

from qmix_jax.envs.base import Env
from qmix_jax.envs.smax import environment, make_smax
from qmix_jax.envs.smax.rules import MOVES, STOP, separations
from qmix_jax.envs.smax.scenarios import SMAC_SCENARIOS
from qmix_jax.envs.smax.slots import by_slot

POLICIES = ("random", "nearest", "focus")


def choose(settings, policy, key, state, step):
    """The joint action: random, or an attack where one is available, else a walk to the nearest living enemy."""
    rules, battle = settings.rules, state.battle
    stats = environment._stats(settings, state.types)
    x, y, distance = separations(battle.position)
    health = jnp.broadcast_to(battle.health[None, :], distance.shape)
    near, weak = by_slot(rules, stats, 0, distance, health)
    shots = step.avail_actions[:, MOVES:]
    # A healer heals who needs it most, whatever the others do.
    heals = stats.heals[: rules.num_allies][:, None]
    score = jnp.where((policy == POLICIES.index("focus")) | heals, weak, near)
    attack = MOVES + jnp.argmin(jnp.where(shots, score, jnp.inf), axis=1)
    allies = rules.num_allies
    foes = jnp.where(battle.health[None, allies:] > 0, distance[:allies, allies:], jnp.inf)
    nearest = jnp.argmin(foes, axis=1)[:, None] + allies
    x, y = (jnp.take_along_axis(axis[:allies], nearest, axis=1)[:, 0] for axis in (x, y))
    walk = jnp.where(jnp.abs(x) > jnp.abs(y), jnp.where(x > 0, 1, 3), jnp.where(y > 0, 0, 2))
    scripted = jnp.where(jnp.any(shots, axis=1), attack, jnp.where(step.avail_actions[:, 0], walk, STOP))
    by_chance = jax.random.categorical(key, jnp.where(step.avail_actions, 0.0, -jnp.inf))
    return jnp.where(policy == 0, by_chance, scripted).astype(jnp.int32)


def rates(env: Env, episodes: int) -> dict[str, tuple[float, float]]:
    """Win rate and mean return of each policy."""
    settings = env.step.args[0]  # pyright: ignore[reportFunctionMemberAccess]

    def episode(policy, key):
        reset_key, play_key = jax.random.split(key)

        def transition(carry, key):
            state, step, over, won, total = carry
            act_key, env_key = jax.random.split(key)
            state, step, outcome = env.step(env_key, state, choose(settings, policy, act_key, state, step))
            won |= outcome.won & ~over
            return (state, step, over | outcome.last, won, total + jnp.where(over, 0.0, outcome.reward)), None

        nothing = jnp.zeros((), bool)
        carry = (*env.reset(reset_key), nothing, nothing, jnp.zeros(()))
        (_, _, _, won, total), _ = jax.lax.scan(transition, carry, jax.random.split(play_key, env.episode_limit))
        return won, total

    play = jax.jit(lambda policy, keys: jax.lax.map(lambda key: episode(policy, key), keys, batch_size=32))
    keys = jax.random.split(jax.random.key(0), episodes)
    found = {name: play(jnp.asarray(number), keys) for number, name in enumerate(POLICIES)}
    return {name: (float(won.mean()), float(total.mean())) for name, (won, total) in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", default=tuple(SMAC_SCENARIOS))
    parser.add_argument("--episodes", type=int, default=512)
    settings = parser.parse_args()
    print("| scenario | " + " | ".join(POLICIES) + " |", flush=True)
    for scenario in settings.scenarios:
        found = rates(make_smax(scenario), settings.episodes)
        print(
            f"| {scenario} | " + " | ".join(f"{won:.2f} ({total:.2f})" for won, total in found.values()) + " |",
            flush=True,
        )


if __name__ == "__main__":
    main()
