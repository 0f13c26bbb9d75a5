"""Progress of long tasks: reported where the work is done, shown by the screen with the time left.

A report is called with the row of each epoch. It may also have a method `doing(what, done, of)` for progress within an
epoch or besides training, and a method `note(sentence)` for what the user should know. A plain function gets only the
rows of epochs.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

OFTEN = 0.5  # s between two messages of one task

EPOCHS = "epochs"  # name of the task that is a job's training; the screen knows the number of its epochs

Report = Callable[[dict], None]
"""Called with the row of every epoch that ended."""

ProgressCallback = Callable[[str, float, int], None]
"""Called with (what, done, of); `of` is 0 where the total is unknown."""


def progress_of(report: Report) -> ProgressCallback:
    """Returns the report's `doing`, or a function that does nothing where it has none."""
    return getattr(report, "doing", silent)


def notes_of(report: Report) -> Callable[[str], None]:
    """Returns the report's `note`, for sentences to the user, or a function that does nothing where it has none."""
    return getattr(report, "note", lambda sentence: None)


def silent(what: str, done: float, of: int) -> None:
    """A ProgressCallback that does nothing."""


class Counter:
    """Reports how much of a task is done, at most every half second, so that it may be called at every step."""

    def __init__(self, progress: ProgressCallback, what: str, of: int):
        self._progress, self._what, self._of, self._last = progress, what, of, time.monotonic()

    def __call__(self, done: float) -> None:
        if (now := time.monotonic()) - self._last >= OFTEN:
            self._last = now
            self._progress(self._what, done, self._of)


class Watched:
    """Wraps batches: unchanged, but the progress of training epochs and evaluations is reported to `report`."""

    def __init__(self, batches, report: Callable):
        self._batches, self._progress = batches, progress_of(report)

    def __getattr__(self, name: str):
        return getattr(self._batches, name)

    def __len__(self) -> int:
        return len(self._batches)

    def static(self) -> "_WatchedStatic":
        """Returns the same for batches that a captured step reads."""
        return _WatchedStatic(self._batches.static(), self._progress, self._batches.steps)

    def train(self, seed: int, epoch: int) -> Iterator[tuple]:
        """Yields the batches of an epoch."""
        count = Counter(self._progress, EPOCHS, 0)
        for i, pair in enumerate(self._batches.train(seed, epoch)):
            count(epoch + i / self._batches.steps)
            yield pair

    def evaluate(self, batch: int = 256) -> Iterator[tuple]:
        """Yields the batches of an evaluation."""
        count, done = Counter(self._progress, "evaluating", len(self)), 0
        for x, y in self._batches.evaluate(batch):
            count(done)
            yield x, y
            done += len(x)


class _WatchedStatic:
    """Watched for batches that a captured step reads."""

    def __init__(self, batches, progress: ProgressCallback, steps: int):
        self._batches, self._progress, self._steps = batches, progress, steps
        self.take = batches.take

    def epoch(self, seed: int, epoch: int) -> Iterator:
        count = Counter(self._progress, EPOCHS, 0)
        for i, shape in enumerate(self._batches.epoch(seed, epoch)):
            count(epoch + i / self._steps)
            yield shape


@dataclass
class Task:
    """A task of which `done` of `of` (0: unknown) are done.

    It `began` at that second of a monotonic clock, when `first` were done already.
    """

    name: str  # a new name begins a new task
    text: str
    began: float
    done: float = 0
    of: int = 0
    first: float = 0

    def left(self, now: float) -> str:
        """Returns the time that the rest takes at the pace so far; "" where it is unknown."""
        made = self.done - self.first
        if made <= 0 or self.done >= self.of:
            return ""
        return time_left((now - self.began) / made * (self.of - self.done))

    def line(self, now: float) -> str:
        """Returns a line such as `reading features: 2,048 of 50,000, about 40 s left`."""
        if not self.of:
            return f"{self.text}: {now - self.began:.0f} s so far"
        left = self.left(now)
        done = f"{self.done:,.1f}" if self.name == EPOCHS else f"{self.done:,}"
        return f"{self.text}: {done} of {self.of:,}" + (f", {left}" if left else "")


def time_left(seconds: float) -> str:
    """Returns `about 40 s left`, or minutes from 90 s on."""
    return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"


class Slowly:
    """Reports a task that is quick on most machines only where it takes longer than PATIENCE."""

    PATIENCE = 2.0  # s

    def __init__(self, progress: Callable[[str, str, int, int], None], what: str):
        self._progress, self._what, self._began, self._shown = progress, what, time.monotonic(), False

    def __call__(self, domain: str, done: int, of: int) -> None:
        self._shown |= done < of and time.monotonic() - self._began > self.PATIENCE
        if self._shown:
            self._progress(self._what, domain, done, of)
