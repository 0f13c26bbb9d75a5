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
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import connection

from visual_decathlon.benchmark.runs.engines import JobEnded, JobProgress
from visual_decathlon.benchmark.runs.engines.in_process import JobReport, execute_job
from visual_decathlon.benchmark.runs.job import Job
from visual_decathlon.datasets.children import end_with_parent, sheltered

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
        end = execute_job(job, device, JobReport(pipe.send))
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
        with sheltered():
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

    def next(self) -> JobProgress | JobEnded:
        """What it has to say; its death is the end of its job."""
        job = self.job
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return JobEnded(job, death=describe_death(self.process.exitcode))
        return message._replace(job=job) if isinstance(message, JobEnded) else JobProgress(job, message)

    def end(self, now: bool) -> None:
        """Let it go, or kill it `now`: what is unfinished is on disk up to its last epoch."""
        if now:
            self.process.kill()
        self.pipe.close()
        self.process.join()
        self.process.close()


def describe_death(code: int) -> str:
    """In words, from an exit code as `multiprocessing` has it."""
    if code == -signal.SIGKILL:
        return "its process was killed, mostly for want of memory"
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended itself with code {code}"


class LocalEngine:
    """Up to `count` processes for jobs on a device, started as they are needed; used as a context manager."""

    def __init__(self, count: int, device: str):
        self.count, self.device = count, device
        self._queue: deque[Job] = deque()
        self._idle: list[_Worker] = []
        self._busy: dict[connection.Connection, _Worker] = {}
        os.environ.update({name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()})

    def __enter__(self) -> "LocalEngine":
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

    def events(self) -> Iterator[JobProgress | JobEnded]:
        """What happens, as it happens, until all jobs ended, those submitted meanwhile too."""
        while self._queue or self._busy:
            while self._queue and len(self._busy) < self.count:
                self._begin(self._queue.popleft())
            for pipe in connection.wait(list(self._busy)):
                worker = self._busy[pipe]
                event = worker.next()
                if isinstance(event, JobEnded):
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
