"""One line of the tests or measurements on a GPU, made from the rounds."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from visual_decathlon.benchmark.perf.gpu.goals import GOALS

FASTER = ("img/s",)  # units of which more is better: the ratio is ours over the baseline
MEMORY = ("MB",)  # the ratio is ours over the baseline too, and less is better


@dataclass(frozen=True)
class Row:
    """A line of the table; missing values are null, and `note` has the reason.

    `ratio` is how many times faster ours is than the baseline, for memory how many times as much it takes. Values are
    medians; `least` and `largest` are of our rounds, in `unit`. A test has its name in `what`, its outcome in `note`.
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
"""Called with every row as soon as it is known."""


def row(
    step: str,
    what: str,
    ours: str,
    rounds: Sequence[float],
    other: str | None = None,
    other_rounds: Sequence[float] = (),
    *,
    unit: str = "img/s",
    goal: str | None = None,
) -> Row:
    """A row with the medians of our rounds and the baseline's, and whether the goal of that key is reached."""
    value = statistics.median(rounds)
    baseline = statistics.median(other_rounds) if other_rounds else None
    ratio = None
    if baseline is not None:
        ratio = value / baseline if unit in (*FASTER, *MEMORY) else baseline / value
    wanted = GOALS[goal] if goal else None
    return Row(
        step,
        what,
        ours,
        value,
        other,
        baseline,
        unit,
        ratio,
        min(rounds),
        max(rounds),
        len(rounds),
        wanted and wanted.text(),
        wanted and wanted.reached(value, ratio),
    )
