"""`python -m benchmark data`: fetches the official release when asked to, and checks one on disk."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from visual_decathlon.benchmark.report.console import PlainConsole
from visual_decathlon.benchmark.runtime.progress import time_left
from visual_decathlon.datasets.check import Row, check_release
from visual_decathlon.datasets.download import RELEASE, download
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.text import printable

_FAULTS = 200  # sentences shown
_QUIET = 10.0  # s between two lines about one thing where the output is no terminal


def run(args: argparse.Namespace) -> int:
    """Download to `args.download`, draw `args.sheet`, check `args.data` and `args.own`: a Path or None each, a list.

    0, or 2 where the check found a fault. A sheet shows `args.data` and leaves it unchecked.
    """
    if args.data is None and args.download is None and args.sheet is None and not args.own:
        raise InputError(
            "data: nothing to do; give DATA=<release to check>, OWN=<name>=<folder of your own to check>, "
            "DOWNLOAD=<folder to fetch the release to> or SHEET=<picture to draw>"
        )
    names = [name for name, _ in args.own]
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise InputError(f"OWN={twice[0]}=…: the name {twice[0]} is given twice; give each own domain its own")
    if args.sheet is not None and args.own:
        raise InputError(f"SHEET={args.sheet} shows the ten domains alone; check OWN= by a command of its own")
    console = PlainConsole()
    if args.sheet is not None:
        from visual_decathlon.benchmark.runs.data import ensure_standins
        from visual_decathlon.datasets.standin.sheet import contact_sheet, refuse_target

        refuse_target(args.sheet)
        with _progress(console) as progress:
            root = args.data or ensure_standins(args.cache, lambda what, _, done, of: progress(what, done, of))
        contact_sheet(root, args.sheet)
        console.print(f"{args.sheet} shows eight images of each domain", soft_wrap=True)
        return 0
    if args.download is not None:
        with _progress(console) as progress:
            steps = download(args.download, progress)
        release = args.download / RELEASE
        console.print(f"{release} is unpacked. Check it with: make data DATA={release}", soft_wrap=True)
        for step in steps:
            console.print(f"- {printable(step)}", soft_wrap=not console.is_terminal)
    if args.data is None and not args.own:
        return 0
    with _progress(console) as progress:
        rows = check_release(args.data, progress, args.own)
    return _report(rows, console)


def _report(rows: list[Row], console: Console) -> int:
    faults = [fault for row in rows for fault in row.faults]
    console.print(_table(rows, gap=2 if console.width >= 90 else 1))
    for note in (note for row in rows for note in row.notes):
        console.print(Text(f"note: {printable(note)}", style="dim"), soft_wrap=True)
    official = [row for row in rows if row.official is not None]
    differ = sum((row.images, row.classes) != row.official for row in official)
    if differ:
        note = f"note: {differ} of {len(official)} splits differ from the official release's counts"
        console.print(Text(note, style="dim"), soft_wrap=True)
    sys.stdout.flush()
    for fault in faults[:_FAULTS]:
        print(printable(fault), file=sys.stderr)
    if len(faults) > _FAULTS:
        print(f"and {len(faults) - _FAULTS:,} more", file=sys.stderr)
    sys.stderr.flush()
    what = f"{sum(row.images for row in rows):,} images of {len({row.domain for row in rows if row.split})} domains"
    if faults:
        end = "fault: mend it" if len(faults) == 1 else "faults: mend them"
        console.print(
            Text(f"{what} are fine; {len(faults):,} {end} and check again.", style="bold red"), soft_wrap=True
        )
        return 2
    console.print(Text(f"{what} are fine; no fault.", style="bold green"), soft_wrap=True)
    return 0


def _table(rows: list[Row], gap: int) -> Table:
    table = Table(box=None, padding=(0, gap, 0, 0), header_style="bold", pad_edge=False)
    for title in ("domain", "split"):
        table.add_column(title, no_wrap=True)
    for title in ("images", "of", "classes", "of"):
        table.add_column(title, justify="right", no_wrap=True, style="dim" if title == "of" else "")
    table.add_column("pixels", no_wrap=True)
    table.add_column("faults", justify="right", no_wrap=True)
    for domain, group in groupby((row for row in rows if row.split), key=lambda row: row.domain):
        for i, row in enumerate(group):
            images, classes = ("", "") if row.official is None else (f"{number:,}" for number in row.official)
            table.add_row(
                "" if i else domain,
                row.split,
                Text(f"{row.images:,}", style="" if row.images else "red"),
                images,
                f"{row.classes:,}",
                classes,
                " × ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in row.sizes or ()),
                Text(f"{len(row.faults):,}", style="bold red" if row.faults else "green"),
            )
    return table


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for what is being done on a terminal; else a line at its end, and now and then before."""
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (TextColumn("{task.description:<20}"), BarColumn(None), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeRemainingColumn(compact=True), console=console, transient=True) as bar:
        tasks = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                for task in bar.task_ids:
                    bar.remove_task(task)
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        yield progress


class _Lines:
    def __init__(self):
        self.what, self.began, self.last, self.ended = "", 0.0, 0.0, False

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what != self.what:
            self.what, self.began, self.last, self.ended = what, now, now, False
        if not self.ended and (done >= total or now - self.last > _QUIET):
            self.last, self.ended = now, done >= total
            left = time_left((now - self.began) / done * (total - done)) if 0 < done < total else ""
            print(f"{what}: {done:,} of {total:,}" + (f", {left}" if left else ""), flush=True)
