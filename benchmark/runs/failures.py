"""Sentences of what could not be done: told in the end, whatever that end is."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def print_failures_at_end() -> Iterator[list[str]]:
    """A list to append faults to: each is printed once on stderr at the end, also where an exception ends it."""
    faults: list[str] = []
    try:
        yield faults
    finally:
        sys.stdout.flush()
        for fault in dict.fromkeys(faults):
            print(fault, file=sys.stderr)
