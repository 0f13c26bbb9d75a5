"""Runs the steps one after the other, each in its own process with a time limit, and receives their rows."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from visual_decathlon.benchmark.config.folders import HOME
from visual_decathlon.benchmark.perf.gpu.plan import Step

POLL = 0.1  # s between two looks at the clock while no message comes

OnMessage = Callable[[str, object], None]
"""on_message(kind, content): "row" with a dictionary, "fault" with a sentence."""
Command = Callable[[Step, Path, int], list[str]]
"""command(step, empty folder, descriptor to write to): the command line of a step."""


def run_plan(
    steps: Sequence[Step],
    command: Command,
    keep: Callable[[Step, dict], None],
    *,
    budget: float,
    cache: Path,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[tuple[Step, str]]:
    """Run the steps that fit into `budget` seconds; yields (step, "") before each starts, and (step, outcome) after.

    The outcome is "done" or a sentence: why the step was skipped, ended or failed. `keep` is called with each row when
    it comes. A failed step does not stop the others.
    """
    begin = clock()
    for step in steps:
        left = budget - (clock() - begin)
        if left < step.needs:
            yield step, f"skipped: {max(left, 0):.0f} s of {budget:.0f} are left, and it needs {step.needs:.0f}"
            continue
        yield step, ""
        with tempfile.TemporaryDirectory(prefix=f"gpu-{step.name}-", dir=cache, ignore_cleanup_errors=True) as folder:
            faults: list[str] = []

            def receive(kind: str, content: object, step: Step = step, faults: list[str] = faults) -> None:
                if kind == "fault":
                    faults.append(str(content))
                else:
                    keep(step, content)

            line = lambda home: command(step, Path(folder), home)  # noqa: B023
            end = run_step(line, min(step.limit, left), receive, clock)
            yield step, f"failed: {faults[0]}" if faults and end != "done" else end


def run_step(
    command: Callable[[int], list[str]],
    limit: float,
    on_message: OnMessage,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """Run one command until its end or for `limit` seconds; return the outcome. Its output goes to the screen.

    `command(descriptor)` is the command line. Afterwards neither the process nor one that it started is left.
    """
    here, there = os.pipe()
    begin = clock()
    # The process has its own session, which is ended as a whole. Its stdin closes when this process is gone.
    process = subprocess.Popen(
        command(there), cwd=HOME, stdin=subprocess.PIPE, pass_fds=(there,), start_new_session=True, env=_environment()
    )
    os.close(there)
    try:
        messages = _Messages(here, on_message)
        while messages.read(POLL) and process.poll() is None:
            if clock() - begin > limit:
                return f"ended: it took longer than its limit of {limit:.0f} s"
        code = process.wait(max(0.0, limit - (clock() - begin)))
        while messages.read(0):
            pass
        return "done" if code == 0 else f"failed: it ended with {code}"
    except subprocess.TimeoutExpired:
        return f"ended: it took longer than its limit of {limit:.0f} s"
    finally:
        for number in [process.pid, *_below(process.pid)]:  # commands of a test have their own process groups
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(os.getpgid(number), signal.SIGKILL)
        process.wait()
        process.stdin.close()
        os.close(here)


def _below(process: int) -> list[int]:
    """Ids of all its descendants, on Linux; elsewhere none."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    descendants = list(children.get(process, []))
    for number in descendants:  # the list grows during the loop
        descendants += children.get(number, [])
    return descendants


class _Messages:
    """Messages from a pipe: JSON, one in each line."""

    def __init__(self, descriptor: int, on_message: OnMessage):
        self._descriptor, self._on_message, self._rest = descriptor, on_message, b""

    def read(self, seconds: float) -> bool:
        """Wait up to `seconds` for data and pass on complete messages; False at the end, and without data at 0 s."""
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return seconds > 0
        content = os.read(self._descriptor, 1 << 16)
        *lines, self._rest = (self._rest + content).split(b"\n")
        for line in lines:
            self._on_message(*json.loads(line))
        return bool(content)


def _environment() -> dict[str, str]:
    """The user's environment, including PYTHONPATH, with unbuffered output.

    Without the command that make was given: it is not that of a bench within a step.
    """
    return {name: value for name, value in os.environ.items() if name != "BENCH_COMMAND"} | {"PYTHONUNBUFFERED": "1"}


def child(device: str) -> Command:
    """The command lines of the real steps."""
    return lambda step, folder, home: [
        *(sys.executable, "-m", "visual_decathlon.benchmark.perf.gpu.child", step.name, device, str(folder), str(home))
    ]
