"""Child processes: they end with their parent, and only the parent reacts to the signals that stop a command."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGXCPU", "SIGUSR1", "SIGUSR2")
STOP_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
"""Signals that end a process unless it handles them: Ctrl-C, a job's time limit, a closed terminal and the like."""


@contextmanager
def block_stop_signals() -> Iterator[None]:
    """Child processes that start inside this context have STOP_SIGNALS blocked; their parent must end them.

    A terminal sends Ctrl-C, and a job scheduler sends SIGTERM, to every process of a command.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        resource_tracker.ensure_running()  # of multiprocessing; after its start SIGINT and SIGTERM are unblocked
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """Makes this process exit as soon as its parent is gone, for any reason. Call it first in a child process."""
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
