"""From what the user typed to the parts and numbers of a run."""
