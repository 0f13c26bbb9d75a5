"""Schedules jobs in the order of their dependencies; a job waits for nothing else."""

from pathlib import Path

from visual_decathlon.benchmark.config.specs import Run
from visual_decathlon.benchmark.records.provenance import Provenance
from visual_decathlon.benchmark.records.store import remove_half_written
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.benchmark.runs.engines import Engine, JobEnded
from visual_decathlon.benchmark.runs.job import Job, jobs_for
from visual_decathlon.benchmark.runtime.device_sharing import sweep_notes
from visual_decathlon.benchmark.runtime.precision import warning
from visual_decathlon.datasets.errors import Unwritable, option

LOSSES = 3
"""So many times a job may be lost with the machine that executes it, before it counts as failed."""


def run_jobs(
    todo: list[Run],
    results: Path,
    provenance: Provenance,
    engine: Engine,
    screen: Screen,
    failures: list[str],
) -> None:
    """Make each missing backbone and joint training once, then execute the runs, the longest first.

    A message for each job that failed is appended to `failures`. Jobs which depend on it are left out, all others are
    executed. A job whose process died is tried once more, alone, after the others; one that was lost with its machine
    is given out again at once, up to LOSSES times. Raises Unwritable at the first job that could not write, because
    every other job would fail in the same way.
    """
    jobs = jobs_for(todo, results, provenance)
    screen.expect(sum(job.estimated_cost for job in jobs))
    if text := warning(todo[0].profile.precision, engine.device):  # all runs of a command have one profile
        screen.say(text)
    try:
        _Schedule(jobs, engine, screen, failures).run()
    except BaseException:
        engine.end(now=True)
        for cache in {run.backbone.cache.parent for run in todo}:  # remove what killed processes left half-written
            remove_half_written(results, cache)
        sweep_notes(engine.device)
        raise


class _Schedule:
    """Submits each job when its dependencies are done, and reports events to the screen."""

    def __init__(self, jobs: list[Job], engine: Engine, screen: Screen, failures: list[str]):
        self.waiting = {job.key: job for job in jobs}
        self.undone = set(self.waiting)
        self.engine, self.screen, self.failures = engine, screen, failures
        self.victims: dict[str, Job] = {}  # jobs whose process died once
        self.retries: list[Job] = []
        self.losses: dict[str, list[str]] = {}  # why a job was lost, each time
        self.noted: set[str] = set()

    def run(self) -> None:
        """Execute all jobs; returns when each of them ended or can not be executed."""
        self._submit_ready()
        while True:
            for event in self.engine.events():
                if isinstance(event, JobEnded):
                    self._end(event)
                else:
                    self._report(*event)
            if not self.retries:
                return
            self._submit(self.retries.pop(0))

    def _submit_ready(self) -> None:
        for key, job in list(self.waiting.items()):
            if not job.dependencies & self.undone:
                del self.waiting[key]
                self._submit(job)

    def _submit(self, job: Job) -> None:
        self.engine.submit(job)
        self.screen.begin(job.key, job.describe(), job.epochs)

    def _report(self, job: Job, message: dict) -> None:
        if "note" in message:
            if message["note"] not in self.noted:
                self.noted.add(message["note"])
                self.screen.say(message["note"])
        elif "place" in message:
            self.screen.begin(job.key, f"{job.describe()} on {message['place']}", job.epochs)
        elif "doing" in message:
            self.screen.doing(job.key, message["doing"], message["done"], message["of"])
        else:
            self.screen.epoch(job.key, message, job.estimated_cost / job.epochs)

    def _end(self, end: JobEnded) -> None:
        job = end.job
        if isinstance(end.error, Unwritable):
            raise Unwritable(f"{end.error}; then the same command goes on where it was")
        if end.lost:
            self._lost(job, end.lost)
        elif end.death and job.key not in self.victims:
            self.victims[job.key] = job
            self.retries.append(job)
            self.screen.end(job.key, f"{job.describe()}: {end.death}; it is tried once more after the others, alone")
        elif end.error or end.death:
            self.failures += [end.trace] if end.trace else []
            self.failures.append(str(end.error) if end.error else _second_death(job, end.death))
            self.screen.end(job.key, f"{job.describe()}: not done")
        else:
            self.undone.discard(job.key)
            self.screen.end(job.key, job.summary(end.result))
            self._submit_ready()

    def _lost(self, job: Job, reason: str) -> None:
        reasons = self.losses.setdefault(job.key, [])
        reasons.append(reason)
        if len(reasons) < LOSSES:
            self.screen.end(job.key, f"{job.describe()}: {reason}; it is given out again")
            self._submit(job)
        else:
            self.failures.append(f"{job.describe()}: lost {LOSSES} times: {'; '.join(reasons)}")
            self.screen.end(job.key, f"{job.describe()}: not done")


def _second_death(job: Job, death: str) -> str:
    return (
        f"{job.describe()}: {death}, the second time with no other job next to it; with more memory (or "
        f"{option('settings')}batch= "
        "smaller, which is another run) the same command goes on where it was"
    )
