"""Two methods compared, paired by domain and seed, as tables on the screen."""

import math
from collections.abc import Mapping
from pathlib import Path

from rich.table import Table as RichTable
from rich.text import Text

from visual_decathlon.benchmark.records.files import report_left_out
from visual_decathlon.benchmark.records.store import read_frame
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.benchmark.report.sheets import described
from visual_decathlon.benchmark.tables.compare import Difference, compare
from visual_decathlon.benchmark.tables.grouping import GROUP
from visual_decathlon.datasets.errors import InputError


def print_comparison(source: Path, a: str, b: str) -> None:
    """Print one table for each group of comparable records below `source` that contains both methods.

    `a` and `b` are canonical method strings. Raises InputError if no two runs can be compared.
    """
    screen, faults = Screen(), []
    with screen, screen.busy("reading the records"):
        frame = read_frame([source], faults=faults)
    report_left_out(faults)
    if lacking := [name for name in (a, b) if name not in set(frame["method"])]:
        raise InputError(f'{source} holds no record of {lacking[0]}; run `make bench METHOD="{lacking[0]}"` first')
    groups = compare(frame, a, b)
    if not groups:
        raise InputError(
            f"{source} holds no run of {a} and {b} on one domain with one seed, data, split and "
            "profile; run both with the same settings"
        )
    for group, differences, overall in groups:
        screen.console.print(f"\n{described(_without_nan(group))}", style="bold", markup=False)
        screen.console.print(_table(a, b, differences, overall))
        wins = sum(difference.mean > 0 for difference in differences)
        screen.console.print(
            f"A is ahead on {wins} of {len(differences)} domains. Better: where the interval leaves 0 out; the last "
            "line takes each domain once. One pair has no interval.",
            style="dim",
        )


def _without_nan(group: Mapping) -> dict:
    """The values of the group, with None for what a frame keeps as NaN."""
    return {n: None if isinstance(v, float) and math.isnan(v) else v for n, v in group.items() if n in GROUP}


def _table(a: str, b: str, differences: list[Difference], overall: Difference | None) -> RichTable:
    table = RichTable(header_style="bold")
    for i, name in enumerate(("", f"A: {a}", f"B: {b}", "A - B", "95 %", "pairs", "better")):
        table.add_column(Text(name), justify="right" if 0 < i < 6 else "left")
    for difference in differences:
        table.add_row(*map(Text, _cells(difference)))
    if overall is not None:
        table.add_section()
        table.add_row(*map(Text, _cells(overall)))
    return table


def _cells(line: Difference) -> list[str]:
    interval = "" if line.half is None else f"{line.mean - line.half:+.1f} to {line.mean + line.half:+.1f}"
    return [line.name, f"{line.a:.1f}", f"{line.b:.1f}", f"{line.mean:+.1f}", interval, str(line.pairs), line.wins]
