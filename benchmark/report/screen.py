"""The screen of a command: live progress bars on a terminal, plain lines elsewhere; tables at the end."""

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

QUIET, EVERY = 5.0, 10.0  # s: a log does not mention a task shorter than QUIET
RARER = 20  # intervals grow to a 20th of the time since the start: a day's log has no thousands of lines
STYLES = {"": "", "best": "bold", "second": "underline"}


class Screen:
    """Reports the current tasks, their domains and the remaining time.

    `doing` reports a long task: on a terminal as a bar with the time left; in a log as a line after QUIET seconds and
    then at most every EVERY seconds, more rarely with time, even while the task reports nothing. `clock` returns
    seconds.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic):
        # Outside a terminal as wide as any table needs, so that nothing is cut in a log.
        self.console = console or PlainConsole(wide=400)
        self.live = self.console.is_terminal
        self._clock = clock
        self._start = self._last_line = clock()
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
        self._stop = threading.Event()
        self._heartbeat: threading.Thread | None = None
        self._work = self._done = 0.0
        self._preparation = ""

    def __enter__(self) -> "Screen":
        if self.live:
            self._progress.start()
        else:
            self._stop.clear()
            self._heartbeat = threading.Thread(target=self._beat_every_second, daemon=True)
            self._heartbeat.start()
        return self

    def __exit__(self, *_) -> None:
        if self.live:
            self._progress.stop()
        if self._heartbeat is not None:
            self._stop.set()
            self._heartbeat.join()
            self._heartbeat = None

    def _beat_every_second(self) -> None:
        while not self._stop.wait(1.0):
            self.beat()

    def say(self, text: str) -> None:
        """Print one permanent line."""
        stamp = "" if self.live else f"[{self._clock() - self._start:5.0f} s] "
        self.console.print(stamp + text, markup=False)

    def preparing(self, what: str, domain: str, done: int, of: int) -> None:
        """A task before the runs has `done` of `of`: a log has one line about it, and then those of any task."""
        if not self.live and what != self._preparation:
            self._preparation = what
            self.say(what)
        self.doing("preparing", f"{what} {domain}".rstrip(), done, of, again=what)

    def doing(self, key: str, text: str, done: float = 0, of: int = 0, again: str | None = None) -> None:
        """Task `key` has `done` of `of` (0: the total is unknown); it ends when all is done.

        A job has one task after another: another text starts another task, unless both have the same name `again`.
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
                state = {} if text == EPOCHS else {"state": task.left(now)}  # `epoch` shows loss and accuracy there
                self._progress.update(self._bars[key], completed=done, **state)
        self.beat()

    def done(self, key: str) -> None:
        """Task `key` has ended."""
        with self._lock:
            self._tasks.pop(key, None)
            if key not in self._waiting:
                self._remove(key)

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Within, a task runs whose length is unknown."""
        self.doing("busy", text)
        try:
            yield
        finally:
            self.done("busy")

    def beat(self) -> None:
        """Print a line about the long tasks in a log, where one is due."""
        with self._lock:
            now = self._clock()
            if self.live or now - self._last_line < max(EVERY, (now - self._start) / RARER):
                return
            lines = [
                f"{self._waiting[key][0]}, {task.line(now)}" if key in self._waiting else task.line(now)
                for key, task in self._tasks.items()
                if now - task.began >= QUIET
            ]
            if lines:
                self._last_line = now
                left = self.left()
                self.say("; ".join(lines) + (f"   (all runs: {left})" if left else ""))

    def expect(self, work: float) -> None:
        """Set the total work of all runs, in images shown."""
        self._work, self._began = work, self._clock()
        if self.live:
            self._bar("all", work, "all runs", "")

    def begin(self, key: str, text: str, epochs: int) -> None:
        """Register a waiting job with its epochs. It gets a bar with its first report: only running jobs have one."""
        self._waiting[key] = (text, epochs)

    def epoch(self, key: str, row: dict, work: float) -> None:
        """An epoch of job `key` has ended, which showed `work` images."""
        with self._lock:
            self._done += work
            self.doing(key, EPOCHS, row["epoch"])
            if self.live:
                state = f"loss {row['loss']:.2f}, train {row['train_top1']:.0f} %"
                self._progress.update(self._bars[key], completed=row["epoch"], state=state)
                self._progress.update(self._bars["all"], completed=self._done, state=self.left())

    def left(self) -> str:
        """The remaining time of all runs at the pace so far, as text; "" before the first epoch."""
        if not self._done:
            return ""
        return time_left((self._clock() - self._began) / self._done * max(0.0, self._work - self._done))

    def end(self, key: str, text: str) -> None:
        """Job `key` has ended: print its result."""
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
        """Print Table 1 with the published rows under it, the timing and the cost table."""
        for sheet in (sheets.table1(table), sheets.timing(table), sheets.cost(table)):
            if sheet.rows:
                self._sheet(sheet)

    def _sheet(self, sheet: sheets.Sheet) -> None:
        """Print a sheet; on a terminal too narrow for its columns, with rows and columns exchanged."""
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
        """Print the files that were written."""
        self.console.print("Files: " + "  ".join(str(p) for p in paths), markup=False)
