"""What is finished: a run whose record is whole and whose adapters are there, read from the files themselves."""

import datetime
import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors

from visual_decathlon.benchmark.config.specs import Run
from visual_decathlon.benchmark.records.files import DAMAGED, Fault, set_aside, told
from visual_decathlon.benchmark.records.store import read_frame, read_record, read_records, write_record
from visual_decathlon.benchmark.tables.grouping import current
from visual_decathlon.datasets.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def record_path(results: Path, hash: str) -> Path:
    return results / "records" / f"{hash}.parquet"


def adapters_path(results: Path, hash: str) -> Path:
    return results / "adapters" / f"{hash}.safetensors"


def own_record(results: Path, hash: str) -> dict | None:
    """The run's record; None where there is none, it cannot be read, or it is another run's."""
    path = record_path(results, hash)
    try:
        record = read_record(path) if path.is_file() else None
    except InputError:
        return None
    return record if record is not None and record["hash"] == hash else None


def finished_record(results: Path, hash: str) -> dict | None:
    """The same, None also where what the run stored beside it is gone."""
    record = own_record(results, hash)
    return record if record is not None and stored(results, hash, record["source_cell"]) else None


def stored(results: Path, hash: str, source_cell: bool) -> bool:
    """Whether the run's adapters are there, and not cut off; the backbone's own run has none."""
    return source_cell or _whole(adapters_path(results, hash))


def _whole(path: Path) -> bool:
    """Whether the file is as long as its header says; its numbers are not read."""
    if not path.is_file():
        return False
    try:
        with safetensors.safe_open(path, framework="numpy"):
            return True
    except (OSError, safetensors.SafetensorError):
        return False


def readable_records(results: Path, say: Callable[[str], None]) -> "pd.DataFrame":
    """The records of a results folder that is written to, with a column `stored`.

    What cannot be read is set aside, in one sentence with all of them, so its run is trained again. InputError where
    it cannot be moved, or the folder itself cannot be read.
    """
    folder, faults = results / "records", []
    frame = read_frame([folder], history=True, faults=faults, unlabelled=True).drop(columns="history")
    if closed := [fault for fault in faults if fault.path.is_dir()]:
        raise InputError(told(closed, ""))
    if gone := [fault for fault in faults if fault.whole]:
        set_aside(dict.fromkeys(fault.path for fault in gone))
        say(_aside(gone, folder))
    if others := [fault for fault in faults if not fault.whole]:
        say(f"left out: {told(others, '')}")
    columns = (frame[name].tolist() for name in ("hash", "source_cell"))
    return frame.assign(stored=[stored(results, *row) for row in zip(*columns, strict=True)])


def _aside(faults: list[Fault], folder: Path) -> str:
    names = list(dict.fromkeys(map(str, faults)))
    many = f"{len(names)} records cannot be read and are" if len(names) > 1 else "A record cannot be read and is"
    their = "their runs are" if len(names) > 1 else "its run is"
    return (
        f"{many} set aside in {folder / DAMAGED}; {their} trained again where this command asks for it: "
        f"{', '.join(names)}"
    )


def make_current(results: Path, shown: Collection[str]) -> "pd.DataFrame":
    """The records in the end, those of the runs `shown` current among their kind, as what was asked for last.

    Where data, a default or a backbone is what it once was, finished runs are shown again that newer ones supersede;
    their records then say when they were asked for. What cannot be read was told before.
    """
    folder = results / "records"
    frame = read_frame([folder], faults=[])
    _, older = current(frame)
    again = [name for name in older["hash"] if name in set(shown)]
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    for record in read_records([folder], faults=[]) if again else ():
        if record["hash"] in again:
            write_record(record | {"asked": now}, folder)
    return read_frame([folder], faults=[]) if again else frame


def move_conflicting_files(runs: Iterable[Run], results: Path) -> list[str]:
    """Move what stands under the names of runs that are to be trained and is not theirs; returns what was done.

    A record of another run goes under that run's own name where that is free, all else aside. A run's own whole record
    stays until the new one is there.
    """
    said = []
    for run in runs:
        path, adapters = record_path(results, run.hash), adapters_path(results, run.hash)
        if os.path.lexists(adapters) and not adapters.is_file():
            (place,) = set_aside([adapters])
            said.append(f"{adapters} is no file; it is now {place}")
        if not os.path.lexists(path) or own_record(results, run.hash) is not None:
            continue
        own = _of_another(path)
        if own is not None and not os.path.lexists(record_path(results, own)):
            place = record_path(results, own)
            path.rename(place)
        else:
            (place,) = set_aside([path])
        said.append(f"{path} was not the record of the run {run.hash}; it is now {place}")
    return said


def _of_another(path: Path) -> str | None:
    try:
        return read_record(path)["hash"] if path.is_file() else None
    except InputError:
        return None
