"""Which door an environment object should come in by."""


def right_door(made: object) -> str:
    """What to use for an environment that is stepped in Python; empty for anything else."""
    if all(hasattr(made, name) for name in ("get_obs", "get_avail_actions", "step")):
        return "it is a PyMARL MultiAgentEnv: use env=pymarl with the same env._target_"
    if all(hasattr(made, name) for name in ("possible_agents", "step", "reset")):
        return "it is a PettingZoo environment: use env=pettingzoo env.name=my_module:my_function"
    if all(hasattr(made, name) for name in ("observation_space", "action_space", "step", "reset")):
        return "it is a Gymnasium environment: register it, and use env=gymnasium env.id=... env.import=my_package"
    if all(hasattr(made, name) for name in ("step", "reset")):
        return (
            "if Python or NumPy steps it, give it the interface of one of these and use env=pettingzoo, env=gymnasium "
            "or env=pymarl"
        )
    return ""
