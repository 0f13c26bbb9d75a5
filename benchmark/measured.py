"""What every measured row says beside its figures; and rows on disk, which measuring other parts leaves as they are."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pyarrow as pa

from benchmark.parquet_file import open_parquet
from benchmark.provenance import commit, machine, versions
from datasets.errors import BadInput

COMMON = {"load": float, "machine": str, "versions": str, "commit": str | None}
"""Of every row beside what was measured, with its type; `load` is that before the first round."""


def now() -> dict:
    """The values of COMMON here and now."""
    return {"load": os.getloadavg()[0], "machine": machine(), "versions": versions(), "commit": commit()}


def before(path: Path, columns: Mapping[str, type], key: str, what: str) -> dict[str, list[dict]]:
    """The rows at `path` by their `key`, {} where there is no file. BadInput where they are not of these columns."""
    if not path.exists():
        return {}
    try:
        with open_parquet(path) as file:
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        fault = " ".join(str(error).split())[:80]
        raise BadInput(f"{path} is no readable Parquet file ({fault}); remove it and measure again") from None
    rows = table.to_pylist()
    try:
        if set(table.column_names) != set(columns):
            raise msgspec.ValidationError("other columns")
        msgspec.convert(rows, list[msgspec.defstruct("Row", list(columns.items()))])
    except msgspec.ValidationError as error:
        raise BadInput(f"{path} is not of this version's {what} ({error}); remove it and measure again") from None
    found: dict[str, list[dict]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return found
