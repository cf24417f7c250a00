"""Pieces of a loss and of a gradient step."""
