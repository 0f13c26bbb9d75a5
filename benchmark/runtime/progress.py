"""How far a long task is and how long the rest takes: told from where it is done, kept for the screen.

A report is called with each epoch's row; one that has `doing(what, done, of)` also hears of what is done beside and
within them, one that has `note(sentence)` of what the user should know. A plain function hears of epochs alone.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

OFTEN = 0.5  # s between two messages of one task

EPOCHS = "epochs"  # of a job's training: how many there are, the screen knows

Report = Callable[[dict], None]
"""Called with the row of every epoch that ended."""

ProgressCallback = Callable[[str, float, int], None]
"""told(what, done, of); `of` is 0 where nobody knows here how much there is"""


def progress_of(report: Report) -> ProgressCallback:
    """Where progress is told to: the report's `doing`, or nowhere."""
    return getattr(report, "doing", silent)


def notes_of(report: Report) -> Callable[[str], None]:
    """Where a sentence that the user should read is told to, once: the report's `note`, or nowhere."""
    return getattr(report, "note", lambda sentence: None)


def silent(what: str, done: float, of: int) -> None:
    """ProgressCallback to nobody."""


class Counter:
    """Tells how much of a task is done, at most every half second, so that it may be called at every step."""

    def __init__(self, told: ProgressCallback, what: str, of: int):
        self._told, self._what, self._of, self._last = told, what, of, time.monotonic()

    def __call__(self, done: float) -> None:
        if (now := time.monotonic()) - self._last >= OFTEN:
            self._last = now
            self._told(self._what, done, self._of)


class Watched:
    """Batches as they are; what they show in training epochs and evaluations is told to `report`."""

    def __init__(self, batches, report: Callable):
        self._batches, self._told = batches, progress_of(report)

    def __getattr__(self, name: str):
        return getattr(self._batches, name)

    def __len__(self) -> int:
        return len(self._batches)

    def static(self) -> "_WatchedStatic":
        return _WatchedStatic(self._batches.static(), self._told, self._batches.steps)

    def train(self, seed: int, epoch: int) -> Iterator[tuple]:
        tell = Counter(self._told, EPOCHS, 0)
        for i, pair in enumerate(self._batches.train(seed, epoch)):
            tell(epoch + i / self._batches.steps)
            yield pair

    def evaluate(self, batch: int = 256) -> Iterator[tuple]:
        tell, done = Counter(self._told, "evaluating", len(self)), 0
        for x, y in self._batches.evaluate(batch):
            tell(done)
            yield x, y
            done += len(x)


class _WatchedStatic:
    """As Watched, of batches that a captured step reads."""

    def __init__(self, batches, told: ProgressCallback, steps: int):
        self._batches, self._told, self._steps = batches, told, steps
        self.take = batches.take

    def epoch(self, seed: int, epoch: int) -> Iterator:
        tell = Counter(self._told, EPOCHS, 0)
        for i, shape in enumerate(self._batches.epoch(seed, epoch)):
            tell(epoch + i / self._steps)
            yield shape


@dataclass
class Task:
    """`done` of `of` (0: unknown) are done; it `began` at a second of a monotonic clock, with `first` of them done."""

    name: str  # tasks of another name are others
    text: str
    began: float
    done: float = 0
    of: int = 0
    first: float = 0

    def left(self, now: float) -> str:
        """How long the rest takes at the pace so far; "" where nobody can tell."""
        made = self.done - self.first
        if made <= 0 or self.done >= self.of:
            return ""
        return time_left((now - self.began) / made * (self.of - self.done))

    def line(self, now: float) -> str:
        """`reading features: 2,048 of 50,000, about 40 s left`"""
        if not self.of:
            return f"{self.text}: {now - self.began:.0f} s so far"
        left = self.left(now)
        done = f"{self.done:,.1f}" if self.name == EPOCHS else f"{self.done:,}"
        return f"{self.text}: {done} of {self.of:,}" + (f", {left}" if left else "")


def time_left(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"


class Slowly:
    """Tells of something that is quick on most machines only where it takes longer than a person waits."""

    PATIENCE = 2.0  # s

    def __init__(self, told: Callable[[str, str, int, int], None], what: str):
        self.told, self.what, self.began, self.shown = told, what, time.monotonic(), False

    def __call__(self, domain: str, done: int, of: int) -> None:
        self.shown |= done < of and time.monotonic() - self.began > self.PATIENCE
        if self.shown:
            self.told(self.what, domain, done, of)
