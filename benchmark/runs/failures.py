"""Collects the messages of jobs that failed, and prints them when the command ends."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def print_failures_at_end() -> Iterator[list[str]]:
    """Give a list for messages; each is printed once on stderr at the end, also where an exception ends the block."""
    failures: list[str] = []
    try:
        yield failures
    finally:
        sys.stdout.flush()
        for failure in dict.fromkeys(failures):
            print(failure, file=sys.stderr)
