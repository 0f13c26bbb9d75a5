"""Opens ZIP archives from outside: the standard library takes any index into memory, however large."""

import os
import zipfile
from typing import Any, BinaryIO


class _Bounded:
    """A file as zipfile reads it: no piece larger than `most` bytes, where that is set."""

    def __init__(self, file: BinaryIO, most: int):
        self._file, self.most = file, most

    def read(self, size: int = -1) -> bytes:
        if self.most:
            wanted = size if size >= 0 else self._left()
            if wanted > self.most:
                raise zipfile.BadZipFile(f"its index has {wanted:,} bytes, more than {self.most:,}")
        return self._file.read(size)

    def _left(self) -> int:
        here = self._file.tell()
        end = self._file.seek(0, os.SEEK_END)
        self._file.seek(here)
        return end - here

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def open_zip(file: BinaryIO, most: int = 2**24) -> zipfile.ZipFile:
    """The archive in a file, whose index (some 50 bytes and a name each member) has `most` bytes at the most.

    Raises BadZipFile, and what else `zipfile.ZipFile` raises.
    """
    bounded = _Bounded(file, most)
    archive = zipfile.ZipFile(bounded)
    bounded.most = 0  # members are read as their reader asks
    return archive
