"""The screen of a run: live bars on a terminal, plain lines elsewhere; tables at the end."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.style import Style
from rich.table import Table as RichTable
from rich.text import Text

from visual_decathlon.benchmark.report import sheets
from visual_decathlon.benchmark.report.console import PlainConsole
from visual_decathlon.benchmark.runtime.progress import EPOCHS, Task, time_left
from visual_decathlon.benchmark.tables.table1 import Table

QUIET, EVERY = 5.0, 10.0  # s: what takes less than QUIET is not mentioned in a log
RARER = 20  # times the interval is the time since the start: a day's log has no thousands of lines
STYLES = {"": "", "best": "bold", "second": "underline"}


class Screen:
    """Says what is being done, for which domain, and how long it still takes.

    What takes long is told by `doing`: a bar with the time left on a terminal; in a log a line after QUIET seconds and
    then at most every EVERY seconds, ever more rarely, also while nothing new is heard. `clock` gives seconds.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic):
        # Not a terminal: as wide as any table needs, so that nothing is cut in a log.
        self.console = console or PlainConsole(wide=400)
        self.live = self.console.is_terminal
        self._clock = clock
        self._start = self._told = clock()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[state]}", markup=False),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        )
        self._bars: dict[str, int] = {}
        self._waiting: dict[str, tuple[str, int]] = {}
        self._tasks: dict[str, Task] = {}
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._beats: threading.Thread | None = None
        self._work = self._done = 0.0
        self._last = ""

    def __enter__(self) -> "Screen":
        if self.live:
            self._progress.start()
        else:
            self._over.clear()
            self._beats = threading.Thread(target=self._beating, daemon=True)
            self._beats.start()
        return self

    def __exit__(self, *_) -> None:
        if self.live:
            self._progress.stop()
        if self._beats is not None:
            self._over.set()
            self._beats.join()
            self._beats = None

    def _beating(self) -> None:
        while not self._over.wait(1.0):
            self.beat()

    def say(self, text: str) -> None:
        """One line that stays."""
        stamp = "" if self.live else f"[{self._clock() - self._start:5.0f} s] "
        self.console.print(stamp + text, markup=False)

    def preparing(self, what: str, domain: str, done: int, of: int) -> None:
        """Something that is done before the runs is `done` of `of` far; said once in a log, then as any task."""
        if not self.live and what != self._last:
            self._last = what
            self.say(what)
        self.doing("preparing", f"{what} {domain}".rstrip(), done, of, again=what)

    def doing(self, key: str, text: str, done: float = 0, of: int = 0, again: str | None = None) -> None:
        """Task `key` is `done` of `of` far (0: nobody knows how much there is), and over at the end of it.

        A job has one task after another: another text is another task, unless both are the same thing `again`.
        """
        with self._lock:
            job, epochs = self._waiting.get(key, ("", 0))
            of = epochs if text == EPOCHS else of
            if of and done >= of and not job:
                self.done(key)
                return
            now, task = self._clock(), self._tasks.get(key)
            if task is None or task.name != (again or text) or done < task.done:
                task = self._tasks[key] = Task(again or text, text, now, done, of, done)
            task.text, task.done, task.of = text, done, of
            if self.live:
                shown = job if text == EPOCHS else f"{job}: {text}" if job else text
                self._bar(key, of or None, shown, task.left(now))
                state = {} if text == EPOCHS else {"state": task.left(now)}  # it shows loss and accuracy
                self._progress.update(self._bars[key], completed=done, **state)
        self.beat()

    def done(self, key: str) -> None:
        """Task `key` is over."""
        with self._lock:
            self._tasks.pop(key, None)
            if key not in self._waiting:
                self._remove(key)

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """While it lasts, something is done of which nobody can tell how much is left."""
        self.doing("busy", text)
        try:
            yield
        finally:
            self.done("busy")

    def beat(self) -> None:
        """In a log, and where one is due: a line on what takes long just now."""
        with self._lock:
            now = self._clock()
            if self.live or now - self._told < max(EVERY, (now - self._start) / RARER):
                return
            lines = [
                f"{self._waiting[key][0]}, {task.line(now)}" if key in self._waiting else task.line(now)
                for key, task in self._tasks.items()
                if now - task.began >= QUIET
            ]
            if lines:
                self._told = now
                left = self.left()
                self.say("; ".join(lines) + (f"   (all runs: {left})" if left else ""))

    def expect(self, work: float) -> None:
        """The whole work ahead, in images shown."""
        self._work, self._began = work, self._clock()
        if self.live:
            self._bar("all", work, "all runs", "")

    def begin(self, key: str, text: str, epochs: int) -> None:
        """A job is waiting: it gets its bar when it is heard of, so only what runs is seen."""
        self._waiting[key] = (text, epochs)

    def epoch(self, key: str, row: dict, work: float) -> None:
        """An epoch of job `key` ended, `work` images shown in it."""
        with self._lock:
            self._done += work
            self.doing(key, EPOCHS, row["epoch"])
            if self.live:
                state = f"loss {row['loss']:.2f}, train {row['train_top1']:.0f} %"
                self._progress.update(self._bars[key], completed=row["epoch"], state=state)
                self._progress.update(self._bars["all"], completed=self._done, state=self.left())

    def left(self) -> str:
        """How long the rest of all runs takes at the pace so far."""
        if not self._done:
            return ""
        return time_left((self._clock() - self._began) / self._done * max(0.0, self._work - self._done))

    def end(self, key: str, text: str) -> None:
        with self._lock:
            self._waiting.pop(key, None)
            self.done(key)
        left = self.left()
        self.say(text + (f"   ({left})" if left and not self.live else ""))

    def _bar(self, key: str, total: float | None, text: str, state: str) -> None:
        if key not in self._bars:
            self._bars[key] = self._progress.add_task(text, total=total, state=state)
        else:
            self._progress.update(self._bars[key], description=text, total=total)

    def _remove(self, key: str) -> None:
        if key in self._bars:
            self._progress.remove_task(self._bars.pop(key))

    def table(self, table: Table) -> None:
        """Table 1 of the run with the published rows under it, the timing and the cost table."""
        for sheet in (sheets.table1(table), sheets.timing(table), sheets.cost(table)):
            if sheet.rows:
                self._sheet(sheet)

    def _sheet(self, sheet: sheets.Sheet) -> None:
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
