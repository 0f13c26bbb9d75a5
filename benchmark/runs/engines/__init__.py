"""Engines execute jobs. An engine gets jobs and gives back events: the progress of a job, and its end with the result.

`local` has processes on this machine, `ray` actors on the machines of a cluster. Another engine implements `Engine`,
and its workers call `execute_job`.
"""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, Protocol

from visual_decathlon.benchmark.config.specs import Run
from visual_decathlon.benchmark.runs.job import Job
from visual_decathlon.datasets.errors import InputError


class JobProgress(NamedTuple):
    """A message of a running job: an epoch that ended, a step of its work with its progress, or a note for the user."""

    job: Job
    message: dict  # an epoch's row, {doing, done, of}, {note}, or {place}: the machine that it runs on


class JobEnded(NamedTuple):
    """The end of a job: its result, its error, or how its process died; `trace` is that of an unexpected error.

    `lost` says why the job ended through no fault of its own: its machine was lost, say.
    """

    job: Job
    result: Any = None
    error: InputError | None = None
    death: str | None = None
    trace: str | None = None
    lost: str | None = None


class Engine(Protocol):
    """The interface of an engine: an executor of jobs on `device`, at most `count` at a time.

    It is a context manager: on exit it ends its workers, without waiting for them where an exception leads out.
    """

    count: int  # how many jobs may run at the same time; known after `begin`
    device: str  # of every job, as torch names it

    def __enter__(self) -> "Engine":
        """Return the engine itself."""

    def __exit__(self, kind, error, trace) -> None:
        """Call `end`, with now=True where an exception leads out."""

    def prepare(self, most: int) -> None:
        """Start up to `most` workers before there are jobs, so that their imports take no time later."""

    def begin(self, todo: Collection[Run]) -> None:
        """Decide `count` and `device` for these runs. Called once, before the first `submit`. Raises InputError."""

    def submit(self, job: Job) -> None:
        """Add a job to the queue. Jobs start in the order in which they are submitted."""

    def events(self) -> Iterator[JobProgress | JobEnded]:
        """Yield the events of all jobs until every job ended, also of jobs which are submitted meanwhile.

        Every job has exactly one `JobEnded`, after its last `JobProgress`. The death of a worker ends its job alone.
        """

    def end(self, now: bool) -> None:
        """End all workers: when they are idle, or at once if `now`."""
