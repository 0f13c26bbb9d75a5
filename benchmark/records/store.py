"""Writes and reads records of runs: Parquet files with one row of the schema each, or with many.

Files are written atomically (datasets/io.py), so that a reader never sees half of one. Records are checked by the same
rules when they are written and when they are read. A reader with a list of faults appends what cannot be read, and
reads the rest; without a list it raises an InputError that names all of them.
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

_TOGETHER = 512  # files that are checked at a time
_ORDER = ("method", "k", "domain", "seed", "hash")  # of records; k, the official number, in descending order


def write_record(record: dict, folder: Path) -> Path:
    """Writes one record to `folder`/<hash>.parquet. Raises InputError where that fails or no reader would accept it."""
    return write_table(check([record]), folder / record_name(record["hash"]))


def parquet(table: pa.Table) -> pa.Buffer:
    """Returns the table as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue()


def write_table(table: pa.Table, path: Path) -> Path:
    """Writes a table as Parquet, atomically. Raises InputError where it cannot be written."""
    return write_bytes(parquet(table), path)


def remove_half_written(results: Path, cache: Path) -> None:
    """Removes the temporary files of killed commands from a results folder and from the cache."""
    clear(*ResultsFolder(results).written_folders, cache, cache / "backbones", cache / "packs")


def check_source(*sources: Path | None) -> None:
    """Raises InputError where FROM= names something that is not a folder; None is a FROM= that is not given."""
    for source in sources:
        if source is not None and not source.is_dir():
            missing = "does not exist; name a folder of records"
            what = "is a file; name the folder it is in" if source.exists() else missing
            raise InputError(f"{source} {what}", field="source")


@dataclass(frozen=True)
class _Located:
    """One record among others: the result of its run, its time, its file and its row number in all that was read."""

    hash: str
    numbers: tuple[int | None, float | None]  # correct images, and top-1 in %
    when: str
    path: Path
    at: int


def read_record(path: Path) -> dict:
    """Reads the only record of a file from `write_record`. Raises InputError as `read_records` does."""
    faults: list[Fault] = []
    table = _read(path, faults.append)
    valid = list(_valid([(path, table)], faults.append)) if table is not None else []
    if faults or len(valid) != 1 or len(valid[0][1]) != 1:
        raise InputError(describe_faults(faults or [Fault(path, " is not the record of one run")]))
    return valid[0][1].to_pylist()[0]


def read_records(folders: Iterable[Path], faults: list[Fault] | None = None) -> list[dict]:
    """Reads every record below the folders, one for each hash, in the order of method, domain, seed.

    Faults are: a file that cannot be read, is not Parquet or not of this schema; a record that breaks a rule of
    `schema.violations`; a record whose numbers differ from those of a newer one with its hash. They are appended to
    `faults`; InputError is raised where that is None.
    """
    with _collected(faults) as fault:
        records, places = [], []
        for path, table in _tables(folders, fault):
            records += table.to_pylist()
            places += [path] * len(table)
        located = (
            _Located(r["hash"], (r["correct"], r["top1"]), last_requested(r), path, at)
            for at, (r, path) in enumerate(zip(records, places, strict=True))
        )
        kept = [records[at] for at in _one_each(located, fault)]
        return sorted(kept, key=lambda r: tuple(-r[n] if n == "k" else r[n] for n in _ORDER))


def read_frame(
    folders: Iterable[Path], history: bool = False, faults: list[Fault] | None = None, unlabelled: bool = False
) -> "pd.DataFrame":
    """Reads the same records as a data frame, which is fast for many; with `history` only where asked.

    Strings other than the hash are categories in alphabetical order, integers with nulls are floats with NaN. Runs
    without a top-1 are left out unless `unlabelled`: a test split without labels has nothing to compare.
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


def _rows(frame: "pd.DataFrame", places: list[tuple[Path, int]]) -> Iterator[_Located]:
    paths = (path for path, rows in places for _ in range(rows))
    columns = frame[["hash", "correct", "top1", "created", "asked"]].astype(object)
    rows = columns.where(columns.notna(), None).to_dict("records")
    for at, (r, path) in enumerate(zip(rows, paths, strict=True)):
        right = None if r["correct"] is None else int(r["correct"])
        yield _Located(r["hash"], (right, r["top1"]), last_requested(r), path, at)


def read_histories(
    folders: Iterable[Path], hashes: Collection[str], faults: list[Fault] | None = None
) -> dict[str, list[dict]]:
    """Reads the histories of these runs, hash -> epochs, without runs that have none. Faults as in `read_records`."""
    wanted = pa.array(sorted(hashes), pa.string())
    histories: dict[str, list[dict]] = {}
    with _collected(faults) as fault:
        for _, table in _tables(folders, fault, ["schema", "hash", "history"]):
            for row in table.filter(pc.is_in(table["hash"], wanted)).to_pylist():
                if row["history"]:
                    histories.setdefault(row["hash"], row["history"])
        return histories


@contextlib.contextmanager
def _collected(faults: list[Fault] | None) -> Iterator[Callable[[Fault], None]]:
    """Yields a function to call with faults: it appends to the list; without one, InputError is raised at the end."""
    own: list[Fault] = []
    yield (own if faults is None else faults).append
    if own:
        raise InputError(describe_faults(own))


def _one_each(records: Iterable[_Located], fault: Callable[[Fault], None]) -> list[int]:
    """Returns the row numbers of one record for each hash: the last one made or requested, the first of equal times.

    It is a fault where two differ in their result: then they are of two different runs, and one is wrong.
    """
    kept: dict[str, _Located] = {}
    for one in records:
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
    """Returns when a run was made or last requested again: the order of runs of one kind."""
    return max(record["created"], record["asked"] or "")


def _tables(
    folders: Iterable[Path], fault: Callable[[Fault], None], columns: list[str] | None = None
) -> Iterator[tuple[Path, pa.Table]]:
    """Yields the valid records of every file below the folders. With `columns`, only those, and strings as categories.

    Most files hold one record, for which a cast and the rules take many times longer than the file's reading. So
    neighbours with the same columns are cast and checked together.
    """
    alike: list[tuple[Path, pa.Table]] = []
    for folder in folders:
        for path in record_files(folder, fault):
            unread: list[Fault] = []
            table = _read(path, unread.append, columns)
            if alike and (table is None or len(alike) == _TOGETHER or table.schema != alike[0][1].schema):
                yield from _valid(alike, fault, columns)
                alike = []
            for one in unread:  # after the faults of the files before it
                fault(one)
            if table is not None:
                alike.append((path, table))
    if alike:
        yield from _valid(alike, fault, columns)


def _as_categories(table: pa.Table) -> pa.Table:
    """Returns the table with categories where `open_parquet` reads them."""
    kinds = {f.name: pa.dictionary(pa.int32(), f.type) if f.name in CATEGORIES else f.type for f in table.schema}
    return table.cast(pa.schema(list(kinds.items())))


def _read(path: Path, fault: Callable[[Fault], None], columns: list[str] | None = None) -> pa.Table | None:
    """Reads a file of records, unchecked; None where it has none, or is a table that was made from records."""
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
        return None  # another command moved it
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        return fault(Fault(path, f" is no readable Parquet file ({reason(error)})"))
    if not len(table):
        return fault(Fault(path, " holds no record"))
    return table


def _valid(
    files: list[tuple[Path, pa.Table]], fault: Callable[[Fault], None], columns: list[str] | None = None
) -> Iterator[tuple[Path, pa.Table]]:
    """Yields the valid records of files whose columns are the same."""
    try:
        whole = pa.concat_tables([table for _, table in files]).combine_chunks()
        whole = _of_this_schema(whole, columns or SCHEMA.names, columns is not None)
    except _Foreign as error:
        if len(files) == 1:
            return fault(Fault(files[0][0], *error.args))
        for one in files:  # some of them may be of this schema
            yield from _valid([one], fault, columns)
        return
    broken = {row: _violation(whole["hash"][row], *what) for row, *what in violations(whole)}
    end = 0
    for path, table in files:
        start, end = end, end + len(table)
        rows = [row for row in range(start, end) if row in broken] if broken else []
        for row in rows:
            fault(Fault(path, broken[row], whole=len(rows) == len(table)))
        if not rows:
            yield path, whole.slice(start, len(table))
        elif len(rows) < len(table):
            yield path, whole.take([row for row in range(start, end) if row not in broken])


class _Foreign(Exception):
    """A table of records is not of this schema. The arguments are those of Fault: reason, and remedy where special."""


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


def _violation(run: pa.Scalar, field: str, what: str) -> str:
    if what == "is empty":
        return f" holds a record whose {field} is empty"
    return f": the run {run} has {describe_violation(field, what)}"
