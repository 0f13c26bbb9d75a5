"""Counts the runs that share a device: those of this user by locked files, other programs on a GPU by NVML.

Each run locks a file of its own below the system's folder for temporary files. A run that begins counts the locked
files, including its own, and appends the count to each of them. So every run knows the largest number of runs during
its own time, although each run counts only once.
"""

import fcntl
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from visual_decathlon.benchmark.runtime.devices import on_cpu, properties
from visual_decathlon.benchmark.runtime.nvml import computing


class Shared:
    """One run's view of its device."""

    def __init__(self, device: str, notes: Path | None):
        self._device, self._notes = device, notes
        self._others: int | None = 0
        self.look()

    def look(self) -> None:
        """Counts the other programs that compute on a GPU now. Called now and then, since they write no count."""
        if self._notes is not None:
            noted = {int(path.name.partition("-")[0]) for path in self._notes.parent.glob("[!.]*")}
            others = _others(computing(self._device), noted)
            self._others = None if None in (others, self._others) else max(self._others, others)

    def most(self) -> int | None:
        """Returns the largest number of runs at once on the device so far, with this one; None where it is unknown."""
        self.look()
        try:
            counts = [int(line) for line in self._notes.read_text().split()]
        except (OSError, AttributeError, ValueError):
            return None
        return None if self._others is None else max(counts) + self._others


def _others(computing: set[int], noted: set[int]) -> int | None:
    """Counts the processes on the GPU that belong to no command of `noted` runs.

    The idle workers of such a command have a context on the GPU too, and are not counted. None where the process
    numbers are those of another namespace, as in a container, and there are more processes than `noted` ones: the
    others may be idle workers or other programs.
    """
    if computing and not computing & noted:
        return None if len(computing) > len(noted) else 0
    commands = {_parent(process) for process in noted}
    return sum(not {process, _parent(process)} & commands for process in computing - noted)


def _parent(process: int) -> int | None:
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


def _folder(device: str) -> Path:
    return Path(tempfile.gettempdir(), f"visual-decathlon-{os.getuid()}", _known_as(device))


def sweep_notes(device: str) -> None:
    """Removes the files of runs that were killed."""
    for path in _folder(device).glob("[!.]*"):
        _running(path)


@contextmanager
def sharing(device: str) -> Iterator[Shared]:
    """Counts a run on the device ("cpu", "cuda:0") until the end of the context."""
    folder = _folder(device)
    mine, notes = None, folder / f"{os.getpid()}-{uuid.uuid4().hex}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(folder / ".lock", "w") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            mine = open(notes, "w")  # noqa: SIM115  its lock is held until the end
            fcntl.flock(mine, fcntl.LOCK_EX)
            running = [path for path in folder.glob("[!.]*") if path == notes or _running(path)]
            for path in running:
                with open(path, "a") as file:
                    file.write(f"{len(running)}\n")
    except OSError:  # a full disk, a folder of another user: then the count is unknown
        notes.unlink(missing_ok=True) if mine else None
    try:
        yield Shared(device, notes if mine else None)
    finally:
        if mine:
            mine.close()
            with suppress(OSError):
                notes.unlink(missing_ok=True)


def _running(path: Path) -> bool:
    """Whether the run of this file is still running; the file of a run that was killed is removed."""
    try:
        with open(path, "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        return False
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _known_as(device: str) -> str:
    """Returns one name for a device in all processes, although they may number devices differently."""
    return device if on_cpu(device) else str(getattr(properties(device), "uuid", device))
