"""JaxMARL's environments.

JaxMARL is imported inside functions, after the settings are checked, because importing it takes seconds.
"""

import importlib
import inspect
import io
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from qmix_jax.envs.actions import count_actions
from qmix_jax.envs.adapter import TEAM_REWARDS, TIME_LIMITS, foreign_code, from_jaxmarl
from qmix_jax.envs.base import Env
from qmix_jax.envs.jaxmarl_classes import known_of, mended
from qmix_jax.envs.lazy_package import make_lazy
from qmix_jax.envs.opponents.sides import OneSide, of_the_game, sides_of
from qmix_jax.envs.settings import check_at_least, check_choice, check_known, say
from qmix_jax.envs.smax.observations import listed_entities
from qmix_jax.errors import ConfigError

__all__ = ["adapt", "from_jaxmarl", "make_jaxmarl", "make_mpe", "make_smax", "make_switch_riddle"]

# The choices are listed here so that a wrong one is rejected before JaxMARL is imported.
SMAX_SCENARIOS = (
    "3m",
    "2s3z",
    "25m",
    "3s5z",
    "8m",
    "5m_vs_6m",
    "10m_vs_11m",
    "27m_vs_30m",
    "3s5z_vs_3s6z",
    "3s_vs_5z",
    "6h_vs_8z",
    "smacv2_5_units",
    "smacv2_10_units",
    "smacv2_20_units",
)

MPE_TASKS = {
    "simple_spread": "SimpleSpreadMPE",
    "simple_reference": "SimpleReferenceMPE",
    "simple_speaker_listener": "SimpleSpeakerListenerMPE",
}

JAXMARL_IDS = (
    "MPE_simple_v3",
    "MPE_simple_tag_v3",
    "MPE_simple_world_comm_v3",
    "MPE_simple_spread_v3",
    "MPE_simple_crypto_v3",
    "MPE_simple_speaker_listener_v4",
    "MPE_simple_push_v3",
    "MPE_simple_adversary_v3",
    "MPE_simple_reference_v3",
    "MPE_simple_facmac_v1",
    "MPE_simple_facmac_3a_v1",
    "MPE_simple_facmac_6a_v1",
    "MPE_simple_facmac_9a_v1",
    "switch_riddle",
    "SMAX",
    "HeuristicEnemySMAX",
    "LearnedPolicyEnemySMAX",
    "ant_4x2",
    "halfcheetah_6x1",
    "hopper_3x1",
    "humanoid_9|8",
    "walker2d_2x3",
    "storm",
    "storm_2p",
    "storm_np",
    "hanabi",
    "overcooked",
    "overcooked_v2",
    "coin_game",
    "jaxnav",
    "JaxRobotarium_navigation",
    "JaxRobotarium_discovery",
    "JaxRobotarium_material_transport",
    "JaxRobotarium_warehouse",
    "JaxRobotarium_arctic_transport",
    "JaxRobotarium_foraging",
    "JaxRobotarium_rware",
    "JaxRobotarium_predator_prey",
)


def make_smax(
    scenario: str = "3m",
    time_limit: str = "terminal",
    max_steps: int = 100,
    won_battle_bonus: float = 1.0,
    see_enemy_actions: bool = True,
    walls_cause_death: bool = True,
    enemy_shoots: bool = True,
    attack_mode: str = "closest",
    observation_type: str = "unit_list",
    world_steps_per_env_step: int = 8,
) -> Env:
    """SMAX, the StarCraft-like battle, against JaxMARL's heuristic enemy (``HeuristicEnemySMAX``).

    - Reward: the enemies' health lost in this transition, as a fraction of their health, averaged over the enemies,
      plus ``won_battle_bonus`` on winning. All allies get the same reward, and the team gets it once (as in
      JaxMARL's baselines). So the return is at most ``1 + won_battle_bonus``, 2 by default.
    - State [G]: JaxMARL's ``world_state`` with positions divided by the map's size and unit types by the largest
      type, and weapon cooldowns clipped at 0, as in its observations (in the state JaxMARL lets them fall without
      limit). So every feature is between 0 and 2.
    - Termination: all units of one side are dead. Won: all enemies are dead and an ally is alive.
    - Time limit: JaxMARL compares ``step`` with ``max_steps`` before counting the transition, so an episode has up to
      ``max_steps + 1`` transitions, 101 by default. With ``time_limit`` ``terminal``, SMAC's convention, the time
      limit is a defeat (discount 0); with ``bootstrap`` its discount is 1.
    """
    check_choice("env.scenario", scenario, SMAX_SCENARIOS)
    check_choice("env.time_limit", time_limit, TIME_LIMITS)
    check_choice("env.attack_mode", attack_mode, ("closest", "random"))
    check_choice("env.observation_type", observation_type, ("unit_list", "conic"))
    check_at_least("env.max_steps", max_steps, 1)
    check_at_least("env.world_steps_per_env_step", world_steps_per_env_step, 1)
    smax = _import("environments.smax")
    env = smax.HeuristicEnemySMAX(
        scenario=smax.map_name_to_scenario(scenario),
        max_steps=max_steps,
        won_battle_bonus=float(won_battle_bonus),
        see_enemy_actions=see_enemy_actions,
        walls_cause_death=walls_cause_death,
        enemy_shoots=enemy_shoots,
        attack_mode=attack_mode,
        observation_type=observation_type,
        world_steps_per_env_step=world_steps_per_env_step,
    )
    adapted, units = adapt(env, name=f"smax-{scenario}", time_limit=time_limit), env.num_allies + env.num_enemies
    listed = observation_type == "unit_list"
    return adapted._replace(entities=listed_entities(env.num_allies, units, adapted.obs_size) if listed else None)


def make_mpe(
    task: str = "simple_spread",
    time_limit: str = "bootstrap",
    max_steps: int = 25,
    num_agents: int | None = None,
    num_landmarks: int | None = None,
    local_ratio: float | None = None,
    reward: str = "sum",
) -> Env:
    """A cooperative task of the multi-agent particle environments.

    ``num_agents``, ``num_landmarks`` and ``local_ratio`` are for ``simple_spread`` (3, 3 and 0.5 unless given), and
    ``local_ratio`` also for ``simple_reference``.

    - Reward: the sum over the agents' rewards, as in JaxMARL's ``CTRolloutManager``. JaxMARL's ``MPELogWrapper``
      reports, for each agent, the sum over the episode of its reward times the number of agents, and its baselines
      average that over the agents. The number of agents cancels: the mean of N r_i is the sum of r_i, so
      episode returns here and in JaxMARL are the same quantity. (EPyMARL's is divided by N or covers 25 steps.)
      ``reward`` combines them otherwise, or keeps each agent's own (``individual``).
    - State [G]: the agents' concatenated observations.
    - There is no termination: an episode always ends by the time limit, whose discount is 1 with ``time_limit``
      ``bootstrap`` and 0 with ``terminal``. JaxMARL compares ``step`` with ``max_steps`` before counting the
      transition, so every episode has ``max_steps + 1`` transitions, 26 by default.
    - In ``simple_speaker_listener`` the two agents' observations (3 and 11) and actions (3 and 5) are padded.
    """
    check_choice("env.task", task, MPE_TASKS)
    check_choice("env.time_limit", time_limit, TIME_LIMITS)
    check_choice("env.reward", reward, TEAM_REWARDS)
    check_at_least("env.max_steps", max_steps, 1)
    given = {"num_agents": num_agents, "num_landmarks": num_landmarks, "local_ratio": local_ratio}
    given = {name: value for name, value in given.items() if value is not None}
    takes = {"simple_spread": tuple(given), "simple_reference": ("local_ratio",), "simple_speaker_listener": ()}[task]
    for name, value in given.items():
        check_at_least(f"env.{name}", value, 0.0 if name == "local_ratio" else 1)
        if name not in takes:
            raise ConfigError(f"env.{name}={value}: {task} has no such setting; leave it null")
    if local_ratio is not None and local_ratio > 1:
        raise ConfigError(f"env.local_ratio={local_ratio}: must be at most 1")
    env = getattr(_import("environments.mpe"), MPE_TASKS[task])(max_steps=max_steps, **given)
    return adapt(env, name=f"mpe-{task}", time_limit=time_limit, reward=reward)


def make_switch_riddle(
    num_agents: int = 3,
    time_limit: str = "terminal",
    initial_bulb_state: bool = False,
    reward_all_live: float = 1.0,
    reward_all_die: float = -1.0,
) -> Env:
    """The hundred prisoners' riddle with ``num_agents`` (at least 3) prisoners and one light switch.

    - Reward: the reward shared by all agents, counted once: ``reward_all_live`` for telling after all have been in the
      room, ``reward_all_die`` for telling too early, else 0. (JaxMARL's baselines train on its sum over the agents and
      report the mean over the agents, which is the number here.)
    - State [G]: the agents' concatenated observations (in the room; the bulb, if in the room).
    - Termination: the agent in the room tells. Won: it tells and all have been there.
    - Time limit: ``4 * num_agents - 6`` transitions. It is part of the riddle, so ``terminal`` by default.
    """
    check_choice("env.time_limit", time_limit, TIME_LIMITS)
    check_at_least("env.num_agents", num_agents, 3)
    env = _import("environments.switch_riddle").SwitchRiddle(
        num_agents=num_agents,
        initial_bulb_state=initial_bulb_state,
        reward_all_live=float(reward_all_live),
        reward_all_die=float(reward_all_die),
    )
    return adapt(env, name="switch_riddle", time_limit=time_limit)


def make_jaxmarl(
    id: str,
    time_limit: str = "bootstrap",
    reward: str | None = None,
    episode_limit: int | None = None,
    team: str | None = None,
    opponents: str = "random",
    **settings: Any,
) -> Env:
    """Any registered JaxMARL environment with discrete actions, by its ``id``; ``settings`` go to its constructor.

    ``reward`` combines the agents' rewards into the team reward: ``sum``, ``mean`` or ``first`` (``individual`` keeps
    them, for independent learners); by default as in JaxMARL's baselines, which take the first agent's in SMAX (of one
    side), Overcooked and Hanabi and the sum elsewhere (here the switch riddle's shared reward also counts once). For
    the end of an episode see :func:`from_jaxmarl`.

    In a game of two opposed sides ``team`` names the side that is trained (``adversaries`` or ``good_agents``, in SMAX
    ``allies`` or ``enemies``), and ``opponents`` who plays the other one: ``random``, a ``module:function``, or the
    folder of a run that trained it.

    Raises :class:`ConfigError` for an unknown ``id`` or setting, for actions that are not discrete, and if the
    environment has no time limit and ``episode_limit`` is not given.
    """
    check_choice("env.id", id, JAXMARL_IDS)
    check_choice("env.time_limit", time_limit, TIME_LIMITS)
    if reward is not None:
        check_choice("env.reward", reward, TEAM_REWARDS)
    env = _construct(id, settings)
    options = {"time_limit": time_limit, "reward": reward, "episode_limit": episode_limit}
    if team is None:
        return adapt(env, name=id, **options)
    for agent in env.agents:
        count_actions(env, agent)
    known = known_of(env, team)
    with foreign_code():
        side = OneSide(env, team, opponents)
    # What is known of the whole game reads its state.
    for name in known.keys() & {"state", "terminated", "won", "render"}:
        known[name] = of_the_game(name, known[name])
    options = {name: value for name, value in options.items() if value is not None}
    return from_jaxmarl(side, **{"name": f"{id}-{team}", **known, **options})


def adapt(env: Any, **options: Any) -> Env:
    """:func:`from_jaxmarl` with what is known about JaxMARL's own environments; ``options`` that are None are unset."""
    options = {name: value for name, value in options.items() if value is not None}
    adapted = from_jaxmarl(mended(env), **{**known_of(env), **options})
    sides = sides_of(env)
    if sides:
        counts = ", ".join(f"{len(agents)} {side}" for side, agents in sides.items())
        say(
            f"note: {adapted.name}: its sides ({counts}) have opposed rewards, and one team of all of them is trained; "
            f"env=jaxmarl env.team={next(iter(sides))} env.opponents=random trains one side"
        )
    return adapted


def _import(part: str) -> Any:
    """Import a part of JaxMARL without all its environments, which take six seconds to import.

    JaxMARL prints while it is imported, and replaces ``sys.stdout`` and ``sys.stderr``; both effects are undone.
    """
    make_lazy("jaxmarl", "jaxmarl.environments")
    make_lazy("matplotlib", "matplotlib.animation", "matplotlib.pyplot")  # a second, for drawings only
    streams = sys.stdout, sys.stderr, sys.__stdout__
    try:
        sys.stdout = sys.__stdout__ = io.StringIO()  # type: ignore[misc]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(f"jaxmarl.{part}")
    finally:
        sys.stdout, sys.stderr, sys.__stdout__ = streams  # type: ignore[misc]


def _construct(id: str, settings: Mapping[str, Any]) -> Any:
    make = _import("registration").make
    try:
        with foreign_code():
            env = make(id, **settings)
    except (TypeError, ValueError, AssertionError, ImportError, NotImplementedError) as error:
        raise ConfigError(f"env.id={id}: {' '.join(str(error).split())}") from error
    check_known(settings, _constructor_settings(type(env)))
    return env


def _constructor_settings(kind: type) -> tuple[str, ...]:
    """The settings that a class and its bases accept; many accept misspelt ones silently in ``**kwargs``."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    signatures = [inspect.signature(base.__init__) for base in kind.__mro__ if "__init__" in vars(base)]
    names = (name for taken in signatures for name, value in taken.parameters.items() if value.kind in named)
    return tuple(dict.fromkeys(name for name in names if name != "self"))
