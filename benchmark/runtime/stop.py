"""How a command is stopped from outside: Ctrl-C, a time limit's SIGTERM, a closed terminal's SIGHUP, all alike."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from visual_decathlon.datasets.child_processes import STOP_SIGNALS

PATIENCE = 20  # s for tidying up; job schedulers send SIGKILL after 30
_SHOW_CURSOR = "\x1b[?25h"


class Stopped(KeyboardInterrupt):
    """A signal arrived that asks the command to end."""

    def __init__(self, number: int):
        super().__init__()
        self.code = 128 + number  # of the exit, as shells have it


@contextmanager
def stoppable() -> Iterator[None]:
    """Within, the first of STOP_SIGNALS raises Stopped in the main thread; what was ignored before (nohup) stays so.

    Later ones change nothing: `timeout` and make pass on what the group has heard already, and tidying up must not be
    torn. If that takes longer than PATIENCE, or a library swallowed the exception, SIGALRM ends the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    ours = [n for n, handler in before.items() if handler in (signal.SIG_DFL, signal.default_int_handler)]
    stopped = False

    def stop(number: int, frame) -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, PATIENCE)
            raise Stopped(number)

    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_IGN if stopped else before[number])  # on its way out nothing stops it


def show_cursor() -> None:
    """Progress bars hide it, and may have been stopped before they could show it again."""
    if sys.stdout.isatty():
        sys.stdout.write(_SHOW_CURSOR)
        sys.stdout.flush()
