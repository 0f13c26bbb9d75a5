"""Ends a command in order on Ctrl-C, on the SIGTERM of a time limit and on the SIGHUP of a closed terminal."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from visual_decathlon.datasets.child_processes import STOP_SIGNALS

PATIENCE = 20  # s to clean up in; job schedulers send SIGKILL after 30
_SHOW_CURSOR = "\x1b[?25h"


class Stopped(KeyboardInterrupt):
    """A signal arrived that asks the command to end."""

    def __init__(self, number: int):
        super().__init__()
        self.code = 128 + number  # exit code, as shells define it


@contextmanager
def stoppable() -> Iterator[None]:
    """Within, the first of STOP_SIGNALS raises Stopped in the main thread; ignored signals (nohup) stay ignored.

    Later signals change nothing: `timeout` and make send a second one to a group that already got the first, and
    cleaning up must not be interrupted. If it takes longer than PATIENCE, or a library swallowed the exception,
    SIGALRM ends the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    handled = [n for n, handler in before.items() if handler in (signal.SIG_DFL, signal.default_int_handler)]
    stopped = False

    def stop(number: int, frame) -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, PATIENCE)
            raise Stopped(number)

    for number in handled:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_IGN if stopped else before[number])  # nothing interrupts the exit


def show_cursor() -> None:
    """Shows the cursor, which a progress bar hides: the bar may have been stopped before it could show it again."""
    if sys.stdout.isatty():
        sys.stdout.write(_SHOW_CURSOR)
        sys.stdout.flush()
