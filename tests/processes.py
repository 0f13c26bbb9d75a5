"""Processes that tests start: each in a group of its own, which is ended with its test, whatever became of that.

Nothing here looks at a clock: what is waited for is a process's end, a line it writes, or a file while it is alive.
"""

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path


def hear_interrupts() -> None:
    """In the child: a shell's background job ignores SIGINT, and so would what it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Processes:
    """Starts them, and ends every group that it started."""

    def __init__(self):
        self._started: list[subprocess.Popen] = []

    def start(self, command: Sequence[str], **more) -> subprocess.Popen:
        process = subprocess.Popen(command, start_new_session=True, preexec_fn=hear_interrupts, **more)
        self._started.append(process)
        return process

    def run(self, command: Sequence[str], **more) -> subprocess.CompletedProcess:
        """To its end, as `subprocess.run` does it; what it started and left behind is ended, too."""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = self.start(command, **{**streams, **more})
        try:
            out, err = process.communicate()
        finally:
            self._end(process)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def end(self) -> None:
        """All of them, and what they started."""
        for process in list(self._started):
            self._end(process)

    def _end(self, process: subprocess.Popen) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        self._started.remove(process)


def until(process: subprocess.Popen, there: Callable[[], bool]) -> None:
    """Wait until something is there; fails as soon as the process that is to make it has ended without."""
    while not there():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)  # ends at once with the process
            assert there(), f"it ended with {process.returncode} before: {process.stdout.read()}"


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> Callable[[], None]:
    """A call that waits for the end of a process, which need not be a child; it is known from now on."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return lambda: None

    def wait() -> None:
        select.select([handle], [], [])
        os.close(handle)

    return wait
