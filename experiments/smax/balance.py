"""Win rates of random play and of six scripted teams.

``nearest`` shoots the nearest enemy, ``focus`` whoever has least health left of those that its weapon reaches, else the
nearest; both walk to the nearest enemy where no target is in range. ``kite`` is ``focus``, but units that outrange the
nearest enemy step back while they reload, and with SMAC's physics go out of range to rest while their shield is down,
for the first two thirds of the time. ``decoy`` is ``focus``, but who is an enemy's target and outranges it runs away,
and lets the others shoot. ``hide`` goes to a corner first, out of sight of most enemies, and is ``focus`` with those
that come there, and with the rest once the team is the larger one. ``spread`` keeps apart and waits there, so that one
blast hits one.

Usage: JAX_PLATFORMS=cpu python experiments/smax/balance.py [--episodes 512] [--physics smac] [SCENARIO ...]
"""

import argparse

import jax
import jax.numpy as jnp

from qmix_jax.envs.base import Env
from qmix_jax.envs.smax import environment, make_smax
from qmix_jax.envs.smax.rules import DIRECTIONS, MAP_SIZE, MOVES, STOP, TICK, separations
from qmix_jax.envs.smax.scenarios import SMAC_SCENARIOS
from qmix_jax.envs.smax.slots import by_slot
from qmix_jax.envs.smax.terrain import heading
from qmix_jax.settings.arguments import run_command

POLICIES = ("random", "nearest", "focus", "kite", "decoy", "hide", "spread")
RELOADS = 0.25
"""Seconds to the next shot from which on a unit has time to step back: half a transition."""
CLEAR, DECOY, EDGE = 1.0, 3.0, 1.5
"""How far outside an enemy's reach a unit that steps back, or a decoy, wants to be, and how far inside the map."""
FAR = 1e4
CORNER, CLOSE, ENOUGH = (12.0, 28.0), 1.5, 2.5
"""Where a hiding team goes, how far off in y it still walks north or south first, and how near is there."""
APART = 3.0
"""How far from each other units of a spread team want to be: more than a blast reaches."""


def choose(settings, policy, key, state, step):
    """The joint action: random, or an attack where one is available, else a walk to the nearest living enemy."""
    rules, battle, allies = settings.rules, state.battle, settings.rules.num_allies
    stats = environment._stats(settings, state.types)
    x, y, distance = separations(battle.position)
    health = battle.health if battle.shield is None else battle.health + battle.shield
    # With SMAC's physics a unit walks up to a target that it names from afar: past others, if that is the weakest one.
    radius, reach = jnp.asarray(stats.radius), jnp.asarray(stats.reach)[:, None]
    reach = reach + radius[:, None] + radius[None, :] if rules.smac else reach
    weakest = jnp.where((distance < reach) | stats.heals[:, None], health[None, :], FAR + distance)
    near, weak = by_slot(rules, stats, 0, distance, weakest)
    shots = step.avail_actions[:, MOVES:]
    # A healer heals who needs it most, whatever the others do.
    heals = stats.heals[:allies][:, None]
    score = jnp.where((policy >= POLICIES.index("focus")) | heals, weak, near)
    attack = MOVES + jnp.argmin(jnp.where(shots, score, jnp.inf), axis=1)
    foes = jnp.where(battle.health[None, allies:] > 0, distance[:allies, allies:], jnp.inf)
    nearest = jnp.argmin(foes, axis=1)[:, None] + allies
    way = jnp.stack([jnp.take_along_axis(axis[:allies], nearest, axis=1)[:, 0] for axis in (x, y)])
    walk = heading(rules, stats, slice(None, allies), battle.position[:, :allies], way)
    scripted = jnp.where(jnp.any(shots, axis=1), attack, walk)
    may_rest = state.played < settings.episode_limit * 2 // 3
    back, flees, action = step_back(rules, stats, battle, foes, may_rest, hunted(rules, state))
    scripted = jnp.where((policy == POLICIES.index("kite")) & back, action, scripted)
    scripted = jnp.where((policy == POLICIES.index("decoy")) & flees, action, scripted)
    scripted = jnp.where(
        policy == POLICIES.index("hide"), hide(rules, stats, settings, state, step, scripted), scripted
    )
    scripted = jnp.where(policy == POLICIES.index("spread"), spread(rules, stats, battle, scripted), scripted)
    scripted = jnp.where(step.avail_actions[:, 0], scripted, STOP)
    by_chance = jax.random.categorical(key, jnp.where(step.avail_actions, 0.0, -jnp.inf))
    return jnp.where(policy == 0, by_chance, scripted).astype(jnp.int32)


def hunted(rules, state):
    """Which allies a living enemy shot at, or closed in on, in the last transition."""
    allies = rules.num_allies
    alive = state.battle.health[allies:] > 0
    slots = allies - 1 - jnp.arange(allies)
    return jnp.any((state.mind.last[None, :] == slots[:, None]) & alive[None, :], axis=1)


def step_back(rules, stats, battle, foes, may_rest, hunted):
    """Who would rather not attack now when kiting, and as a decoy, and where they go.

    That is to where the nearest enemy is farthest, or nowhere.
    """
    allies = rules.num_allies
    reach = jnp.asarray(stats.reach)
    reaches = (reach + jnp.asarray(stats.radius) if rules.smac else reach)[allies:]
    body = jnp.asarray(stats.radius)[:allies] if rules.smac else jnp.zeros(allies)
    safe = foes - reaches[None, :] - body[:, None]
    nearest = jnp.argmin(foes, axis=1)
    outranges = reach[:allies] > reach[allies:][nearest]
    threat = jnp.min(safe, axis=1)
    back = outranges & (battle.cooldown[:allies] > RELOADS) & (threat < CLEAR)
    if battle.shield is not None:
        shield, wait, full = (value[:allies] for value in (battle.shield, battle.shield_wait, stats.shield))
        spent = (shield <= 0) | ((wait <= 0) & (shield < full))
        back = back | (spent & (full > 0) & (reach[:allies] > 1) & may_rest)
    strides = DIRECTIONS[:, :STOP, None] * (stats.speed[:allies] * TICK * rules.ticks)[None, None, :]
    places = battle.position[:, None, :allies] + strides
    from_there = jnp.sqrt(jnp.sum((places[:, :, :, None] - battle.position[:, None, None, allies:]) ** 2, axis=0))
    from_there = jnp.where(jnp.isinf(foes)[None, :, :], jnp.inf, from_there)
    off = jnp.any((places < EDGE) | (places > MAP_SIZE - EDGE), axis=0)
    best = jnp.argmax(jnp.where(off, -1.0, jnp.min(from_there, axis=2)), axis=0)
    flees = hunted & outranges & (threat < DECOY)
    return back, flees, jnp.where(threat < jnp.where(flees, DECOY, CLEAR), best, STOP)


def hide(rules, stats, settings, state, step, scripted):
    """Who walks goes to the corner, until somebody can shoot, the team is the larger one, or half the time is over."""
    battle, allies = state.battle, rules.num_allies
    fights = ~jnp.asarray(stats.heals)
    there = jnp.asarray(CORNER)[:, None] - battle.position[:, :allies]
    north_south, east_west = jnp.where(there[1] > 0, 0, 2), jnp.where(there[0] > 0, 1, 3)
    walk = jnp.where(jnp.abs(there[1]) > CLOSE, north_south, east_west)
    walk = jnp.where(jnp.sqrt(jnp.sum(there**2, axis=0)) > ENOUGH, walk, STOP)
    left = (battle.health > 0) & fights
    larger = jnp.sum(left[allies:]) < jnp.sum(left[:allies])
    can_shoot = jnp.any(step.avail_actions[:, MOVES:] & fights[:allies, None])
    hunts = larger | can_shoot | (state.played > settings.episode_limit // 2)
    hurt = jnp.any(left[:allies] & stats.biological[:allies] & (battle.health < stats.health)[:allies])
    idle = (scripted < MOVES) | (~fights[:allies] & ~hurt)
    return jnp.where(idle & ~hunts, walk, scripted)


def spread(rules, stats, battle, scripted):
    """Who has a companion near goes to where that is farthest; who is alone attacks, or waits."""
    allies = rules.num_allies
    alive = battle.health[:allies] > 0
    others = alive[None, :] & ~jnp.eye(allies, dtype=bool)
    strides = DIRECTIONS[:, :MOVES, None] * (stats.speed[:allies] * TICK * rules.ticks)[None, None, :]
    places = battle.position[:, None, :allies] + strides
    away = jnp.sqrt(jnp.sum((places[:, :, :, None] - battle.position[:, None, None, :allies]) ** 2, axis=0))
    nearest = jnp.min(jnp.where(others[None, :, :], away, FAR), axis=2)
    off = jnp.any((places < EDGE) | (places > MAP_SIZE - EDGE), axis=0)
    best = jnp.argmax(jnp.where(off, -1.0, jnp.minimum(nearest, APART)), axis=0)
    return jnp.where(nearest[STOP] < APART, best, jnp.where(scripted < MOVES, STOP, scripted))


def rates(env: Env, episodes: int, policies=POLICIES) -> dict[str, tuple[float, float]]:
    """Win rate and mean return of each policy."""
    settings = env.step.args[0]  # pyright: ignore[reportFunctionMemberAccess]

    def transition(carry):
        policy, key, state, step, over, won, total = carry
        key, act_key, env_key = jax.random.split(key, 3)
        action = jax.vmap(lambda *seen: choose(settings, policy, *seen))(
            jax.random.split(act_key, episodes), state, step
        )
        state, step, outcome = jax.vmap(env.step)(jax.random.split(env_key, episodes), state, action)
        won, total = won | (outcome.won & ~over), total + jnp.where(over, 0.0, outcome.reward)
        return policy, key, state, step, over | outcome.last, won, total

    @jax.jit
    def play(policy, key):
        reset_key, key = jax.random.split(key)
        nothing = jnp.zeros(episodes, bool)
        first = jax.vmap(env.reset)(jax.random.split(reset_key, episodes))
        carry = (policy, key, *first, nothing, nothing, jnp.zeros(episodes))
        *_, won, total = jax.lax.while_loop(lambda carry: ~jnp.all(carry[4]), transition, carry)
        return won.mean(), total.mean()

    found = {name: play(jnp.asarray(POLICIES.index(name)), jax.random.key(0)) for name in policies}
    return {name: (float(won), float(total)) for name, (won, total) in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", default=tuple(SMAC_SCENARIOS))
    parser.add_argument("--episodes", type=int, default=512)
    parser.add_argument("--physics", default="smax")
    parser.add_argument("--policies", nargs="*", default=POLICIES, choices=POLICIES)
    settings = parser.parse_args()
    run_command(__doc__ or "", settings.scenarios, lambda scenarios: print_table(settings, scenarios))


def print_table(settings: argparse.Namespace, scenarios: list[str]) -> None:
    """All scenarios, line by line."""
    envs = {scenario: make_smax(scenario, physics=settings.physics) for scenario in scenarios}
    print("| scenario | " + " | ".join(settings.policies) + " |", flush=True)
    print("|---" * (1 + len(settings.policies)) + "|", flush=True)
    for scenario, env in envs.items():
        found = rates(env, settings.episodes, settings.policies)
        cells = " | ".join(f"{won:.2f} ({total:.2f})" for won, total in found.values())
        print(f"| {scenario} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
