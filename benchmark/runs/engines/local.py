"""Processes on this machine that do jobs side by side; the death of one is that of its job alone.

On a CPU each job runs in a process with one thread: two of them train a slim network about 1.3 times
faster than one with two threads, a job's numbers do not depend on how many cores a machine has, and
jobs beside each other do not wait for each other's threads. Each process has a pipe of its own, so there is nothing
that one of them could break for the others, or leave behind in the system.
"""

import multiprocessing
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import connection
from typing import Any, NamedTuple

from visual_decathlon.benchmark.runs.job import Job
from visual_decathlon.benchmark.runtime.numerics import nondeterministic_operation
from visual_decathlon.benchmark.runtime.progress import Report
from visual_decathlon.datasets.child_processes import block_stop_signals, end_with_parent
from visual_decathlon.datasets.errors import InputError, Unwritable
from visual_decathlon.datasets.text import printable

# Read by glibc when a process starts. It gives large blocks back to the system at once and fetches them again at every
# step; told to keep them, a step is about 7 % faster (width 0.25 and 0.5, batch 32). Huge pages, asked for where the
# heap grows by more than one of them, spare the processor many look-ups: about 5 % (width 0.25, batch 16).
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**26),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "OMP_NUM_THREADS": "1",
}


class Told(NamedTuple):
    """What a job tells on its way: an epoch that ended, what it is doing and how far that is, or a sentence."""

    job: Job
    row: dict


class Ended(NamedTuple):
    """A job ended: with a result; a fault; or the death of its process, which says how. A defect has its trace."""

    job: Job
    result: Any = None
    fault: InputError | None = None
    death: str | None = None
    trace: str | None = None


class Home:
    """A job's way home: its epochs as they end, and what it does beside them."""

    def __init__(self, send: Callable[[dict], None]):
        self._send = send
        self.doing("starting")  # before torch is loaded

    def __call__(self, row: dict) -> None:
        self._send(row)

    def doing(self, what: str, done: float = 0, of: int = 0) -> None:
        self._send({"doing": what, "done": done, "of": of})

    def note(self, sentence: str) -> None:
        self._send({"note": sentence})


def outcome(job: Job, device: str, report: Report) -> Ended:
    """Do the job here; whatever it raises becomes its end."""
    try:
        return Ended(job, result=job.execute(device, report))
    except Unwritable as fault:
        return Ended(job, fault=Unwritable(str(fault)))
    except InputError as fault:
        return Ended(job, fault=InputError(str(fault)))
    except Exception as error:
        if memory_is_out(error):
            return Ended(job, death="memory ran out")
        if isinstance(error, RuntimeError) and (operation := nondeterministic_operation(error)):
            sentence = f"{operation} gives other numbers each time on a GPU; SET=deterministic=false allows it"
            return Ended(job, fault=InputError(f"{job.describe()}: {sentence}"))
        trace = "\n".join(map(printable, "".join(traceback.format_exception(error)).splitlines()))
        sentence = f"{job.describe()}: ended by a defect, whose trace stands above; the other runs went on"
        return Ended(job, fault=InputError(sentence), trace=trace)


def memory_is_out(error: Exception) -> bool:
    """Whether Python, torch's allocator of the CPU, or a GPU's found no memory."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))
    )


def _serve(pipe: connection.Connection, device: str) -> None:
    """The life of a worker: jobs come in, epochs and ends go out, until the pipe is closed."""
    end_with_parent()
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            break
        if job is None:  # there will be one
            with suppress(Exception):  # whatever is wrong, the job tells it
                import visual_decathlon.benchmark.runs.execute  # noqa: F401
            continue
        end = outcome(job, device, Home(pipe.send))
        pipe.send(end._replace(job=None))
        if end.death:  # what it still holds would be the next one's want
            break
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # all it made is on disk or sent; Python would take torch apart for a second, and the command waits


class _Worker:
    """A process with a pipe, and the job it is at."""

    def __init__(self, device: str):
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_serve, args=(theirs, device))
        with block_stop_signals():
            self.process.start()
        theirs.close()
        self.job: Job | None = None

    def begin(self, job: Job) -> bool:
        """False where the process died while it waited."""
        try:
            self.pipe.send(job)
        except OSError:
            return False
        self.job = job
        return True

    def prepare(self) -> None:
        """Let it import what a job needs. Where it died a job will find that."""
        with suppress(OSError):
            self.pipe.send(None)

    def next(self) -> Told | Ended:
        """What it has to say; its death is the end of its job."""
        job = self.job
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return Ended(job, death=how_it_died(self.process.exitcode))
        return message._replace(job=job) if isinstance(message, Ended) else Told(job, message)

    def end(self, now: bool) -> None:
        """Let it go, or kill it `now`: what is unfinished is on disk up to its last epoch."""
        if now:
            self.process.kill()
        self.pipe.close()
        self.process.join()
        self.process.close()


def how_it_died(code: int) -> str:
    """In words, from an exit code as `multiprocessing` has it."""
    if code == -signal.SIGKILL:
        return "its process was killed, mostly for want of memory"
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended itself with code {code}"


class Workers:
    """Up to `count` processes for jobs on a device, started as they are needed; used as a context manager."""

    def __init__(self, count: int, device: str):
        self.count, self.device = count, device
        self._queue: deque[Job] = deque()
        self._idle: list[_Worker] = []
        self._busy: dict[connection.Connection, _Worker] = {}
        os.environ.update({name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()})

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.end(now=kind is not None)

    def end(self, now: bool) -> None:
        """Let them go, or kill them `now`."""
        workers, self._idle, self._busy = self._idle + list(self._busy.values()), [], {}
        for worker in workers:
            worker.end(now)

    def prepare(self, most: int) -> None:
        """Start up to `most` of them now, and let them import what jobs need, where none is started yet."""
        if not self._idle and not self._busy:
            for _ in range(min(most, self.count)):
                self._idle.append(_Worker(self.device))
                self._idle[-1].prepare()

    def submit(self, job: Job) -> None:
        """Jobs begin in this order."""
        self._queue.append(job)

    def events(self) -> Iterator[Told | Ended]:
        """What happens, as it happens, until all jobs ended, those submitted meanwhile too."""
        while self._queue or self._busy:
            while self._queue and len(self._busy) < self.count:
                self._begin(self._queue.popleft())
            for pipe in connection.wait(list(self._busy)):
                worker = self._busy[pipe]
                event = worker.next()
                if isinstance(event, Ended):
                    del self._busy[pipe]
                    if event.death:
                        worker.end(now=True)
                    else:
                        self._idle.append(worker)
                yield event

    def _begin(self, job: Job) -> None:
        while self._idle:
            worker = self._idle.pop()
            if worker.begin(job):
                break
            worker.end(now=True)
        else:
            worker = _Worker(self.device)
            self._idle.append(worker)  # so that it is ended whatever happens before it is busy
            worker.begin(job)
            self._idle.remove(worker)
        self._busy[worker.pipe] = worker
