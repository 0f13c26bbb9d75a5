"""Opens Parquet files safely: regular files only, and none that unpacks to more than fits in memory."""

import errno
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from visual_decathlon.datasets.io import check_plain

_BYTES, _VALUES = 2**33, 2**28  # a thousand times that of thousands of runs; a file of a few kB may claim more


@contextmanager
def open_parquet(path: Path, texts: Collection[str] = ()) -> Iterator[pq.ParquetFile]:
    """Opens the file; those of its columns that `texts` names are read as categories.

    Raises OSError where it is not a regular file, cannot be read or is too large, and ArrowException where it is not
    Parquet.
    """
    check_plain(path, _BYTES)
    with pa.OSFile(str(path)) as source:  # opened once: another command may replace the file meanwhile
        about = _checked(source, path)
        there = set(about.schema.names)
        yield pq.ParquetFile(source, metadata=about, read_dictionary=[name for name in texts if name in there])


def _checked(source: pa.NativeFile, path: Path) -> pq.FileMetaData:
    try:
        about = pq.read_metadata(source)
    except MemoryError as error:  # a size from a damaged footer; ArrowMemoryError is a MemoryError
        raise pa.ArrowInvalid(str(error)) from None
    groups = [about.row_group(i) for i in range(about.num_row_groups)]
    unpacked = sum(group.total_byte_size for group in groups)
    values = max((sum(g.column(i).num_values for g in groups) for i in range(about.num_columns)), default=0)
    if values > _VALUES or unpacked > _BYTES:  # lists have more values than rows
        reason = f"it unpacks to {values:,} values and {unpacked:,} bytes, more than such a file may hold"
        raise OSError(errno.EFBIG, reason, str(path))
    return about
