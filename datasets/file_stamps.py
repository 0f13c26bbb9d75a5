"""File stamps show by a `stat` alone whether a file may have changed since its content was hashed.

A stamp is the file's size, the times of its last change of content and of inode (ns), and its inode number. The content
identifies a file; the stamp only decides whether it must be read again. Modification times can be set back and sizes
can be equal, but a rewritten file has another inode or another ctime. Stamps of another machine or of an unstable
network file system only cost a second read.
"""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from visual_decathlon.datasets.cores import cores
from visual_decathlon.datasets.decode import read_bytes

NONE = (0, 0, 0, 0)
"""The stamp of a missing file, or of one that may change unnoticed; no existing file has it."""
SETTLED = 2 * 10**9  # ns: the coarsest clock of a file system (FAT); a second write within it may leave no trace
_BATCH = 256  # files per task of a thread: one stat takes microseconds
_THREADS = 16  # on a network file system each thread waits for an answer

Stamp = tuple[int, int, int, int]
FileProgress = Callable[[int, int], None]
"""`progress(done, total)`, in files."""


def stamp(path: str | Path) -> Stamp:
    """(size, mtime_ns, ctime_ns, inode) of the file at `path`, links followed; NONE if it does not exist."""
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        return NONE
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino & (2**63 - 1)


def stamps(root: Path, files: Sequence[str], progress: FileProgress = lambda done, total: None) -> np.ndarray:
    """(N, 4) int64, the stamp of each file below `root`."""
    base = os.path.join(root, "")

    def batch(first: int) -> list[Stamp]:
        return [stamp(base + name) for name in files[first : first + _BATCH]]

    result = np.zeros((len(files), 4), np.int64)
    with ThreadPoolExecutor(_THREADS) as threads:
        firsts = range(0, len(files), _BATCH)
        for first, rows in zip(firsts, threads.map(batch, firsts), strict=True):
            result[first : first + len(rows)] = rows
            progress(first + len(rows), len(files))
    return result


def read_stamped(path: Path, domain: str) -> tuple[bytes, Stamp]:
    """The bytes of a file and the stamp that identifies them; NONE if a change could remain unnoticed.

    That is so if the file changed while it was read, or so shortly before that another change could have the same time
    on the file system's clock. Raises InputError as `read_bytes` does.
    """
    before, now = stamp(path), time.time_ns()
    data = read_bytes(path, domain)
    sure = before == stamp(path) and before[2] < now - SETTLED
    return data, before if sure else NONE


def hashes(
    root: Path, files: Sequence[str], domain: str, progress: FileProgress = lambda done, total: None
) -> tuple[np.ndarray, np.ndarray]:
    """(N, 32) uint8 sha256 of each file's content and (N, 4) stamps. Raises InputError if a file cannot be read."""

    def one(name: str) -> tuple[bytes, Stamp]:
        data, mark = read_stamped(root / name, domain)
        return hashlib.sha256(data).digest(), mark

    contents, marks = np.zeros((len(files), 32), np.uint8), np.zeros((len(files), 4), np.int64)
    with ThreadPoolExecutor(2 * cores()) as threads:
        for first in range(0, len(files), _BATCH):
            rows = list(threads.map(one, files[first : first + _BATCH]))
            for i, (content, mark) in enumerate(rows, first):
                contents[i], marks[i] = np.frombuffer(content, np.uint8), mark
            progress(first + len(rows), len(files))
    return contents, marks
