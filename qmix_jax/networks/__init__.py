"""Agent networks and their layers."""
