"""`python -m benchmark tables`: every table again, from a folder of records."""

from argparse import Namespace
from collections.abc import Sized
from functools import partial
from pathlib import Path

import pyarrow as pa

from visual_decathlon.benchmark.config.folders import SHIPPED
from visual_decathlon.benchmark.records.files import Fault, report_left_out
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.schema import SCHEMA
from visual_decathlon.benchmark.records.store import check_source, read_frame, read_histories, read_records, write_table
from visual_decathlon.benchmark.report import figures, files
from visual_decathlon.benchmark.report.leaderboard.page import page
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.benchmark.tables import published, table1
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.io import write_all


def run(args: Namespace) -> int:
    """Read the records below --from (default: --results), write tables and figures to --results; or --collect them."""
    source = args.source or args.results
    figures.check(args.only)
    check_source(args.source)
    if args.collect is not None:
        faults: list[Fault] = []
        records = read_records([source], faults)
        report_left_out(faults)
        _some(records, source)
        path = write_table(pa.Table.from_pylist(records, SCHEMA), args.collect)
        Screen().say(f"{len(records)} records in {path}")
        return 0
    with Screen() as screen:
        return _made(args, source, screen)


def _made(args: Namespace, source: Path, screen: Screen) -> int:
    faults: list[Fault] = []
    with screen.busy("reading the records"):
        frame = read_frame([source], faults=faults)
        shipped = read_frame([SHIPPED], faults=faults)
    report_left_out(list(dict.fromkeys(faults)))
    _some(frame, source)
    if not args.limited:
        frame = frame[frame["limit"].isna()]
    if not len(frame):
        raise InputError(
            f"every record in {source} is of a run that LIMIT= cut, which enters no table unasked; "
            "show them with `python -m benchmark tables --limited`"
        )
    with screen.busy("making the tables"):
        found = table1.tables(frame, shipped)
    folder = ResultsFolder(args.results).figures
    broken: list[Fault] = []  # histories, which are read for curves alone
    histories = lambda hashes: read_histories([source], hashes, broken)
    told = partial(screen.doing, "figures")
    drawn = figures.contents(found, histories, folder, args.only, screen.say, told)
    screen.done("figures")
    report_left_out([fault for fault in broken if fault not in faults])
    with screen.busy("writing the tables and the page"):
        made = files.contents(found, args.results) | published.contents(args.results)
        made |= {ResultsFolder(args.results).leaderboard: page(found, published.published()).encode()}
        paths = write_all(made | drawn)
    for table in found:
        screen.table(table)
    screen.files(list(dict.fromkeys(path.parent if folder in path.parent.parents else path for path in paths)))
    return 0


def _some(found: Sized, source: Path) -> None:
    if not len(found):
        raise InputError(
            f"{source} holds no records with a top-1; run `make bench METHOD=res_adapter` first or name a folder "
            "with FROM="
        )
