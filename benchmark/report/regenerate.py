"""Makes every table and figure again from folders of records."""

from collections.abc import Sequence, Sized
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa

from visual_decathlon.benchmark.config.folders import SHIPPED_RECORDS
from visual_decathlon.benchmark.records.files import Fault, report_left_out
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.schema import SCHEMA
from visual_decathlon.benchmark.records.store import read_frame, read_histories, read_records, write_table
from visual_decathlon.benchmark.report import figures, files
from visual_decathlon.benchmark.report.leaderboard.page import page
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.benchmark.tables import published, table1
from visual_decathlon.datasets.errors import InputError, option
from visual_decathlon.datasets.io import write_all


def collect(sources: Sequence[Path], file: Path) -> None:
    """Write all records below `sources` into one Parquet file. Raises InputError if there are none."""
    faults: list[Fault] = []
    records = read_records(sources, faults)
    report_left_out(faults)
    _check_not_empty(records, sources)
    path = write_table(pa.Table.from_pylist(records, SCHEMA), file)
    Screen().say(f"{len(records)} records in {path}")


def regenerate(sources: Sequence[Path], results: Path, *, only: Sequence[str] = (), limited: bool = False) -> None:
    """Write the tables, figures and the page of the records below `sources` to `results`, and print the tables.

    `only` names the figures that are drawn, all by default. `limited` includes runs on a part of a split. Raises
    InputError if there are no records for a table, or for an unknown figure.
    """
    with Screen() as screen:
        faults: list[Fault] = []
        frame, shipped = _read(sources, limited, faults, screen)
        with screen.busy("making the tables"):
            tables = table1.tables(frame, shipped)
        folder = ResultsFolder(results).figures
        unreadable: list[Fault] = []  # histories, which are read for curves alone
        drawn = figures.contents(
            tables,
            lambda hashes: read_histories(sources, hashes, unreadable),
            folder,
            only,
            screen.say,
            partial(screen.doing, "figures"),
        )
        screen.done("figures")
        report_left_out([fault for fault in unreadable if fault not in faults])
        with screen.busy("writing the tables and the page"):
            contents = files.contents(tables, results) | published.contents(results)
            contents |= {ResultsFolder(results).leaderboard: page(tables, published.published()).encode()}
            paths = write_all(contents | drawn)
        for table in tables:
            screen.table(table)
        screen.files(list(dict.fromkeys(path.parent if folder in path.parent.parents else path for path in paths)))


def _read(
    sources: Sequence[Path], limited: bool, faults: list[Fault], screen: Screen
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The records below `sources` that enter tables, and the shipped ones; files that cannot be read are `faults`."""
    with screen.busy("reading the records"):
        frame = read_frame(sources, faults=faults)
        shipped = read_frame(SHIPPED_RECORDS, faults=faults)
    report_left_out(list(dict.fromkeys(faults)))
    _check_not_empty(frame, sources)
    if not limited:
        frame = frame[frame["limit"].isna()]
    if not len(frame):
        raise InputError(
            f"every record in {_named(sources)} is of a run that {option('limit')} cut, which enters no table unasked; "
            "show them with `make results LIMITED=1`"
        )
    return frame, shipped


def _named(sources: Sequence[Path]) -> str:
    return " and ".join(map(str, sources))


def _check_not_empty(records: Sized, sources: Sequence[Path]) -> None:
    if not len(records):
        raise InputError(
            f"there are no records with a top-1 in {_named(sources)}; run `make bench METHOD=res_adapter` first or "
            f"name a folder with {option('source')}"
        )
