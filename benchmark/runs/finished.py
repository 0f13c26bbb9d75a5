"""Finds finished runs: a run is finished when its record is complete and its adapter file exists."""

import datetime
import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors

from visual_decathlon.benchmark.config.specs import Run
from visual_decathlon.benchmark.records.files import Fault, describe_faults, set_aside
from visual_decathlon.benchmark.records.folder import DAMAGED, ResultsFolder
from visual_decathlon.benchmark.records.store import read_frame, read_record, read_records, write_record
from visual_decathlon.benchmark.tables.grouping import current
from visual_decathlon.datasets.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def own_record(results: Path, hash: str) -> dict | None:
    """The run's record; None where it is missing, cannot be read, or is of another run."""
    path = ResultsFolder(results).record(hash)
    try:
        record = read_record(path) if path.is_file() else None
    except InputError:
        return None
    return record if record is not None and record["hash"] == hash else None


def finished_record(results: Path, hash: str) -> dict | None:
    """The run's record if the run is finished; None also where its adapter file is missing or cut off."""
    record = own_record(results, hash)
    return record if record is not None and stored(results, hash, record["source_cell"]) else None


def stored(results: Path, hash: str, source_cell: bool) -> bool:
    """Whether the run's adapter file exists and is not cut off. The backbone's own run needs none."""
    return source_cell or _is_complete(ResultsFolder(results).adapters(hash))


def _is_complete(path: Path) -> bool:
    """Whether the file is as long as its header states; the tensors are not read."""
    if not path.is_file():
        return False
    try:
        with safetensors.safe_open(path, framework="numpy"):
            return True
    except (OSError, safetensors.SafetensorError):
        return False


def readable_records(results: Path, notify: Callable[[str], None], move: bool = True) -> "pd.DataFrame":
    """Read the records of a results folder, with a column `stored`: whether the run's adapter file exists.

    Files that cannot be read are moved aside, so that their runs are trained again; without `move` they are left out.
    One sentence to `notify` names all of them. Raises InputError where a file cannot be moved, or the folder itself
    cannot be read.
    """
    folder, faults = ResultsFolder(results).records, []
    frame = read_frame([folder], history=True, faults=faults, unlabelled=True).drop(columns="history")
    if closed := [fault for fault in faults if fault.path.is_dir()]:
        raise InputError(describe_faults(closed, ""))
    if move and (gone := [fault for fault in faults if fault.whole]):
        set_aside(dict.fromkeys(fault.path for fault in gone))
        notify(_moved(gone, folder))
    if others := [fault for fault in faults if not (move and fault.whole)]:
        notify(f"left out: {describe_faults(others, '')}")
    columns = (frame[name].tolist() for name in ("hash", "source_cell"))
    return frame.assign(stored=[stored(results, *row) for row in zip(*columns, strict=True)])


def _moved(faults: list[Fault], folder: Path) -> str:
    names = list(dict.fromkeys(map(str, faults)))
    many = f"{len(names)} records cannot be read and are" if len(names) > 1 else "A record cannot be read and is"
    their = "their runs are" if len(names) > 1 else "its run is"
    return (
        f"{many} set aside in {folder / DAMAGED}; {their} trained again where this command asks for it: "
        f"{', '.join(names)}"
    )


def make_current(results: Path, shown: Collection[str]) -> "pd.DataFrame":
    """Make the runs `shown` the current ones of their kind, and return all records.

    After a return to earlier data, defaults or backbones, a bench asks for finished runs which newer runs supersede.
    Their records then get the time at which they were asked for, and so count as the newest. Files that cannot be read
    are left out without a message, because `readable_records` named them before.
    """
    folder = ResultsFolder(results).records
    frame = read_frame([folder], faults=[])
    _, older = current(frame)
    again = [name for name in older["hash"] if name in set(shown)]
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    for record in read_records([folder], faults=[]) if again else ():
        if record["hash"] in again:
            write_record(record | {"asked": now}, folder)
    return read_frame([folder], faults=[]) if again else frame


def move_conflicting_files(runs: Iterable[Run], results: Path) -> list[str]:
    """Move files that are in the way of runs which will be trained; returns a sentence for each file moved.

    The record of another run gets that run's own name if this is free; everything else is set aside. A run's own
    complete record stays until the new one is written.
    """
    moves = []
    for run in runs:
        path, adapters = ResultsFolder(results).record(run.hash), ResultsFolder(results).adapters(run.hash)
        if os.path.lexists(adapters) and not adapters.is_file():
            (place,) = set_aside([adapters])
            moves.append(f"{adapters} is no file; it is now {place}")
        if not os.path.lexists(path) or own_record(results, run.hash) is not None:
            continue
        own = _hash_in(path)
        if own is not None and not os.path.lexists(ResultsFolder(results).record(own)):
            place = ResultsFolder(results).record(own)
            path.rename(place)
        else:
            (place,) = set_aside([path])
        moves.append(f"{path} was not the record of the run {run.hash}; it is now {place}")
    return moves


def _hash_in(path: Path) -> str | None:
    """The hash that a record file states; None where it cannot be read."""
    try:
        return read_record(path)["hash"] if path.is_file() else None
    except InputError:
        return None
