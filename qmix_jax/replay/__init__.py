"""Experience replay: the ring of sequences and how slots are packed in it."""
