"""A process that executes jobs one after the other, with a pipe of its own to the process that started it.

There is nothing shared that one process could break for the others, or leave behind in the system.
"""

import multiprocessing
import os
import signal
import sys
from contextlib import suppress
from multiprocessing import connection

from visual_decathlon.benchmark.runs.engines import JobEnded, JobProgress
from visual_decathlon.benchmark.runs.engines.in_process import JobReport, execute_job
from visual_decathlon.benchmark.runs.job import Job
from visual_decathlon.datasets.child_processes import block_stop_signals, end_with_parent

# glibc reads these when a process starts. By default it returns large blocks to the system at once and allocates them
# again in every step; a step is about 7 % faster when it keeps them (width 0.25 and 0.5, batch 32). Huge pages, which
# glibc uses where the heap grows by more than one of them, save the processor many address look-ups: about 5 % (width
# 0.25, batch 16).
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**26),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "OMP_NUM_THREADS": "1",
}


def set_environment() -> None:
    """Give this process, and so the workers that it starts, the variables of ENVIRONMENT that are not set yet."""
    os.environ.update({name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()})


def _work(pipe: connection.Connection, device: str) -> None:
    """The main loop of a worker process: receives jobs, sends messages and ends, until the pipe is closed."""
    end_with_parent()
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            break
        if job is None:  # jobs come later: import now
            with suppress(Exception):  # the first job reports the same error
                import visual_decathlon.benchmark.runs.execute  # noqa: F401
            continue
        end = execute_job(job, device, JobReport(pipe.send))
        pipe.send(end._replace(job=None))
        if end.death:  # the memory that it still holds is missing for the next job
            break
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # all results are on disk or sent; Python would clean up torch for a second while the command waits


class Worker:
    """A process with its pipe, and the job that it executes."""

    def __init__(self, device: str):
        spawn = multiprocessing.get_context("spawn")
        self.pipe, child_end = spawn.Pipe()
        self.process = spawn.Process(target=_work, args=(child_end, device))
        with block_stop_signals():
            self.process.start()
        child_end.close()
        self.job: Job | None = None

    def start(self, job: Job) -> bool:
        """Send the job to the process. Returns False if the process died while it was idle."""
        try:
            self.pipe.send(job)
        except OSError:
            return False
        self.job = job
        return True

    def prepare(self) -> None:
        """Let the process import what jobs need. If it died, `start` will notice."""
        with suppress(OSError):
            self.pipe.send(None)

    def receive(self) -> JobProgress | JobEnded:
        """Wait for the next event of the job; the death of the process is the end of its job."""
        job = self.job
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return JobEnded(job, death=describe_death(self.process.exitcode))
        return message._replace(job=job) if isinstance(message, JobEnded) else JobProgress(job, message)

    def end(self, now: bool) -> None:
        """Close the pipe and wait until the process ends; kill it first if `now`.

        Nothing is lost by a kill: an unfinished training is on disk up to its last epoch.
        """
        if now:
            self.process.kill()
        self.pipe.close()
        self.process.join()
        self.process.close()


def describe_death(code: int) -> str:
    """Describe in words how a process ended, from the exit code that `multiprocessing` gives."""
    if code == -signal.SIGKILL:
        return "its process was killed, most likely because memory ran out"
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended itself with code {code}"
