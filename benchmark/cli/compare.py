"""`python -m benchmark compare A B`: where A is better than B, paired by domain and seed."""

import math
from argparse import Namespace

from rich.table import Table as RichTable
from rich.text import Text

from visual_decathlon.benchmark.cli.method_argument import asked_methods
from visual_decathlon.benchmark.records.files import report_left_out
from visual_decathlon.benchmark.records.store import check_source, read_frame
from visual_decathlon.benchmark.report.screen import Screen
from visual_decathlon.benchmark.report.sheets import described
from visual_decathlon.benchmark.tables.compare import Difference, compare
from visual_decathlon.benchmark.tables.grouping import GROUP
from visual_decathlon.datasets.errors import InputError


def run(args: Namespace) -> int:
    """Print one table for each group of comparable records that holds both methods."""
    source = args.source or args.results
    names = []
    for name, text in (("A", args.a), ("B", args.b)):
        try:
            chosen = asked_methods(text)
        except InputError as error:
            raise InputError(str(error).replace("METHOD=", f"{name}=")) from None
        if len(chosen) != 1:
            raise InputError(f"{text} names {len(chosen)} methods; give one for A and one for B")
        names.append(chosen[0].spec)
    if names[0] == names[1]:
        raise InputError(f"A and B are both {names[0]}; give two methods")
    check_source(args.source)
    screen, faults = Screen(), []
    with screen, screen.busy("reading the records"):
        frame = read_frame([source], faults=faults)
    report_left_out(faults)
    if lacking := [name for name in names if name not in set(frame["method"])]:
        raise InputError(f'{source} holds no record of {lacking[0]}; run `make bench METHOD="{lacking[0]}"` first')
    found = compare(frame, *names)
    if not found:
        raise InputError(
            f"{source} holds no run of {names[0]} and {names[1]} on one domain with one seed, data, split and "
            "profile; run both with the same settings"
        )
    for group, lines, over in found:
        group = {n: None if isinstance(v, float) and math.isnan(v) else v for n, v in group.items() if n in GROUP}
        screen.console.print(f"\n{described(group)}", style="bold", markup=False)
        table = RichTable(header_style="bold")
        for i, name in enumerate(("", f"A: {names[0]}", f"B: {names[1]}", "A - B", "95 %", "pairs", "better")):
            table.add_column(Text(name), justify="right" if 0 < i < 6 else "left")
        for line in lines:
            table.add_row(*map(Text, _cells(line)))
        if over is not None:
            table.add_section()
            table.add_row(*map(Text, _cells(over)))
        screen.console.print(table)
        wins = sum(line.mean > 0 for line in lines)
        screen.console.print(
            f"A is ahead on {wins} of {len(lines)} domains. Better: where the interval leaves 0 out; the last "
            "line takes each domain once. One pair has no interval.",
            style="dim",
        )
    return 0


def _cells(line: Difference) -> list[str]:
    interval = "" if line.half is None else f"{line.mean - line.half:+.1f} to {line.mean + line.half:+.1f}"
    return [line.name, f"{line.a:.1f}", f"{line.b:.1f}", f"{line.mean:+.1f}", interval, str(line.pairs), line.wins]
