"""The files of a job on another machine: what the driver offers, and how a node gets what it lacks.

A node that sees a file of the driver under the same path (the same machine, a shared disk) uses it there. Any other one
gets it once, in chunks, and keeps it under the sha256 of its content.
"""

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from visual_decathlon.datasets.io import make_folder, move, temporary_name
from visual_decathlon.datasets.pack import portable_files

CHUNK = 8 * 2**20  # bytes: what is in memory of a file that travels
KEPT = 14 * 24 * 3600  # s without use, after which a node removes a file


class Offer(NamedTuple):
    """A file of the driver: its path there, its size in bytes, and the time of its last change in ns."""

    path: Path
    size: int
    changed: int

    @classmethod
    def of(cls, path: Path) -> "Offer":
        """The offer of a file as it is now. Raises OSError."""
        stat = path.stat()
        return cls(path, stat.st_size, stat.st_mtime_ns)

    def is_here(self) -> bool:
        """Whether this machine sees the same file."""
        with contextlib.suppress(OSError):
            return Offer.of(self.path) == self
        return False


def offers(paths: Iterable[Path]) -> list[Offer]:
    """Offers of those of the paths that exist; of a pack, its files."""
    found = []
    for path in dict.fromkeys(paths):
        for file in portable_files(path) if path.is_dir() else [path]:
            with contextlib.suppress(OSError):  # it does not exist, or no longer
                found.append(Offer.of(file))
    return found


class FileServer:
    """Reads files of the driver's machine for nodes that do not see them."""

    def digest(self, path: Path) -> str:
        """The sha256 of a file's content, in hexadecimal digits."""
        return _digest(Offer.of(path))

    def read(self, path: Path, start: int) -> bytes:
        """Up to CHUNK bytes of a file from `start`."""
        with open(path, "rb") as file:
            file.seek(start)
            return file.read(CHUNK)


@lru_cache(maxsize=4096)
def _digest(offer: Offer) -> str:
    with open(offer.path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def local_copy(
    offer: Offer, digest: Callable[[Path], str], read: Callable[[Path, int], bytes], folder: Path
) -> tuple[Path, bool]:
    """Returns where this machine has the offered file, and whether it had to be fetched now.

    `digest` and `read` are those of the driver's FileServer; `folder` keeps what was fetched. Processes that need the
    same file at the same time fetch it once. Raises OSError, also where the file changed on its way.
    """
    if offer.is_here():
        return offer.path, False
    name = digest(offer.path)
    target = folder / name
    make_folder(folder)
    with _locked(folder / f".{name}.lock"):
        if target.is_file() and target.stat().st_size == offer.size:
            os.utime(target)
            return target, False
        temporary, content = temporary_name(target), hashlib.sha256()
        try:
            with open(temporary, "wb") as file:
                while chunk := read(offer.path, file.tell()):
                    file.write(chunk)
                    content.update(chunk)
            if content.hexdigest() != name:
                raise OSError(f"{offer.path} changed while it was sent")
            move(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    return target, True


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a lock that ends with its process, however that ends."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove_unused(folder: Path) -> None:
    """Removes files that no job of this machine has used for KEPT seconds."""
    for path in folder.glob("*"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < time.time() - KEPT:
                path.unlink()
