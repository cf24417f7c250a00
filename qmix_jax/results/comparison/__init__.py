"""Compare runs: read folders, group seeds, compute statistics, draw figures and write one page."""
