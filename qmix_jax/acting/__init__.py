"""How actions are chosen and environments are played: exploration, rollouts and greedy episodes."""
