"""Jumanji's cooperative games: level-based foraging, the robot warehouse, Connector and Cleaner."""
