"""Stands in for gfootball where it is not installed: a game of the same interface, without the game."""
