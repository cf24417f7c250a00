"""A scenario of the small game, which goes on after a shot."""
