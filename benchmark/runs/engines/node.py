"""A worker on a machine of a cluster: gets a job and its files, lets a process execute it, gives back what it made.

Nothing here knows the cluster's library. The job runs in a process like those of the local engine, so that its numbers
are the same, and in folders of its own, so that the driver alone writes the results.
"""

import contextlib
import errno
import hashlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from visual_decathlon.benchmark.config.folders import HOME
from visual_decathlon.benchmark.records.environment import name_node
from visual_decathlon.benchmark.records.provenance import versions
from visual_decathlon.benchmark.runs.engines import JobEnded, JobProgress
from visual_decathlon.benchmark.runs.engines.folders import Folders
from visual_decathlon.benchmark.runs.engines.node_files import Offer, local_copy, remove_unused
from visual_decathlon.benchmark.runs.engines.worker import Worker, set_environment
from visual_decathlon.benchmark.runs.job import Job
from visual_decathlon.datasets.errors import Unwritable, reason
from visual_decathlon.datasets.io import clear, make_folder, remove, temporary_name

GATHERED = 0.02  # s in which messages go together: each list costs the driver a millisecond
CHECKPOINT_EVERY = 60.0  # s between two checkpoints of a job that travel to the driver


_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
"""Errors of a disk that cannot be written, and so fail every later job too."""


class Software(NamedTuple):
    """The software that decides numbers: versions of Python and libraries, and a digest of the suite's own code."""

    versions: dict[str, str]
    code: str

    @classmethod
    def here(cls) -> "Software":
        """The software of this process."""
        return cls(json.loads(versions()), _code())

    def difference(self, other: "Software") -> str:
        """What differs on the `other` machine, in words; "" where nothing does."""
        names = [*self.versions, *(name for name in other.versions if name not in self.versions)]
        pairs = [(name, other.versions.get(name, "none"), self.versions.get(name, "none")) for name in names]
        told = [f"{name} {there} instead of {here}" for name, there, here in pairs if there != here]
        return ", ".join(told) or ("another version of this suite" if self.code != other.code else "")


@cache
def _code() -> str:
    digest = hashlib.sha256()
    for top in ("benchmark", "datasets", "methods"):
        for path in sorted((HOME / top).rglob("*.py")):
            digest.update(f"{path.relative_to(HOME)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _files(paths: Iterable[Path]) -> list[Path]:
    """Those of the paths that are files, and the files in those that are folders."""
    return [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path]) if file.is_file()]


class Outcome(NamedTuple):
    """The end of a job, and the files that it made, by their paths on the driver's machine."""

    end: JobEnded
    files: dict[Path, bytes]


class Checkpoint(NamedTuple):
    """The checkpoint of a running job."""

    content: bytes


class NodeWorker:
    """Executes jobs of a driver whose `folders` and environment `variables` these are.

    `digest` and `read` are those of the driver's FileServer.
    """

    def __init__(
        self,
        folders: Folders,
        device: str,
        variables: dict[str, str],
        digest: Callable[[Path], str],
        read: Callable[[Path, int], bytes],
    ):
        self._folders, self._device, self._digest, self._read = folders, device, digest, read
        self._home = Path(tempfile.gettempdir(), f"visual-decathlon-{os.getuid()}", "cluster")
        self._worker: Worker | None = None
        os.environ.update(variables)
        name_node(platform.node())
        set_environment()
        clear(self._home)
        remove_unused(self._home / "files")

    def execute(self, job: Job, offered: list[Offer]) -> Iterator[list[dict | Checkpoint | Outcome]]:
        """Execute the job; yields lists of its messages, its checkpoints now and then, and at last its outcome."""
        place = temporary_name(self._home / "job")
        mine = Folders(place / "results", place / "cache")
        try:
            yield from self._place(offered, mine)
            yield from self._run(self._folders.moved(job, mine), mine)
        except OSError as error:
            end = JobEnded(None, lost=f"its files did not arrive ({reason(error)})")
            if error.errno in _DISK:
                end = JobEnded(None, error=Unwritable(f"{self._home} cannot be written ({reason(error)})"))
            yield [Outcome(end, {})]
        finally:
            remove(place)

    def _place(self, offered: list[Offer], mine: Folders) -> Iterator[list[dict]]:
        """Link the offered files into the job's folders; those that this machine does not see are fetched first."""
        for number, offer in enumerate(offered):
            here, fetched = local_copy(offer, self._digest, self._read, self._home / "files")
            link = self._folders.in_other(offer.path, mine)
            make_folder(link.parent)
            link.symlink_to(here)
            if fetched:
                yield [{"doing": "fetching files", "done": number + 1, "of": len(offered)}]

    def _run(self, job: Job, mine: Folders) -> Iterator[list[dict | Checkpoint | Outcome]]:
        worker, self._worker = self._worker or Worker(self._device), None
        if not worker.start(job):  # it died while it was idle
            worker.end(now=True)
            worker = Worker(self._device)
            worker.start(job)
        sent, said = time.monotonic(), []
        try:
            while isinstance(event := worker.receive(), JobProgress):
                said.append(event.message)
                if "epoch" in event.message and time.monotonic() - sent > CHECKPOINT_EVERY:
                    sent = time.monotonic()
                    with contextlib.suppress(FileNotFoundError):
                        said.append(Checkpoint(job.checkpoint.read_bytes()))
                if not worker.pipe.poll(GATHERED):
                    yield said
                    said = []
        except BaseException:  # the driver wants no more, or what it should get cannot be read
            worker.end(now=True)
            raise
        if event.death:
            worker.end(now=True)
        else:
            self._worker = worker
        end = event._replace(job=None)
        if end.error:
            end = end._replace(error=type(end.error)(mine.reworded(str(end.error), self._folders)))
        made = _files(job.writes) if end.error is None and not end.death else []
        yield [*said, Outcome(end, {mine.in_other(path, self._folders): path.read_bytes() for path in made})]
