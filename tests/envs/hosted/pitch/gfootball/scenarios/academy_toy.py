"""A scenario of the small game: they are all the same."""
