"""What a user may have meant by a name that is not one here: other projects' names, and the most similar of ours."""

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence

from qmix_jax.errors import ConfigError, plain, unknown_choice
from qmix_jax.settings.groups import choices_with

ELSEWHERE: dict[str, tuple[str, ...]] = {
    "optimizer.learning_rate": ("lr", "learning_rate", "alpha", "step_size", "adam_lr", "lrs"),
    "optimizer.learning_rate_end": ("lr_end", "lr_linear_decay", "lr_decay", "anneal_lr"),
    "gamma": ("discount", "discount_factor"),
    "seed": ("random_seed", "rng", "rng_seed"),
    "num_seeds": ("seeds", "n_seeds", "n_seed"),
    "total_env_steps": ("total_timesteps", "total_steps", "num_steps", "t_max", "timesteps", "max_steps", "steps"),
    "run_dir": ("output_dir", "out_dir", "log_dir", "logdir", "save_dir", "save_path", "local_results_path", "outdir"),
    "resume": ("checkpoint_path", "load", "load_path", "restore", "load_step"),
    "algorithm": ("alg", "algo", "alg_name", "name_of_algorithm"),
    "mixer": ("mixing", "mixing_network"),
    "agent": ("network", "model", "net", "policy"),
    "optimizer": ("optim", "optimiser"),
    "env": ("env_name", "environment", "env_id", "game"),
    "env.scenario": ("map_name", "map", "scenario_name", "scenario"),
    "env.task": ("map_name", "task", "task_name", "scenario", "env_name"),
    "agent.hidden_size": ("hidden_dim", "hidden", "rnn_hidden_dim", "agent_hidden_dim", "hidden_layer_size"),
    "agent.norm": ("layer_norm", "norm_type", "use_layer_norm", "normalization"),
    "mixer.embed_size": ("mixing_embed_dim", "mixer_embedding_dim", "embed_dim", "embedding_dim"),
    "mixer.hypernet_size": ("hypernet_embed", "mixer_hypernet_hidden_dim", "hypernet_dim", "hypernet_hidden_dim"),
    "mixer.init_scale": ("mixer_init_scale",),
    "rollout.num_envs": ("n_envs", "batch_size_run", "n_rollout_threads", "num_workers", "nenvs"),
    "rollout.length": ("episode_length", "sequence_length", "rollout_length", "seq_len"),
    "replay.capacity": ("buffer_size", "memory_size", "replay_size", "capacity_of_replay", "replay_buffer_size"),
    "replay.batch_size": ("batch_size", "batchsize", "buffer_batch_size", "minibatch_size", "train_batch_size"),
    "replay.priority.alpha": ("per_alpha", "priority_exponent"),
    "replay.priority.beta": ("per_beta",),
    "replay": ("buffer", "per", "prioritized", "use_per", "memory"),
    "learner.max_grad_norm": ("grad_norm_clip", "grad_clip", "gradient_clip", "clip_grad_norm"),
    "learner.updates_per_iteration": ("num_epochs", "num_updates", "n_updates", "updates_per_step"),
    "learner.warmup_env_steps": ("learning_starts", "warmup", "warmup_steps", "start_timesteps"),
    "exploration.epsilon_start": ("epsilon", "eps", "eps_start", "initial_epsilon"),
    "exploration.epsilon_end": ("epsilon_finish", "eps_finish", "eps_end", "final_epsilon", "min_epsilon"),
    "exploration.epsilon_steps": ("epsilon_anneal_time", "eps_decay", "epsilon_decay", "epsilon_anneal_steps"),
    "evaluation.interval_env_steps": ("test_interval", "eval_interval", "eval_freq", "test_freq"),
    "evaluation.episodes": ("test_nepisode", "n_eval_episodes", "eval_episodes", "test_num_envs", "num_eval_episodes"),
    "target.update_interval": ("target_update_interval", "target_network_frequency", "target_update_freq"),
    "target.tau": ("tau", "polyak", "soft_tau", "target_tau"),
    "target.double_q": ("double_q", "double", "double_dqn"),
    "target.td_lambda": ("td_lambda", "lambda", "lam"),
    "devices.platform": ("device", "use_cuda", "cuda", "gpu", "platform", "backend", "use_gpu"),
    "devices.count": ("num_devices", "n_gpus", "num_gpus", "devices"),
    "checkpoint.every_minutes": ("save_interval", "save_model_interval", "save_freq", "save_model", "save_every"),
    "logger.wandb.mode": ("wandb", "use_wandb", "wandb_mode", "track"),
    "logger.wandb.project": ("wandb_project", "project", "project_name"),
    "logger.wandb.entity": ("wandb_entity", "entity"),
    "reward.scale": ("rew_scale", "reward_scale", "reward_scaling"),
    "reward.standardise": ("standardise_rewards", "standardize_rewards", "reward_standardisation"),
    "reward.standardise_returns": ("standardise_returns", "standardize_returns"),
}
"""Settings here, and what they are called in PyMARL, EPyMARL, JaxMARL, CleanRL and others."""

POLICY_GRADIENTS = {"ppo", "mappo", "ippo", "happo", "trpo", "hatrpo", "a2c", "ia2c", "maa2c", "a3c", "coma", "maddpg"}
POLICY_GRADIENTS |= {"ddpg", "iddpg", "td3", "matd3", "facmac", "sac", "isac", "masac", "dop", "reinforce", "impala"}
OTHER_NAMES = {"dqn": "iql", "idqn": "iql", "iqn": "iql", "madqn": "iql", "independent": "iql", "sum": "vdn"}
"""Algorithms that go by another name here."""

SMAX_SCENARIOS = {"3m", "2s3z", "25m", "3s5z", "8m", "5m_vs_6m", "10m_vs_11m", "27m_vs_30m", "3s5z_vs_3s6z"}
SMAX_SCENARIOS |= {"3s_vs_5z", "6h_vs_8z", "smacv2_5_units", "smacv2_10_units", "smacv2_20_units"}
ONLY_IN_SMAC = {"8m_vs_9m", "MMM", "MMM2", "1c3s5z", "corridor", "2c_vs_64zg", "bane_vs_bane", "so_many_baneling"}
ONLY_IN_SMAC |= {"2m_vs_1z", "2s_vs_1sc", "3s_vs_3z", "3s_vs_4z"}
"""Maps of SMAC that ``env=smax`` has and JaxMARL's SMAX has not."""
MPE_TASKS = {"simple_spread", "simple_reference", "simple_speaker_listener"}


def unknown_group_choice(group: str, value: str, choices: Collection[str]) -> ConfigError:
    """The error for a choice that a group has no file of."""
    listed = f"(choices: {', '.join(sorted(choices))})"
    if group == "algorithm":
        if plain(value) in POLICY_GRADIENTS:
            return ConfigError(
                f"algorithm={value}: unknown; qmix_jax has value-based algorithms, no policy gradients {listed}"
            )
        other = OTHER_NAMES.get(plain(value))
        if other in choices:
            return ConfigError(f"algorithm={value}: unknown; did you mean {other!r}? {listed}")
    if group == "env":
        maps = SMAX_SCENARIOS | ONLY_IN_SMAC
        for names, choose in ((maps, "env=smax env.scenario="), (MPE_TASKS, "env=mpe env.task=")):
            for name in sorted(names):
                if plain(name) == plain(value):
                    return ConfigError(f"env={value}: unknown; did you mean {choose}{name}? {listed}")
        if plain(value) in ("smac", "smaclite", "smacv2", "starcraft", "sc2"):
            return ConfigError(f"env={value}: unknown; did you mean 'smax'? {listed}")
    return unknown_choice(group, value, choices)


def check_scenario(settings: dict) -> None:
    """Raise :class:`ConfigError` for a map of SMAC that JaxMARL's SMAX does not have."""
    scenario = settings.get("scenario")
    if settings.get("_target_") == "qmix_jax.envs.jaxmarl.make_smax" and scenario in ONLY_IN_SMAC:
        raise ConfigError(
            f"env.scenario={scenario}: a map of SMAC that JaxMARL's SMAX does not have; env=smax has it "
            f"(choices: {', '.join(sorted(SMAX_SCENARIOS))})"
        )


def of_another_choice(key: str, value: str, meant: str, chosen: Mapping[str, str]) -> ConfigError:
    """The error for ``key`` that stands for one of another choice, ``meant``; ``chosen`` has that of each group."""
    group = meant.partition(".")[0]
    first, *rest = choices_with(meant)
    others = f" (or {', '.join(rest)})" if rest else ""
    what = "no" if key == meant else f"{meant} is no"
    return ConfigError(
        f"{key}={value}: {what} setting of {group}={chosen.get(group)}; choose {group}={first} for it{others}"
    )


PASSING_ON = {
    "qmix_jax.envs.hosted.football.make_football",
    "qmix_jax.envs.hosted.gymnasium.make_gymnasium",
    "qmix_jax.envs.hosted.pettingzoo.make_pettingzoo",
    "qmix_jax.envs.jaxmarl.make_jaxmarl",
    "qmix_jax.envs.jumanji.environment.make_jumanji",
}
"""Targets that give further settings to the environment itself."""


def unknown_env_setting(key: str, value: str, known: Iterable[str]) -> ConfigError:
    """The error for a key under ``env.`` of an environment that takes further settings with a plus."""
    near = difflib.get_close_matches(key, [name for name in known if name.startswith("env.")], n=1, cutoff=0.8)
    hint = f"did you mean {near[0]}={value}? " if near else ""
    return ConfigError(
        f"{key}={value}: unknown key; {hint}settings of the environment itself have a plus: +{key}={value}"
    )


ALIKE = 0.9
"""Likeness from which on a key of another choice may be what was meant, a slip of the finger apart."""


def nearest_key(key: str, known: Iterable[str], elsewhere: Iterable[str] = ()) -> str:
    """The key that ``key`` stands for in another project, or else the most similar one.

    Args:
        key: what was typed.
        known: the keys that there are.
        elsewhere: keys that there are with other choices. One of them is what was meant where it is the very same, or
            where none of ``known`` has its name; of a group that ``key`` names, only its own.
    """
    known = sorted(known)
    elsewhere = sorted(set(elsewhere).difference(known))
    if key in elsewhere:
        return key
    section = "".join(key.partition(".")[:2]) if "." in key else ""
    inside = [[name for name in keys if section and name.startswith(section)] for keys in (known, elsewhere)]
    elsewhere = inside[1] or elsewhere
    for keys in (*inside, known, elsewhere):
        found = _of_this_name(key, keys)
        if found is not None:
            return found
    alike = [name for name in elsewhere if _likeness(key, name) > ALIKE]
    return max([*known, *alike], key=lambda name: _likeness(key, name))


def _of_this_name(key: str, known: Sequence[str]) -> str | None:
    """The key with the same last part, or with one that other projects use for it."""
    leaf = plain(key.rpartition(".")[2])
    same = [name for name in known if plain(name.rpartition(".")[2]) == leaf]
    if same:
        return max(same, key=lambda name: _likeness(key, name))
    return next((name for name, others in ELSEWHERE.items() if name in known and leaf in map(plain, others)), None)


def _likeness(key: str, other: str) -> float:
    key, other = key.lower(), other.lower()
    whole = difflib.SequenceMatcher(None, plain(key), plain(other)).ratio()
    last = difflib.SequenceMatcher(None, plain(key.rpartition(".")[2]), plain(other.rpartition(".")[2])).ratio()
    return max(whole, last) + 0.1 * whole
