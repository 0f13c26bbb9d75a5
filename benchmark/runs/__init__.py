"""Runs: planning, scheduling, and executing them on an engine."""
