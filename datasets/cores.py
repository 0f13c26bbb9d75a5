"""Counts the CPU cores that this process may use: a container or `taskset` may allow fewer than the machine has."""

import os


def cores() -> int:
    """Number of cores available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
