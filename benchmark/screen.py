"""The screen of a run: live bars on a terminal, plain lines elsewhere; tables at the end."""

import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable

from benchmark import layout
from benchmark.tables import Table


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
        """Table 1 of the run with the published rows under it, and the timing table."""
        head, sections = layout.grid(table)
        self._grid(layout.heading(table), head, sections)
        for note in layout.notes(table):
            self.console.print(note, style="dim", markup=False)
        if len(sections) > 2:
            self.console.print("The last rows: " + layout.apart(table), style="dim", markup=False)
        if table.timing:
            head, rows = layout.timing_text(table)
            self._grid(layout.TIMING, head, [[], rows])

    def _grid(self, title: str, head: list[str], sections: list[list[list[str]]]) -> None:
        """The rows as they are; on a terminal too narrow for them, turned on their side."""
        rows = [row for section in sections for row in section]
        quiet = len(sections[0]) + len(sections[1])  # the published rows come after these
        need = sum(max(map(len, column)) + 3 for column in zip(head, *rows, strict=True)) + 1
        self.console.print()
        self.console.print(title, style="bold", markup=False)
        if self.live and need > self.console.width:
            out = RichTable(header_style="bold")
            for i, name in enumerate([head[0], *(row[0] for row in rows)]):
                out.add_column(name, justify="right" if i else "left", style="dim" if i > quiet else "")
            for column in list(zip(head, *rows, strict=True))[1:]:
                out.add_row(*column)
        else:
            out = RichTable(header_style="bold")
            for i, name in enumerate(head):
                out.add_column(name, justify="right" if i else "left", no_wrap=True)
            for section in sections:
                for row in section:
                    out.add_row(*row, style="dim" if row in sections[0] or section in sections[2:] else "")
                out.add_section()
        self.console.print(out)

    def files(self, paths: list[Path]) -> None:
        self.console.print("Files: " + "  ".join(str(p) for p in paths), markup=False)
