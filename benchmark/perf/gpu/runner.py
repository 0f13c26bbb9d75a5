"""Runs the steps one after the other, each in a process of its own that ends with its limit, and hears their rows."""

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

POLL = 0.1  # s between two looks at the clock while nothing is heard

Hear = Callable[[str, object], None]
"""hear(kind, content): "row" with a dictionary, "fault" with a sentence."""
Words = Callable[[Step, Path, int], list[str]]
"""The command of a step, of its empty folder and the descriptor that it writes to."""


def run_plan(
    steps: Sequence[Step],
    words: Words,
    keep: Callable[[Step, dict], None],
    *,
    budget: float,
    cache: Path,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[tuple[Step, str]]:
    """Run what fits into `budget` seconds; yields each step before it starts, with "", and its end.

    The end is "done" or a sentence: why it was skipped, ended or failed. `keep` is given its rows as they come.
    One that fails stops no other.
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

            def hear(kind: str, content: object, step: Step = step, faults: list[str] = faults) -> None:
                if kind == "fault":
                    faults.append(str(content))
                else:
                    keep(step, content)

            end = run_step(lambda home: words(step, Path(folder), home), min(step.limit, left), hear, clock)  # noqa: B023
            yield step, f"failed: {faults[0]}" if faults and end != "done" else end


def run_step(
    words: Callable[[int], list[str]], limit: float, hear: Hear, clock: Callable[[], float] = time.monotonic
) -> str:
    """Run one command, whose output goes to the screen, until its end or for `limit` seconds; returns how it ended.

    `words(descriptor)` is the command. However this ends, neither the process nor one that it started is left.
    """
    here, there = os.pipe()
    begin = clock()
    # A session of its own, which is ended as a whole. It sees by its stdin that this process is gone.
    process = subprocess.Popen(
        words(there), cwd=HOME, stdin=subprocess.PIPE, pass_fds=(there,), start_new_session=True, env=_environment()
    )
    os.close(there)
    try:
        heard = _Lines(here, hear)
        while heard.read(POLL) and process.poll() is None:
            if clock() - begin > limit:
                return f"ended: it took longer than its limit of {limit:.0f} s"
        code = process.wait(max(0.0, limit - (clock() - begin)))
        while heard.read(0):
            pass
        return "done" if code == 0 else f"failed: it ended with {code}"
    except subprocess.TimeoutExpired:
        return f"ended: it took longer than its limit of {limit:.0f} s"
    finally:
        for number in [process.pid, *_below(process.pid)]:  # a test's commands have groups of their own
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(os.getpgid(number), signal.SIGKILL)
        process.wait()
        process.stdin.close()
        os.close(here)


def _below(process: int) -> list[int]:
    """Its children, their children and so on, as Linux tells them; elsewhere none."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found = list(children.get(process, []))
    for number in found:  # which grows meanwhile
        found += children.get(number, [])
    return found


class _Lines:
    """What comes through a pipe, a JSON message a line."""

    def __init__(self, descriptor: int, hear: Hear):
        self._descriptor, self._hear, self._rest = descriptor, hear, b""

    def read(self, seconds: float) -> bool:
        """Wait so long for something and pass on what is whole; False when the other end is closed or silent at 0 s."""
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return seconds > 0
        content = os.read(self._descriptor, 1 << 16)
        *lines, self._rest = (self._rest + content).split(b"\n")
        for line in lines:
            self._hear(*json.loads(line))
        return bool(content)


def _environment() -> dict[str, str]:
    """The user's, PYTHONPATH with it; what is printed is on the screen at once, also where that is a file.

    A bench within is not the command that make was given.
    """
    return {name: value for name, value in os.environ.items() if name != "BENCH_COMMAND"} | {"PYTHONUNBUFFERED": "1"}


def child(device: str) -> Words:
    """The commands of the real steps."""
    return lambda step, folder, home: [
        *(sys.executable, "-m", "visual_decathlon.benchmark.perf.gpu.child", step.name, device, str(folder), str(home))
    ]
