"""The names of the small game's scenarios."""
