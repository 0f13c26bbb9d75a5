"""Which files changed since their content was hashed, told by a stat alone.

A file's stamp is its size, times of change of content and of inode (ns), and inode number. Content decides what
a file is; the stamp only tells whether it must be looked at again: times can be set back, and sizes be equal, but
a rewritten file has another inode or another ctime. Stamps of another machine or of an unstable network file
system cost a second look, nothing else.
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
"""The stamp of a file that is absent, or whose stamp proves nothing; it equals none of an inode in use."""
SETTLED = 2 * 10**9  # ns: the coarsest clock of a file system (FAT); a later write within it may leave no trace
_BATCH = 256  # files a thread takes at a time: one stat takes microseconds
_THREADS = 16  # on a network file system each waits for an answer

Stamp = tuple[int, int, int, int]
Counted = Callable[[int, int], None]
"""counted(done, of): files looked at so far."""


def stamp(path: str | Path) -> Stamp:
    """(size, mtime_ns, ctime_ns, inode) of the file that `path` leads to; NONE where there is none."""
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        return NONE
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino & (2**63 - 1)


def stamps(root: Path, files: Sequence[str], counted: Counted = lambda done, of: None) -> np.ndarray:
    """(N, 4) int64, the stamp of each file below `root`."""
    base = os.path.join(root, "")

    def some(first: int) -> list[Stamp]:
        return [stamp(base + name) for name in files[first : first + _BATCH]]

    found = np.zeros((len(files), 4), np.int64)
    with ThreadPoolExecutor(_THREADS) as threads:
        firsts = range(0, len(files), _BATCH)
        for first, rows in zip(firsts, threads.map(some, firsts), strict=True):
            found[first : first + len(rows)] = rows
            counted(first + len(rows), len(files))
    return found


def read_stamped(path: Path, domain: str) -> tuple[bytes, Stamp]:
    """The bytes of a file, and the stamp that stands for them; NONE where a change could go unseen.

    That is so where the file changed while it was read, or so shortly before that another change would fall into
    the same tick of the file system's clock. Raises InputError as `read_bytes`.
    """
    before, now = stamp(path), time.time_ns()
    data = read_bytes(path, domain)
    sure = before == stamp(path) and before[2] < now - SETTLED
    return data, before if sure else NONE


def hashes(
    root: Path, files: Sequence[str], domain: str, counted: Counted = lambda done, of: None
) -> tuple[np.ndarray, np.ndarray]:
    """(N, 32) uint8 sha256 of each file's content, (N, 4) stamps. Raises InputError where one cannot be read."""

    def one(name: str) -> tuple[bytes, Stamp]:
        data, mark = read_stamped(root / name, domain)
        return hashlib.sha256(data).digest(), mark

    contents, marks = np.zeros((len(files), 32), np.uint8), np.zeros((len(files), 4), np.int64)
    with ThreadPoolExecutor(2 * cores()) as threads:
        for first in range(0, len(files), _BATCH):
            rows = list(threads.map(one, files[first : first + _BATCH]))
            for i, (content, mark) in enumerate(rows, first):
                contents[i], marks[i] = np.frombuffer(content, np.uint8), mark
            counted(first + len(rows), len(files))
    return contents, marks
