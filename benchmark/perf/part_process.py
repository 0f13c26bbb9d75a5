"""Measures a part in its own process: memory that malloc keeps from one part would make the next one faster."""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from visual_decathlon.benchmark.runtime.progress import ProgressCallback
from visual_decathlon.datasets.child_processes import block_stop_signals
from visual_decathlon.datasets.cores import cores
from visual_decathlon.datasets.errors import InputError


def measured(name: str, cache: Path, progress: ProgressCallback) -> Iterator[dict]:
    """The lines of a part as they are measured; `progress` is called with the part's progress.

    At the end of any kind, neither the process nor one that it started is left. Raises InputError with the part's own
    message, or where its process died.
    """
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_measure, args=(name, cache, there))
    with block_stop_signals():  # until it has its own session
        process.start()
    there.close()  # only the child's end is open: reading ends when the child does
    try:
        while True:
            kind, *content = here.recv()
            if kind == "end":
                return
            if kind == "fault":
                raise InputError(content[0])
            if kind == "line":
                yield content[0]
            else:
                progress(*content)
    except EOFError:
        process.join()
        raise InputError(
            f"{name}: the process that measured it ended with {process.exitcode} before it was done, probably "
            "out of memory; earlier measurements are kept",
            field="only",
        ) from None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()


def _measure(name: str, cache: Path, home: Connection) -> None:
    """In the child: measure in an own session, so that Ctrl-C reaches only the parent, which ends the whole session."""
    os.setsid()
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os.killpg(0, signal.SIGKILL)), daemon=True).start()
    import torch

    from visual_decathlon.benchmark.perf.parts import PARTS

    torch.set_num_threads(cores())
    try:
        for line in PARTS[name](cache, lambda *progress: home.send(("progress", *progress))):
            home.send(("line", dataclasses.asdict(line)))
        home.send(("end",))
    except InputError as error:
        home.send(("fault", str(error)))
