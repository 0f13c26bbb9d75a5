"""One line of what was tested or measured on a GPU, and how it is made from the rounds."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from visual_decathlon.benchmark.perf.gpu.goals import GOALS

FASTER = ("img/s",)  # units of which more is better: there the ratio is ours over the baseline
MEMORY = ("MB",)  # there it is ours over the baseline too, and less is better


@dataclass(frozen=True)
class Row:
    """A line of the table; what was not measured is null, and `note` says why.

    `ratio` is how many times faster ours is than the baseline, for memory how many times as much it takes; both are
    medians, `least` and `largest` are of our rounds, in `unit`. A test has its name in `what` and its end in `note`.
    """

    step: str
    what: str
    ours: str = ""
    ours_value: float | None = None
    other: str | None = None
    other_value: float | None = None
    unit: str = ""
    ratio: float | None = None
    least: float | None = None
    largest: float | None = None
    rounds: int = 0
    goal: str | None = None
    reached: bool | None = None
    note: str = ""


Keep = Callable[[Row], None]
"""Given every row as soon as it is known."""


def row(
    step: str,
    what: str,
    ours: str,
    mine: Sequence[float],
    other: str | None = None,
    theirs: Sequence[float] = (),
    *,
    unit: str = "img/s",
    goal: str | None = None,
) -> Row:
    """The medians of our rounds and the baseline's, and whether the goal of that key is reached."""
    value = statistics.median(mine)
    there = statistics.median(theirs) if theirs else None
    ratio = None
    if there is not None:
        ratio = value / there if unit in (*FASTER, *MEMORY) else there / value
    wanted = GOALS[goal] if goal else None
    return Row(
        step,
        what,
        ours,
        value,
        other,
        there,
        unit,
        ratio,
        min(mine),
        max(mine),
        len(mine),
        wanted and wanted.text(),
        wanted and wanted.reached(value, ratio),
    )
