"""Environments that are Python code: PettingZoo, Gymnasium with one entry per agent, PyMARL's ``MultiAgentEnv``.

A *team* (``team.py``) is one such environment as arrays. Three doors make teams: ``pettingzoo.py``, ``gymnasium.py``
and ``pymarl.py``. Worker processes step them (``group.py``, ``pool.py``); ``make.py`` presents them as an ``Env``.
"""
