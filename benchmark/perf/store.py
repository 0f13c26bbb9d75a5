"""What every measured row says beside its figures; and rows on disk, which measuring other parts leaves as they are."""

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
"""Of every row beside what was measured, with its type; `load` is that before the first round."""


def now() -> dict:
    """The values of COMMON here and now."""
    return {"load": load(), "machine": machine(), "versions": versions(), "commit": commit()}


def load() -> float | None:
    """Load average of the last minute; None where the system tells none, as Windows."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def before(path: Path, columns: Mapping[str, type], key: str, what: str) -> dict[str, list[dict]]:
    """The rows at `path` by their `key`, {} where there is no file.

    One that cannot be read, or is not of these columns, is set aside, which is said on stderr: {} too.
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
    found: dict[str, list[dict]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return found


def _aside(path: Path, fault: str) -> dict:
    where = ", ".join(map(str, set_aside([path])))
    told = f"{path} {fault}; it is now {where}, and what was not asked for is to be measured again"
    print(printable(told), file=sys.stderr)
    return {}
