"""SMAX as an :class:`Env`."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from qmix_jax.envs.adapter import TIME_LIMITS, outcome_of
from qmix_jax.envs.base import Env
from qmix_jax.envs.settings import check_at_least, check_choice
from qmix_jax.envs.smax import battle as simulation
from qmix_jax.envs.smax import chance, drawing, enemy, observations, slots
from qmix_jax.envs.smax.enemy import Mind
from qmix_jax.envs.smax.rules import DIRECTIONS, NOBODY, STOP, TICK, Battle, Orders, Rules, Terrain
from qmix_jax.envs.smax.scenarios import Scenario, find_scenario, rules_of
from qmix_jax.envs.smax.units import SMAC_TABLE, START_ENERGY, TABLE, Stats, numbers_of, stats_of
from qmix_jax.errors import ConfigError
from qmix_jax.types import Entities, Outcome, TimeStep

OBSERVATIONS = {"unit_list": observations.observe_list, "conic": observations.observe_conic}
COOLDOWN_NOISE = (-TICK, 2 * TICK)
"""Added to the cooldown of a unit that attacks: uniform between these."""
SHORTEST_COOLDOWN = float(min(TABLE.cooldown.min(), SMAC_TABLE.cooldown.min()))
PHYSICS = ("smax", "smac")
SMAC_KILL, SMAC_WIN, SMAC_MOST = 10.0, 200.0, 20.0
"""SMAC's points for a kill and for winning, and what all points of a battle are scaled to."""


class SmaxState(NamedTuple):
    """A battle, who fights in it, and what they did last."""

    battle: Battle
    types: Int[Array, " units"]
    last_action: Int[Array, " units"]
    """``STOP`` before the first transition."""
    mind: Mind
    played: Int[Array, ""]


class Draws(NamedTuple):
    """All randomness of one transition, uniform in [0, 1)."""

    cooldown: Float[Array, "ticks units"]
    enemy: Float[Array, "2 enemies"]


class Settings(NamedTuple):
    """The settings under ``env.``, checked."""

    scenario: Scenario
    rules: Rules
    time_limit: str
    episode_limit: int
    won_battle_bonus: float
    see_enemy_actions: bool
    enemy_shoots: bool
    random_target: bool
    observation_type: str

    @property
    def types(self) -> np.ndarray:
        """The units' types, where they are the same in every episode."""
        return numbers_of(self.scenario.allies + self.scenario.enemies)


def make_smax(
    scenario: str = "3m",
    time_limit: str = "terminal",
    max_steps: int | None = None,
    won_battle_bonus: float = 1.0,
    see_enemy_actions: bool = True,
    walls_cause_death: bool = True,
    enemy_shoots: bool = True,
    attack_mode: str = "closest",
    observation_type: str = "unit_list",
    world_steps_per_env_step: int = 8,
    allies: object = None,
    enemies: object = None,
    physics: str = "smax",
    terrain: bool = True,
) -> Env:
    """SMAX, the StarCraft-like battle against a heuristic enemy, with all of SMAC's maps.

    On JaxMARL's scenarios it plays as JaxMARL's ``HeuristicEnemySMAX`` does. ``allies`` and ``enemies``, numbers of
    units by type, make a scenario of one's own in place of ``scenario``.

    - Reward: the enemies' health lost in this transition, as a fraction of their health, averaged over the enemies,
      plus ``won_battle_bonus`` on winning. So the return is at most ``1 + won_battle_bonus``, 2 by default; where the
      enemy heals, it can be more.
    - State [G]: for each unit health, position, seconds of cooldown and type, 0 for the dead; then sides and types.
      Every feature is between 0 and 2.
    - True termination: all units of one side are dead. Won: all enemies are dead and an ally lives.
    - Time limit: ``max_steps + 1`` transitions, as JaxMARL counts. Unless given, ``max_steps`` is JaxMARL's 100 on its
      scenarios and SMAC's limit on the others. With ``time_limit`` ``terminal``, SMAC's convention, running out of
      time is a defeat (discount 0); with ``bootstrap`` its discount is 1.

    ``physics="smac"`` is nearer to SMAC: units have SMAC's numbers, armor, shields and attribute bonuses; an agent can
    name whom it has within SMAC's shooting range, 6, and closes in; zerg units and shields recover. The reward is the
    health and shield that the enemies lost, 10 for a kill and 200 for winning, scaled so that all of them at once
    are 20; what the enemies recover can be won again. A side of nothing but medivacs has lost. The map's edge does
    not kill. An episode has up to
    ``max_steps`` transitions, SMAC's number unless given.

    ``terrain`` false makes plains of the maps that have walls, ``corridor`` and ``2c_vs_64zg``.

    Raises :class:`ConfigError` for settings that cannot be used.
    """
    found = find_scenario(scenario, allies, enemies)
    check_choice("env.physics", physics, PHYSICS)
    check_choice("env.time_limit", time_limit, TIME_LIMITS)
    check_choice("env.attack_mode", attack_mode, ("closest", "random"))
    check_choice("env.observation_type", observation_type, OBSERVATIONS)
    check_at_least("env.world_steps_per_env_step", world_steps_per_env_step, 1)
    smac = physics == "smac"
    if smac and won_battle_bonus != 1.0:
        raise ConfigError(
            f"env.won_battle_bonus={won_battle_bonus}: must be 1.0 with env.physics=smac, which has its own"
        )
    default_steps = found.smac_steps if smac and found.smac_steps else found.max_steps
    max_steps = default_steps if max_steps is None else max_steps
    check_at_least("env.max_steps", max_steps, 1)
    rules = rules_of(found, smac)._replace(
        terrain=found.terrain if terrain else Terrain(),
        ticks=world_steps_per_env_step,
        walls_cause_death=walls_cause_death and not smac,
    )
    settings = Settings(
        scenario=found,
        rules=rules,
        time_limit=time_limit,
        episode_limit=max_steps if smac else max_steps + 1,
        won_battle_bonus=float(won_battle_bonus),
        see_enemy_actions=see_enemy_actions,
        enemy_shoots=enemy_shoots,
        random_target=attack_mode == "random",
        observation_type=observation_type,
    )
    name = scenario if allies is None else "own"
    return _make_env(settings, f"{name}-smac" if smac else name)


def _make_env(settings: Settings, name: str) -> Env:
    rules = settings.rules
    # What is healed or comes back can be lost again.
    bounded = not (rules.heals or rules.shields or rules.regenerates)
    most = SMAC_MOST if rules.smac else 1.0 + abs(settings.won_battle_bonus)
    first = jax.eval_shape(partial(reset, settings), jax.random.key(0))[1]
    return Env(
        name=f"smax-{name}",
        num_agents=first.obs.shape[0],
        num_actions=first.avail_actions.shape[1],
        obs_size=first.obs.shape[1],
        state_size=first.state.shape[0],
        episode_limit=settings.episode_limit,
        reset=partial(reset, settings),
        step=partial(step, settings),
        has_win_rate=True,
        render=partial(drawing.render, rules),
        drawn_as=(".gif",),
        max_return=most if bounded else None,
        entities=_entities(settings, first.obs.shape[1]),
    )


def _entities(settings: Settings, obs_size: int) -> Entities | None:
    if settings.observation_type != "unit_list":
        return None
    rules = settings.rules
    return observations.listed_entities(rules.num_allies, len(settings.types), obs_size, rules.heals)


def reset(settings: Settings, key: Key[Array, ""]) -> tuple[SmaxState, TimeStep]:
    """Start an episode."""
    type_key, position_key = jax.random.split(key)
    types = settings.types
    if settings.scenario.random:
        types = chance.random_types(type_key, len(types))
    return start(settings, chance.positions(position_key, settings.scenario), jnp.asarray(types))


def start(
    settings: Settings, position: Float[Array, "2 units"], types: Int[Array, " units"]
) -> tuple[SmaxState, TimeStep]:
    """The first state of an episode with units of these types at these positions."""
    units = types.shape[0]
    stats = _stats(settings, types)
    health = jnp.asarray(stats.health)
    position = simulation.push_apart(position, health > 0, simulation.touching_distances(settings.rules, stats))
    state = SmaxState(
        battle=Battle(
            position=position,
            health=health,
            cooldown=jnp.zeros(units),
            energy=START_ENERGY * jnp.asarray(stats.heals, jnp.float32),
            patient=jnp.full(units, NOBODY, jnp.int32),
            shield=jnp.asarray(stats.shield) if settings.rules.shields else None,
            shield_wait=jnp.zeros(units) if settings.rules.shields else None,
        ),
        types=types,
        last_action=jnp.full(units, STOP, jnp.int32),
        mind=enemy.first_mind(units - settings.rules.num_allies),
        played=jnp.zeros((), jnp.int32),
    )
    return state, see(settings, state)


def step(
    settings: Settings, key: Key[Array, ""], env_state: SmaxState, action: Int[Array, " N"]
) -> tuple[SmaxState, TimeStep, Outcome]:
    """Play one joint action."""
    ticks, units = settings.rules.ticks, env_state.types.shape[0]
    enemies = units - settings.rules.num_allies
    # No more than is used, as random numbers are a large part of a step. A unit that attacks once needs one.
    once = (ticks - 2) * TICK < SHORTEST_COOLDOWN + COOLDOWN_NOISE[0]
    draws_of_unit = 1 if once else ticks
    choices = 2 if settings.random_target else 1
    draws = chance.uniform(key, draws_of_unit * units + choices * enemies)
    cooldown, chosen = draws[: draws_of_unit * units], draws[draws_of_unit * units :]
    draws = Draws(
        cooldown=jnp.broadcast_to(cooldown.reshape(draws_of_unit, units), (ticks, units)),
        enemy=jnp.broadcast_to(chosen.reshape(choices, enemies), (2, enemies)),
    )
    return play(settings, draws, env_state, action)


def play(
    settings: Settings, draws: Draws, env_state: SmaxState, action: Int[Array, " N"]
) -> tuple[SmaxState, TimeStep, Outcome]:
    """:func:`step` with all randomness given."""
    rules, stats, before = settings.rules, _stats(settings, env_state.types), env_state.battle
    answer, mind = enemy.decide(
        rules, stats, before, env_state.mind, draws.enemy, settings.enemy_shoots, settings.random_target
    )
    action = action.astype(jnp.int32)
    named = [slots.targets(rules, stats, side, chosen) for side, chosen in enumerate((action, answer))]
    actions = jnp.concatenate([action, answer])
    orders = Orders(move=directions(actions), target=jnp.concatenate(named))
    low, high = COOLDOWN_NOISE
    after = simulation.simulate(rules, stats, before, orders, low + (high - low) * draws.cooldown)
    played = env_state.played + 1
    env_state = env_state._replace(battle=after, last_action=actions, mind=mind, played=played)
    return env_state, see(settings, env_state), _outcome(settings, stats, before, after, played)


def directions(action: Int[Array, " units"]) -> Float[Array, "2 units"]:
    """The directions that actions walk in."""
    return jnp.asarray(DIRECTIONS)[:, jnp.minimum(action, STOP)]


def see(settings: Settings, env_state: SmaxState) -> TimeStep:
    """What the allies see."""
    rules, stats, battle = settings.rules, _stats(settings, env_state.types), env_state.battle
    num_types = settings.scenario.num_types
    one_hot = (env_state.types[:, None] == np.arange(num_types)[None, :]).astype(jnp.float32)
    last_action = env_state.last_action
    features = observations.unit_features(
        rules, stats, battle, one_hot, directions(last_action), last_action, settings.see_enemy_actions
    )
    own = observations.own_features(rules, stats, battle, one_hot)
    return TimeStep(
        obs=OBSERVATIONS[settings.observation_type](rules, stats, battle, features, own),
        avail_actions=observations.available(rules, stats, battle),
        state=observations.global_state(rules, stats, battle, env_state.types, own),
    )


def _stats(settings: Settings, types: Int[Array, " units"]) -> Stats:
    """Constants of the program wherever types are."""
    table = SMAC_TABLE if settings.rules.smac else TABLE
    return stats_of(types if settings.scenario.random else settings.types, table)


def _outcome(settings: Settings, stats: Stats, before: Battle, after: Battle, played: Int[Array, ""]) -> Outcome:
    rules, allies = settings.rules, settings.rules.num_allies
    fights = after.health > 0
    fights = fights & ~stats.heals if rules.smac and rules.heals else fights
    ally_lives, enemy_lives = jnp.any(fights[:allies]), jnp.any(fights[allies:])
    won = ally_lives & ~enemy_lives
    over = ~ally_lives | ~enemy_lives
    last = over | (played >= settings.episode_limit)
    if rules.smac:
        reward = _smac_reward(allies, stats, before, after, won)
    else:
        lost = (before.health - after.health)[allies:] / stats.health[allies:]
        # Enemies can gain more by healing than they lose.
        reward = jnp.maximum(jnp.mean(lost), 0.0) + jnp.where(won, settings.won_battle_bonus, 0.0)
    return outcome_of(settings.time_limit, reward, over, last, won)


def _smac_reward(allies: int, stats: Stats, before: Battle, after: Battle, won: Bool[Array, ""]) -> Float[Array, ""]:
    """SMAC's reward, ``reward_scale`` and ``reward_only_positive`` on; recovery is not paid for, as it is there."""
    left = [battle.health if battle.shield is None else battle.health + battle.shield for battle in (before, after)]
    kills = jnp.sum((before.health > 0)[allies:] & (after.health <= 0)[allies:])
    points = jnp.maximum(jnp.sum((left[0] - left[1])[allies:]) + SMAC_KILL * kills, 0.0)
    enemies = stats.health.shape[0] - allies
    most = jnp.sum((stats.health + stats.shield)[allies:]) + SMAC_KILL * enemies + SMAC_WIN
    return (points + jnp.where(won, SMAC_WIN, 0.0)) * (SMAC_MOST / most)
