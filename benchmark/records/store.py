"""How records of runs are written and read: one row of the schema in one Parquet file, or many in one.

A file is written whole or not at all (datasets/io.py), so a reader never sees half of one. A record is held to
the same rules when it is written and when it is read. Where a reader is given a list for faults, what cannot be
read goes there and the rest is read; else it is a InputError that names them all.
"""

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from visual_decathlon.benchmark.records.files import Fault, describe_faults, record_files
from visual_decathlon.benchmark.records.folder import ResultsFolder, is_record_path, record_name
from visual_decathlon.benchmark.records.parquet_file import open_parquet
from visual_decathlon.benchmark.records.schema import (
    CATEGORIES,
    SCHEMA,
    SCHEMA_VERSION,
    SINCE,
    check,
    describe_violation,
    violations,
)
from visual_decathlon.datasets.errors import InputError, reason
from visual_decathlon.datasets.io import clear, write_bytes

if TYPE_CHECKING:
    import pandas as pd

_ORDER = ("method", "k", "domain", "seed", "hash")  # of records; the official number falls


def write_record(record: dict, folder: Path) -> Path:
    """Write one record to `folder`/<hash>.parquet. InputError where that fails, or none could read it."""
    return write_table(check([record]), folder / record_name(record["hash"]))


def parquet(table: pa.Table) -> pa.Buffer:
    """The table as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue()


def write_table(table: pa.Table, path: Path) -> Path:
    """Write Parquet whole or not at all. Raises InputError where it cannot be written."""
    return write_bytes(parquet(table), path)


def remove_half_written(results: Path, cache: Path) -> None:
    """Remove what killed commands left half-written in a results folder and in the cache."""
    clear(*ResultsFolder(results).written_folders, cache, cache / "backbones", cache / "packs")


def check_source(source: Path | None) -> None:
    """InputError where FROM= names something and that is no folder."""
    if source is not None and not source.is_dir():
        what = "is a file; name the folder it is in" if source.exists() else "does not exist; name a folder of records"
        raise InputError(f"FROM={source} {what}")


@dataclass(frozen=True)
class _Found:
    """One record among others: what came out of its run, when that was, and where it is read."""

    hash: str
    numbers: tuple[int | None, float | None]  # right, and top-1 in %
    when: str
    path: Path
    at: int


def read_record(path: Path) -> dict:
    """The one record of a file that `write_record` made. Raises as `read_records`."""
    faults: list[Fault] = []
    table = _read(path, faults.append)
    if faults or table is None or len(table) != 1:
        raise InputError(describe_faults(faults or [Fault(path, " is not the record of one run")]))
    return table.to_pylist()[0]


def read_records(folders: Iterable[Path], faults: list[Fault] | None = None) -> list[dict]:
    """Every record below the folders, one of each hash, in the order of method, domain, seed.

    A fault is a file that cannot be read, is no Parquet or not of this schema, a record that breaks a rule of
    `schema.wrong`, and one whose numbers differ from a newer one's of its hash. InputError where `faults` is None.
    """
    with _collected(faults) as fault:
        records, places = [], []
        for path, table in _tables(folders, fault):
            records += table.to_pylist()
            places += [path] * len(table)
        found = (
            _Found(r["hash"], (r["correct"], r["top1"]), last_requested(r), path, at)
            for at, (r, path) in enumerate(zip(records, places, strict=True))
        )
        kept = [records[at] for at in _one_each(found, fault)]
        return sorted(kept, key=lambda r: tuple(-r[n] if n == "k" else r[n] for n in _ORDER))


def read_frame(
    folders: Iterable[Path], history: bool = False, faults: list[Fault] | None = None, unlabelled: bool = False
) -> "pd.DataFrame":
    """The same records as columns, a row each, `history` only where it is asked for; for many at once.

    Texts but for the hash are categories in their own order, whole numbers with nulls are floats with NaN.
    Runs without a top-1 are left out unless `unlabelled`: on a test split without labels there is nothing to compare.
    """
    kept = [name for name in SCHEMA.names if history or name != "history"]
    with _collected(faults) as fault:
        tables, places = [_as_categories(SCHEMA.empty_table().select(kept))], []
        for path, table in _tables(folders, fault, kept):
            tables.append(table if unlabelled else table.filter(pc.is_valid(table["top1"])))
            places.append((path, len(tables[-1])))
        whole = pa.concat_tables(tables).unify_dictionaries()
        del tables
        frame = whole.to_pandas(self_destruct=True, split_blocks=True)
        del whole
        if frame["hash"].duplicated().any():
            frame = frame.iloc[sorted(_one_each(_rows(frame, places), fault))]
        for name in CATEGORIES:
            frame[name] = frame[name].cat.reorder_categories(sorted(frame[name].cat.categories))
        return frame.sort_values(list(_ORDER), ascending=[n != "k" for n in _ORDER], ignore_index=True)


def _rows(frame: "pd.DataFrame", places: list[tuple[Path, int]]) -> Iterator[_Found]:
    paths = (path for path, rows in places for _ in range(rows))
    columns = frame[["hash", "correct", "top1", "created", "asked"]].astype(object)
    rows = columns.where(columns.notna(), None).to_dict("records")
    for at, (r, path) in enumerate(zip(rows, paths, strict=True)):
        right = None if r["correct"] is None else int(r["correct"])
        yield _Found(r["hash"], (right, r["top1"]), last_requested(r), path, at)


def read_histories(
    folders: Iterable[Path], hashes: Collection[str], faults: list[Fault] | None = None
) -> dict[str, list[dict]]:
    """The history of each of these runs by its hash; runs without one are left out. Raises as `read_records`."""
    wanted = pa.array(sorted(hashes), pa.string())
    found: dict[str, list[dict]] = {}
    with _collected(faults) as fault:
        for _, table in _tables(folders, fault, ["schema", "hash", "history"]):
            for row in table.filter(pc.is_in(table["hash"], wanted)).to_pylist():
                if row["history"]:
                    found.setdefault(row["hash"], row["history"])
        return found


@contextlib.contextmanager
def _collected(faults: list[Fault] | None) -> Iterator[Callable[[Fault], None]]:
    """Where faults go: into the list, or, where there is none, into one InputError at the end."""
    own: list[Fault] = []
    yield (own if faults is None else faults).append
    if own:
        raise InputError(describe_faults(own))


def _one_each(found: Iterable[_Found], fault: Callable[[Fault], None]) -> list[int]:
    """Places of one record of each hash: that which was made or asked for last, the first where that is alike.

    A fault where two differ in what came out: they are of two runs, and one is wrong.
    """
    kept: dict[str, _Found] = {}
    for one in found:
        first = kept.setdefault(one.hash, one)
        if first is one:
            continue
        old, new = (one, first) if one.when <= first.when else (first, one)
        if old.numbers != new.numbers:
            same = first.path == one.path
            files = " twice holds" if same else f" and {one.path} hold"
            (right, top1), (right2, top2) = first.numbers, one.numbers
            what = (
                f"{files} the run {one.hash} with different numbers (right and top-1: {right}, {top1}, and {right2}, "
                f"{top2}), of which the older{'' if same else f', in {old.path},'} is left out"
            )
            fault(Fault(first.path, what, "remove the wrong one", whole=False))
        kept[one.hash] = new
    return [one.at for one in kept.values()]


def last_requested(record: Mapping) -> str:
    """When a run was made, or asked for again: what orders runs of one kind."""
    return max(record["created"], record["asked"] or "")


def _tables(
    folders: Iterable[Path], fault: Callable[[Fault], None], columns: list[str] | None = None
) -> Iterator[tuple[Path, pa.Table]]:
    """Every file of records below the folders; of some columns, where they are named, with texts as categories."""
    for folder in folders:
        for path in record_files(folder, fault):
            if (table := _read(path, fault, columns)) is not None:
                yield path, table


def _as_categories(table: pa.Table) -> pa.Table:
    """As `read_dictionary` reads it."""
    kinds = {f.name: pa.dictionary(pa.int32(), f.type) if f.name in CATEGORIES else f.type for f in table.schema}
    return table.cast(pa.schema(list(kinds.items())))


def _read(path: Path, fault: Callable[[Fault], None], columns: list[str] | None = None) -> pa.Table | None:
    """The whole records of a file, of this schema; None where there are none, or it is a table made from records."""
    names = columns or SCHEMA.names
    try:
        with open_parquet(path, CATEGORIES if columns else ()) as file:
            there = file.schema_arrow.names
            if not {"schema", "hash", "method"} <= set(there):
                if is_record_path(path):
                    fault(Fault(path, " holds no record"))
                return None
            table = file.read([name for name in names if name in there])
    except PermissionError:
        return fault(Fault(path, " cannot be read (Permission denied)", "see its rights"))
    except FileNotFoundError:
        return None  # another command was faster
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        return fault(Fault(path, f" is no readable Parquet file ({reason(error)})"))
    if not len(table):
        return fault(Fault(path, " holds no record"))
    try:
        table = _of_this_schema(table, names, columns is not None)
    except _Foreign as error:
        return fault(Fault(path, *error.args))
    rows = {row: _told(table["hash"][row], *what) for row, *what in violations(table)}
    for what in rows.values():
        fault(Fault(path, what, whole=len(rows) == len(table)))
    return table.filter(pa.array([row not in rows for row in range(len(table))])) if rows else table


class _Foreign(Exception):
    """What a table of records is, that it is none of this schema; and the remedy, where it is not to remove it."""


def _of_this_schema(table: pa.Table, names: list[str], categories: bool) -> pa.Table:
    there, versions = table.column_names, set(pc.unique(table["schema"]).to_pylist())
    if other := versions - set(range(1, SCHEMA_VERSION + 1)):
        other = ", ".join(map(str, sorted(other, key=str)))
        raise _Foreign(f" holds records of schema {other}, this reads 1 to {SCHEMA_VERSION}", "remove or move it")
    for name, since in SINCE.items():
        if name not in there and name in names and max(versions) < since:
            table = table.append_column(name, pa.nulls(len(table), SCHEMA.field(name).type))
    if lacking := [name for name in names if name not in table.column_names]:
        raise _Foreign(f" holds records without the field {lacking[0]}")
    now = pa.array(np.full(len(table), SCHEMA_VERSION, np.int32))
    table = table.select(names).set_column(0, SCHEMA.field("schema"), now)
    wanted = _as_categories(SCHEMA.empty_table().select(names)).schema if categories else SCHEMA
    try:
        return table.cast(wanted)
    except pa.ArrowException as error:
        raise _Foreign(f" holds records with a field of another type ({reason(error)})") from None


def _told(run: pa.Scalar, field: str, what: str) -> str:
    if what == "is empty":
        return f" holds a record whose {field} is empty"
    return f": the run {run} has {describe_violation(field, what)}"
