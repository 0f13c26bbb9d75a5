"""Opens ZIP archives from outside with a bounded index: the standard library reads an index of any size into memory."""

import os
import zipfile
from typing import Any, BinaryIO


class _Bounded:
    """A file for zipfile that refuses to read more than `most` bytes at once; 0 means no limit."""

    def __init__(self, file: BinaryIO, most: int):
        self._file, self.most = file, most

    def read(self, size: int = -1) -> bytes:
        if self.most:
            wanted = size if size >= 0 else self._remaining()
            if wanted > self.most:
                raise zipfile.BadZipFile(f"its index has {wanted:,} bytes, more than {self.most:,}")
        return self._file.read(size)

    def _remaining(self) -> int:
        here = self._file.tell()
        end = self._file.seek(0, os.SEEK_END)
        self._file.seek(here)
        return end - here

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def open_zip(file: BinaryIO, most: int = 2**24) -> zipfile.ZipFile:
    """Opens the archive in `file`; its index (about 50 bytes and a name per member) may have at most `most` bytes.

    Raises BadZipFile, and everything else that `zipfile.ZipFile` raises.
    """
    bounded = _Bounded(file, most)
    archive = zipfile.ZipFile(bounded)
    bounded.most = 0  # members may be read in pieces of any size
    return archive
