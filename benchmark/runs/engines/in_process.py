"""Executes one job in this process and turns every exception into the job's end. Workers of all engines use it."""

import traceback
from collections.abc import Callable

from visual_decathlon.benchmark.runs.engines import JobEnded
from visual_decathlon.benchmark.runs.job import Job
from visual_decathlon.benchmark.runtime.numerics import offender
from visual_decathlon.benchmark.runtime.progress import Report
from visual_decathlon.datasets.errors import InputError, Unwritable
from visual_decathlon.datasets.text import printable


class JobReport:
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


def execute_job(job: Job, device: str, report: Report) -> JobEnded:
    """Do the job here; whatever it raises becomes its end."""
    try:
        return JobEnded(job, result=job.execute(device, report))
    except Unwritable as fault:
        return JobEnded(job, fault=Unwritable(str(fault)))
    except InputError as fault:
        return JobEnded(job, fault=InputError(str(fault)))
    except Exception as error:
        if is_out_of_memory(error):
            return JobEnded(job, death="memory ran out")
        if isinstance(error, RuntimeError) and (operation := offender(error)):
            sentence = f"{operation} gives other numbers each time on a GPU; SET=deterministic=false allows it"
            return JobEnded(job, fault=InputError(f"{job.describe()}: {sentence}"))
        trace = "\n".join(map(printable, "".join(traceback.format_exception(error)).splitlines()))
        sentence = f"{job.describe()}: ended by a defect, whose trace stands above; the other runs went on"
        return JobEnded(job, fault=InputError(sentence), trace=trace)


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python, torch's allocator of the CPU, or a GPU's found no memory."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))
    )
