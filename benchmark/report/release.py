"""A release of the data: fetched and checked, with its progress and a table of its splits on the screen."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from visual_decathlon.benchmark.report.console import PlainConsole
from visual_decathlon.benchmark.runtime.progress import time_left
from visual_decathlon.datasets.check import Row, check_release
from visual_decathlon.datasets.download import RELEASE, download
from visual_decathlon.datasets.text import printable

FAULTS_SHOWN = 200
_QUIET = 10.0  # s between two lines about one task if the output is no terminal


def fetch(folder: Path) -> None:
    """Download the official release into `folder`, and print where it is. Raises InputError."""
    console = PlainConsole()
    with show_progress(console) as progress:
        steps = download(folder, progress)
    release = folder / RELEASE
    console.print(f"{release} is unpacked. Check it with: make data DATA={release}", soft_wrap=True)
    for step in steps:
        console.print(f"- {printable(step)}", soft_wrap=not console.is_terminal)


def check(release: Path | None, own: Sequence[tuple[str, Path]] = ()) -> bool:
    """Check a release and own domains; print a table, and the faults on stderr. Returns whether there is no fault."""
    console = PlainConsole()
    with show_progress(console) as progress:
        rows = check_release(release, progress, own)
    console.print(_table(rows, gap=2 if console.width >= 90 else 1))
    for note in _notes(rows):
        console.print(Text(note, style="dim"), soft_wrap=True)
    sys.stdout.flush()
    faults = [fault for row in rows for fault in row.faults]
    _print_faults(faults)
    checked = f"{sum(row.images for row in rows):,} images of {len({row.domain for row in rows if row.split})} domains"
    if faults:
        end = "fault: fix it" if len(faults) == 1 else "faults: fix them"
        console.print(
            Text(f"{checked} are fine; {len(faults):,} {end} and check again.", style="bold red"), soft_wrap=True
        )
        return False
    console.print(Text(f"{checked} are fine; no fault.", style="bold green"), soft_wrap=True)
    return True


def _notes(rows: list[Row]) -> list[str]:
    """The notes of the check, and the number of splits with other counts than the official release."""
    notes = [f"note: {printable(note)}" for row in rows for note in row.notes]
    official = [row for row in rows if row.official is not None]
    if differ := sum((row.images, row.classes) != row.official for row in official):
        notes.append(f"note: {differ} of {len(official)} splits differ from the official release's counts")
    return notes


def _print_faults(faults: list[str]) -> None:
    for fault in faults[:FAULTS_SHOWN]:
        print(printable(fault), file=sys.stderr)
    if len(faults) > FAULTS_SHOWN:
        print(f"and {len(faults) - FAULTS_SHOWN:,} more", file=sys.stderr)
    sys.stderr.flush()


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
def show_progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A function (task, done, total) that shows a bar on a terminal; elsewhere a line now and then, and at the end."""
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (TextColumn("{task.description:<20}"), BarColumn(None), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeRemainingColumn(compact=True), console=console, transient=True) as bar:
        tasks = {}

        def progress(task: str, done: int, total: int) -> None:
            if task not in tasks:
                for bar_id in bar.task_ids:
                    bar.remove_task(bar_id)
                tasks[task] = bar.add_task(task, total=total)
            bar.update(tasks[task], completed=done)

        yield progress


class _Lines:
    """Progress as lines of a log."""

    def __init__(self):
        self.task, self.began, self.last, self.ended = "", 0.0, 0.0, False

    def __call__(self, task: str, done: int, total: int) -> None:
        now = time.monotonic()
        if task != self.task:
            self.task, self.began, self.last, self.ended = task, now, now, False
        if not self.ended and (done >= total or now - self.last > _QUIET):
            self.last, self.ended = now, done >= total
            left = time_left((now - self.began) / done * (total - done)) if 0 < done < total else ""
            print(f"{task}: {done:,} of {total:,}" + (f", {left}" if left else ""), flush=True)
