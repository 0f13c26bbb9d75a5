"""Measures speed: our variant and another one in turn, round by round in one process."""
