"""Processes that train side by side, and the messages they send.

On a CPU each job runs in a process with one thread: two of them train a slim network about 1.3 times
faster than one with two threads, a job's numbers do not depend on how many cores a machine has, and
jobs beside each other do not wait for each other's threads.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

from benchmark.cells import Backbone, Cell, Joint
from benchmark.provenance import Provenance
from datasets.errors import BadInput

THREADS = 1

# glibc gives large blocks back to the system at once and fetches them again at every step; told to keep
# them, a step is about 7 % faster (measured: width 0.25 and 0.5, batch 32). Read when a process starts.
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32), "OMP_NUM_THREADS": "1"}

_messages = None


def _begin(messages) -> None:
    """First thing in a worker: keep the way home, and leave when the parent is gone, however it went."""
    global _messages
    _messages = messages
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _tell(key: str, row: dict) -> None:
    _messages.put((key, row))


class Home:
    """A job's way home: its epochs as they end, and what it does beside them."""

    def __init__(self, key: str):
        self._key = key
        self.doing("starting")  # before torch is loaded

    def __call__(self, row: dict) -> None:
        _tell(self._key, row)

    def doing(self, what: str, done: float = 0, of: int = 0) -> None:
        _tell(self._key, {"doing": what, "done": done, "of": of})


def settle(precision: str) -> None:
    """One thread; and float32 is float32 on a GPU too, unless the precision asked for is tf32."""
    import torch

    torch.set_num_threads(THREADS)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"


def _pretrain(backbone: Backbone, device: str) -> None:
    home = Home(backbone.hash)
    from benchmark.networks import pretrain

    settle(backbone.profile.precision)
    try:
        pretrain(backbone, device, home)
    except BadInput as error:
        what = f"{backbone.images.domain.name}: pretraining the {backbone.structure} backbone"
        raise BadInput(f"{what}: {str(error).replace('SET=lr=', 'SET=pretrain.lr=')}") from None


def _together(joint: Joint, device: str) -> None:
    home = Home(joint.hash)
    from benchmark.joint import train_together

    settle(joint.backbone.profile.precision)
    try:
        train_together(joint, device, home)
    except BadInput as error:
        raise BadInput(f"{joint.method.partition('(')[0]}, over all domains: {error}") from None


def _cell(cell: Cell, results: Path, provenance: Provenance, device: str) -> dict:
    home = Home(cell.hash)
    from benchmark.cell import run_cell

    settle(cell.profile.precision)
    return run_cell(cell, results, provenance, device, home)


class Workers:
    """A pool whose jobs report each epoch; used as a context manager."""

    def __init__(self, count: int, device: str):
        self.device = device
        os.environ.update({name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()})
        spawn = multiprocessing.get_context("spawn")
        self._messages = spawn.SimpleQueue()
        self._pool = ProcessPoolExecutor(count, spawn, _begin, (self._messages,))

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is not None:  # stopped: what is unfinished is on disk up to its last epoch
            for process in list((self._pool._processes or {}).values()):
                process.kill()
        self._pool.shutdown(cancel_futures=True)

    def pretrain(self, backbone: Backbone) -> Future:
        return self._pool.submit(_pretrain, backbone, self.device)

    def together(self, joint: Joint) -> Future:
        return self._pool.submit(_together, joint, self.device)

    def cell(self, cell: Cell, results: Path, provenance: Provenance) -> Future:
        return self._pool.submit(_cell, cell, results, provenance, self.device)

    def finished(self, jobs: set[Future], told: Callable[[str, dict], None]) -> Iterator[Future]:
        """Yield each job as it ends, and those added to `jobs` meanwhile.

        `told(key, row)` is called for every message in between, of an epoch or of what is done beside them.
        """
        while jobs:
            done, _ = wait(jobs, timeout=0.2, return_when=FIRST_COMPLETED)
            while not self._messages.empty():
                told(*self._messages.get())
            jobs -= done
            yield from done


def outcome(job: Future, what: str):
    """The job's result; BadInput passes; a worker that died becomes one sentence."""
    from concurrent.futures.process import BrokenProcessPool

    try:
        return job.result()
    except BrokenProcessPool:
        raise BadInput(
            f"{what}: a worker process was killed, mostly for want of memory; run the same command again "
            "(it goes on where it was), with WORKERS=1 if it happens twice"
        ) from None
