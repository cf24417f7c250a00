"""Choosing actions and playing environments: exploration, rollouts and greedy episodes."""
