"""Measured rows on disk, which a later measurement of other parts leaves as they are."""

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from datasets.errors import BadInput


def before(path: Path, columns: Collection[str], key: str, what: str) -> dict[str, list[dict]]:
    """The rows at `path` by their `key`, {} where there is no file. BadInput where it has not these columns."""
    if not path.exists():
        return {}
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        fault = " ".join(str(error).split())[:80]
        raise BadInput(f"{path} is no readable Parquet file ({fault}); remove it and measure again") from None
    if set(table.column_names) != set(columns):
        raise BadInput(f"{path} is not of this version's {what}; remove it and measure again")
    found: dict[str, list[dict]] = {}
    for row in table.to_pylist():
        found.setdefault(row[key], []).append(row)
    return found
