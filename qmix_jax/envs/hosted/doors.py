"""Which door an environment object should come in by."""


def right_door(made: object, own: str = "") -> str:
    """What to use for an environment that is stepped in Python; empty for anything else.

    ``own`` is the door that it came in by.
    """
    if isinstance(made, type):
        return "it is a class: give one that is made, or a function that makes one"
    if any(base.__module__.startswith("jaxmarl.") for base in type(made).__mro__):
        missing = [name for name in ("agents", "reset", "step_env", "action_space") if not hasattr(made, name)]
        return f"it derives from a class of JaxMARL and lacks {', '.join(missing)}" if missing else ""
    advice = _advice(made)
    return "" if own and f"env={own} " in advice else advice


def _advice(made: object) -> str:
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
