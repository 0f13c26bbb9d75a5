"""The screen of a run: live bars on a terminal, plain lines elsewhere; tables at the end."""

import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.style import Style
from rich.table import Table as RichTable
from rich.text import Text

from benchmark import layout
from benchmark.tables import Table

STYLES = {"": "", "best": "bold", "second": "underline"}


class Screen:
    """Says what is being done, for which domain, and how long it still takes."""

    def __init__(self):
        # Not a terminal: as wide as any table needs, so that nothing is cut in a log.
        self.console = Console(highlight=False, width=None if sys.stdout.isatty() else 400)
        self.live = self.console.is_terminal
        self._start = time.monotonic()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        )
        self._bars: dict[str, int] = {}
        self._waiting: dict[str, tuple[str, int]] = {}
        self._work = self._done = 0.0
        self._last = ""

    def __enter__(self) -> "Screen":
        if self.live:
            self._progress.start()
        return self

    def __exit__(self, *_) -> None:
        if self.live:
            self._progress.stop()

    def say(self, text: str) -> None:
        """One line that stays."""
        stamp = "" if self.live else f"[{time.monotonic() - self._start:5.0f} s] "
        self.console.print(stamp + text, markup=False)

    def preparing(self, what: str, domain: str, done: int, of: int) -> None:
        if self.live:
            self._bar("preparing", of, f"{what} {domain}", "")
            self._progress.update(self._bars["preparing"], completed=done)
            if done >= of:
                self._remove("preparing")
        elif what != self._last:
            self._last = what
            self.say(what)

    def expect(self, work: float) -> None:
        """The whole work ahead, in images shown."""
        self._work, self._began = work, time.monotonic()
        if self.live:
            self._bar("all", work, "[bold]all runs", "")

    def begin(self, key: str, text: str, epochs: int) -> None:
        """A job is waiting: it gets its bar with its first epoch, so only what runs is seen."""
        self._waiting[key] = (text, epochs)

    def epoch(self, key: str, row: dict, work: float) -> None:
        """An epoch of job `key` ended, `work` images shown in it."""
        self._done += work
        if self.live:
            text, epochs = self._waiting[key]
            self._bar(key, epochs, text, "")
            state = f"loss {row['loss']:.2f}, train {row['train_top1']:.0f} %"
            self._progress.update(self._bars[key], completed=row["epoch"], state=state)
            self._progress.update(self._bars["all"], completed=self._done, state=self.left())

    def left(self) -> str:
        """How long the rest takes at the pace so far."""
        if not self._done:
            return ""
        seconds = (time.monotonic() - self._began) / self._done * max(0.0, self._work - self._done)
        return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"

    def end(self, key: str, text: str) -> None:
        self._remove(key)
        left = self.left()
        self.say(text + (f"   ({left})" if left and not self.live else ""))

    def _bar(self, key: str, total: float, text: str, state: str) -> None:
        if key not in self._bars:
            self._bars[key] = self._progress.add_task(text, total=total, state=state)
        else:
            self._progress.update(self._bars[key], description=text, total=total)

    def _remove(self, key: str) -> None:
        if key in self._bars:
            self._progress.remove_task(self._bars.pop(key))

    def table(self, table: Table) -> None:
        """Table 1 of the run with the published rows under it, the timing and the cost table."""
        for sheet in (layout.table1(table), layout.timing(table), layout.cost(table)):
            if sheet.rows:
                self._sheet(sheet)

    def _sheet(self, sheet: layout.Sheet) -> None:
        """The rows as they are; on a terminal too narrow for them, turned on their side."""
        dim = Style(dim=True)
        above, below = ([[Text(cell, dim) for cell in row] for row in part] for part in (sheet.above, sheet.below))
        rows = [[Text(c, STYLES[m]) for c, m in zip(*pair, strict=True)] for pair in zip(sheet.rows, sheet.marks)]
        every = [*above, *rows, *below]
        need = sum(max(map(len, column)) + 3 for column in zip(sheet.head, *every, strict=True)) + 1
        self.console.print()
        self.console.print(sheet.title, style="bold", markup=False)
        out = RichTable(header_style="bold")
        if self.live and need > self.console.width:
            for i, name in enumerate([sheet.head[0], *(row[0] for row in every)]):
                out.add_column(name if i else Text(name), justify="right" if i else "left")
            for i, name in enumerate(sheet.head[1:], 1):
                out.add_row(Text(name), *(row[i] for row in every))
        else:
            for i, name in enumerate(sheet.head):
                out.add_column(Text(name), justify="right" if i else "left", no_wrap=True)
            for part in (above, rows, below):
                for row in part:
                    out.add_row(*row)
                out.add_section()
        self.console.print(out)
        for note in sheet.notes + ([f"The last rows: {sheet.beneath}"] if sheet.below else []):
            self.console.print(note, style="dim", markup=False)

    def files(self, paths: list[Path]) -> None:
        self.console.print("Files: " + "  ".join(str(p) for p in paths), markup=False)
