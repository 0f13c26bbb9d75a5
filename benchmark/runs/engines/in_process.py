"""Executes one job in this process and turns every exception into the job's end. Workers of all engines use it."""

import traceback
from collections.abc import Callable

from visual_decathlon.benchmark.runs.engines import JobEnded
from visual_decathlon.benchmark.runs.job import Job
from visual_decathlon.benchmark.runtime.memory import is_out_of_memory
from visual_decathlon.benchmark.runtime.numerics import nondeterministic_operation
from visual_decathlon.benchmark.runtime.progress import Report
from visual_decathlon.datasets.errors import InputError, Unwritable, option
from visual_decathlon.datasets.old_names import new_import
from visual_decathlon.datasets.text import printable


class JobReport:
    """The `report` of a job in a worker: passes every message of the job to `send`, as a dict."""

    def __init__(self, send: Callable[[dict], None]):
        self._send = send
        self.doing("starting")  # before torch is loaded

    def __call__(self, row: dict) -> None:
        self._send(row)

    def doing(self, what: str, done: float = 0, of: int = 0) -> None:
        """Report that `done` of `of` parts of the task `what` are done; 0 if their number is unknown."""
        self._send({"doing": what, "done": done, "of": of})

    def note(self, sentence: str) -> None:
        """Report a sentence that the user should read once."""
        self._send({"note": sentence})


def execute_job(job: Job, device: str, report: Report) -> JobEnded:
    """Execute the job in this process. Every exception that it raises becomes its end."""
    try:
        return JobEnded(job, result=job.execute(device, report))
    except Unwritable as error:
        return JobEnded(job, error=Unwritable(str(error)))
    except InputError as error:
        return JobEnded(job, error=InputError(str(error)))
    except Exception as error:
        if is_out_of_memory(error):
            return JobEnded(job, death="memory ran out")
        if isinstance(error, RuntimeError) and (operation := nondeterministic_operation(error)):
            sentence = (
                f"{operation} gives other numbers each time on a GPU; {option('settings')}deterministic=false allows it"
            )
            return JobEnded(job, error=InputError(f"{job.describe()}: {sentence}"))
        if sentence := new_import(error):  # a method's package imports where it computes
            return JobEnded(job, error=InputError(f"{job.describe()}: {sentence}"))
        trace = "\n".join(map(printable, "".join(traceback.format_exception(error)).splitlines()))
        sentence = f"{job.describe()}: ended by a defect, whose traceback is above; the other runs went on"
        return JobEnded(job, error=InputError(sentence), trace=trace)
