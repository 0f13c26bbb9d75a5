"""Runs: what they stand on, in which order they are done, and by which processes."""
