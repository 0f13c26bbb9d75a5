"""Processes that this one starts: they end with it, and the signals that stop a command are heard by it alone."""

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
    """What is started within hears none of STOP_SIGNALS, from its first moment on; whoever starts it must end it.

    A terminal sends Ctrl-C, and a job scheduler SIGTERM, to every process of a command.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        resource_tracker.ensure_running()  # of multiprocessing; its start ends with SIGINT and SIGTERM let through
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """First thing in such a process: leave as soon as the parent is gone, however it went."""
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
