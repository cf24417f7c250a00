"""What a run takes in memory, and what there is."""
