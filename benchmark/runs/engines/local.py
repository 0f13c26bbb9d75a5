"""An engine with processes on this machine. If a process dies, only its own job is lost.

On a CPU each job runs in a process with one thread: two of them train a slim network about 1.3 times faster than one
process with two threads, the numbers of a job do not depend on how many cores a machine has, and jobs which run at the
same time do not wait for each other's threads.
"""

from collections import deque
from collections.abc import Collection, Iterator
from multiprocessing import connection

from visual_decathlon.benchmark.config.specs import Run
from visual_decathlon.benchmark.runs.engines import JobEnded, JobProgress
from visual_decathlon.benchmark.runs.engines.worker import Worker, set_environment
from visual_decathlon.benchmark.runs.job import Job
from visual_decathlon.benchmark.runs.worker_count import default_workers
from visual_decathlon.benchmark.runtime.devices import on_cpu
from visual_decathlon.datasets.cores import cores


class LocalEngine:
    """Executes jobs on a device in up to `count` processes, which are started when they are needed.

    Implements `Engine`, as a context manager. A `count` of None is chosen by `begin`.
    """

    def __init__(self, count: int | None, device: str):
        self._asked, self.count, self.device = count, count or cores(), device
        self._queue: deque[Job] = deque()
        self._idle: list[Worker] = []
        self._busy: dict[connection.Connection, Worker] = {}
        set_environment()

    def __enter__(self) -> "LocalEngine":
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.end(now=kind is not None)

    def end(self, now: bool) -> None:
        """End all processes: after their jobs, or at once if `now`."""
        workers, self._idle, self._busy = self._idle + list(self._busy.values()), [], {}
        for worker in workers:
            worker.end(now)

    def prepare(self, most: int) -> None:
        """On a CPU, start up to `most` processes and let them import what jobs need, unless there are any already."""
        if on_cpu(self.device) and not self._idle and not self._busy:
            for _ in range(min(most, self.count)):
                self._idle.append(Worker(self.device))
                self._idle[-1].prepare()

    def begin(self, todo: Collection[Run]) -> None:
        """Choose the number of processes for these runs, where the caller did not give it."""
        self.count = self._asked or default_workers(self.device, todo)

    def submit(self, job: Job) -> None:
        """Add a job to the queue. Jobs start in the order in which they are submitted."""
        self._queue.append(job)

    def events(self) -> Iterator[JobProgress | JobEnded]:
        """Yield events as they happen until every job ended, also of jobs which are submitted meanwhile."""
        while self._queue or self._busy:
            while self._queue and len(self._busy) < self.count:
                self._start(self._queue.popleft())
            for pipe in connection.wait(list(self._busy)):
                worker = self._busy[pipe]
                event = worker.receive()
                if isinstance(event, JobEnded):
                    del self._busy[pipe]
                    if event.death:
                        worker.end(now=True)
                    else:
                        self._idle.append(worker)
                yield event

    def _start(self, job: Job) -> None:
        while self._idle:
            worker = self._idle.pop()
            if worker.start(job):
                break
            worker.end(now=True)
        else:
            worker = Worker(self.device)
            self._idle.append(worker)  # so that `end` reaches it if an exception comes before it is busy
            worker.start(job)
            self._idle.remove(worker)
        self._busy[worker.pipe] = worker
