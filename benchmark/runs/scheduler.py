"""Schedules jobs in the order of what they need: nothing waits for what it does not need."""

from pathlib import Path

from visual_decathlon.benchmark.config.specs import Run
from visual_decathlon.benchmark.records.provenance import Provenance
from visual_decathlon.benchmark.records.store import sweep
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.benchmark.runs.engines import Engine, JobEnded
from visual_decathlon.benchmark.runs.job import Job, jobs_for
from visual_decathlon.benchmark.runtime.device_sharing import sweep_notes
from visual_decathlon.benchmark.runtime.precision import warning
from visual_decathlon.datasets.errors import Unwritable


def run_jobs(
    todo: list[Run],
    results: Path,
    provenance: Provenance,
    pool: Engine,
    screen: Screen,
    faults: list[str],
) -> None:
    """Train each backbone and joint training that is missing once, then the runs that stand on it, the longest first.

    Sentences of what could not be done are appended to `faults`; what stands on a fault is not run, all else is. A job
    whose process died is tried once more, alone, when the others are done. Raises Unwritable at the first job that
    could not write: every other would meet the same.
    """
    jobs = jobs_for(todo, results, provenance)
    screen.expect(sum(job.estimated_cost for job in jobs))
    if text := warning(todo[0].profile.precision, pool.device):  # of one command, one profile
        screen.say(text)
    try:
        _Schedule(jobs, pool, screen, faults).run()
    except BaseException:
        pool.end(now=True)
        for cache in {run.backbone.cache.parent for run in todo}:  # of processes that were killed while they wrote
            sweep(results, cache)
        sweep_notes(pool.device)
        raise


class _Schedule:
    def __init__(self, jobs: list[Job], pool: Engine, screen: Screen, faults: list[str]):
        self.waiting = {job.key: job for job in jobs}
        self.undone = set(self.waiting)
        self.pool, self.screen, self.faults = pool, screen, faults
        self.victims: dict[str, Job] = {}  # whose process died once
        self.again: list[Job] = []
        self.noted: set[str] = set()

    def run(self) -> None:
        self._begin_ready()
        while True:
            for event in self.pool.events():
                if isinstance(event, JobEnded):
                    self._end(event)
                else:
                    self._tell(*event)
            if not self.again:
                return
            self._begin(self.again.pop(0))

    def _begin_ready(self) -> None:
        for key, job in list(self.waiting.items()):
            if not job.dependencies & self.undone:
                del self.waiting[key]
                self._begin(job)

    def _begin(self, job: Job) -> None:
        self.pool.submit(job)
        self.screen.begin(job.key, job.describe(), job.epochs)

    def _tell(self, job: Job, row: dict) -> None:
        if "note" in row:
            if row["note"] not in self.noted:
                self.noted.add(row["note"])
                self.screen.say(row["note"])
        elif "doing" in row:
            self.screen.doing(job.key, row["doing"], row["done"], row["of"])
        else:
            self.screen.epoch(job.key, row, job.estimated_cost / job.epochs)

    def _end(self, end: JobEnded) -> None:
        job = end.job
        if isinstance(end.fault, Unwritable):
            raise Unwritable(f"{end.fault}; then the same command goes on where it was")
        if end.death and job.key not in self.victims:
            self.victims[job.key] = job
            self.again.append(job)
            self.screen.end(job.key, f"{job.describe()}: {end.death}; it is tried once more after the others, alone")
        elif end.fault or end.death:
            self.faults += [end.trace] if end.trace else []
            self.faults.append(str(end.fault) if end.fault else _dead(job, end.death))
            self.screen.end(job.key, f"{job.describe()}: not done")
        else:
            self.undone.discard(job.key)
            self.screen.end(job.key, job.summary(end.result))
            self._begin_ready()


def _dead(job: Job, how: str) -> str:
    return (
        f"{job.describe()}: {how}, the second time with nothing beside it; with more memory (or SET=batch= smaller, "
        "which is another run) the same command goes on where it was"
    )
