"""The environment columns of measured rows, and the rows of earlier measurements on disk."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pyarrow as pa

from visual_decathlon.benchmark.records.files import set_aside
from visual_decathlon.benchmark.records.parquet_file import open_parquet
from visual_decathlon.benchmark.records.provenance import commit, machine, versions
from visual_decathlon.datasets.errors import reason
from visual_decathlon.datasets.text import printable

COMMON = {"load": float | None, "machine": str, "versions": str, "commit": str | None}
"""Environment columns of every row with their types; `load` is the load average before the first round."""


def environment_columns() -> dict:
    """The current values of the columns COMMON."""
    return {"load": load(), "machine": machine(), "versions": versions(), "commit": commit()}


def load() -> float | None:
    """Load average of the last minute; None where the system has none, as on Windows."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def load_previous(path: Path, columns: Mapping[str, type], key: str, what: str) -> dict[str, list[dict]]:
    """The rows at `path` by their `key`, {} where there is no file. `what` names the keys in messages.

    A file that cannot be read or has other columns is set aside with a message on stderr; then {} too.
    """
    if not path.exists():
        return {}
    try:
        with open_parquet(path) as file:
            table = file.read()
        rows = table.to_pylist()
        if set(table.column_names) != set(columns):
            raise msgspec.ValidationError("other columns")
        msgspec.convert(rows, list[msgspec.defstruct("Row", list(columns.items()))])
    except (pa.ArrowException, OSError) as error:
        return _aside(path, f"is no readable Parquet file ({reason(error)})")
    except msgspec.ValidationError as error:
        return _aside(path, f"is not of this version's {what} ({error})")
    by_key: dict[str, list[dict]] = {}
    for row in rows:
        by_key.setdefault(row[key], []).append(row)
    return by_key


def _aside(path: Path, fault: str) -> dict:
    """Set the file aside, print a message and return no rows."""
    where = ", ".join(map(str, set_aside([path])))
    message = f"{path} {fault}; it is now {where}; parts that are not measured now must be measured again"
    print(printable(message), file=sys.stderr)
    return {}
