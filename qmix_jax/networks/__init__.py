"""Agent networks and what they are built from."""
