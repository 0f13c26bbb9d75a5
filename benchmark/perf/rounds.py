"""Rounds in which several ways of one thing take turns; those in which the machine did other work are dropped."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from visual_decathlon.benchmark.runtime.progress import ProgressCallback, silent

RETRYING = 30.0  # s of dropped rounds after which no further one is dropped
OTHERS = 0.05  # of the machine's processors: a round in which others had more of them is dropped
_STAT = Path("/proc/stat")


@dataclass(frozen=True)
class Variant:
    """One way of doing a thing: `work()` does it once and returns how many images (or whatever is counted) it did."""

    name: str
    work: Callable[[], int]


@dataclass(frozen=True)
class Comparison:
    """How many times faster ours is than the other way: median, least and largest of the rounds.

    `ours_value` and `other_value` are medians of what `unit` says, the other's null where nothing is compared,
    both where what is measured is not there (a GPU).
    """

    part: str
    what: str
    ours: str
    other: str | None
    unit: str
    ours_value: float | None
    other_value: float | None
    ratio: float | None
    least: float | None
    largest: float | None
    rounds: int
    dropped: int  # rounds in which others had the machine
    peak_mb: float | None = None  # of the process while ours ran: it holds all ways of the part
    share: float | None = None  # the reference's multiply-adds at our speed, of the machine's ceiling of convolutions


@dataclass(frozen=True)
class Rounds:
    """Per way its speeds (what it did per second), one a round that counts."""

    speeds: Mapping[str, list[float]]
    dropped: int

    def line(
        self, part: str, what: str, ours: str, other: str | None = None, unit: str = "img/s", **more
    ) -> Comparison:
        """`ours` against `other`, both names of ways; `unit` s gives seconds in place of speeds."""
        mine, theirs = self.speeds[ours], self.speeds[other] if other else []
        ratios = [a / b for a, b in zip(mine, theirs)]
        value = statistics.median if unit != "s" else lambda speeds: 1 / statistics.median(speeds)
        found = (statistics.median(ratios), min(ratios), max(ratios)) if ratios else (None, None, None)
        there = value(theirs) if theirs else None
        return Comparison(part, what, ours, other, unit, value(mine), there, *found, len(mine), self.dropped, **more)


def run_interleaved(ways: list[Variant], rounds: int, told: ProgressCallback = silent, what: str = "") -> Rounds:
    """Run the ways in turn until `rounds` rounds count; the first warms up.

    As many rounds as count are dropped at most, and for RETRYING seconds at most: where all that were tried were
    disturbed, the last ones count, and `dropped` tells. `told` hears which way of `what` and round it is at.
    """
    steps, done = len(ways) * (1 + rounds), 0

    def tell(way: Variant, which: str) -> None:
        nonlocal done
        told(", ".join(filter(None, (what, way.name, which))), done, steps)
        done += 1

    for way in ways:
        tell(way, "warming up")
        way.work()
    speeds: dict[str, list[float]] = {way.name: [] for way in ways}
    dropped, retried = 0, 0.0
    while (kept := len(speeds[ways[0].name])) < rounds:
        again = f" (again: others had the machine in {dropped})" if dropped else ""
        start, before = time.perf_counter(), _busy()
        found = {}
        for way in ways:
            tell(way, f"round {kept + 1} of {rounds}{again}")
            found[way.name] = _speed(way.work)
        seconds = time.perf_counter() - start
        if (_busy() - before) / seconds / (os.cpu_count() or 1) > OTHERS and dropped < rounds and retried < RETRYING:
            dropped, retried, steps = dropped + 1, retried + seconds, steps + len(ways)
            continue
        for name, speed in found.items():
            speeds[name].append(speed)
    return Rounds(speeds, dropped)


def _speed(work: Callable[[], int]) -> float:
    start = time.perf_counter()
    done = work()
    return done / (time.perf_counter() - start)


def _busy() -> float:
    """Processor seconds that others than this process and its children have had; 0 where the system does not tell."""
    try:
        user, nice, system, _, _, irq, soft, stolen = map(int, _STAT.read_text().split(maxsplit=9)[1:9])
    except (OSError, ValueError):
        return 0.0
    all_of_us = sum(os.times()[:4])
    return (user + nice + system + irq + soft + stolen) / os.sysconf("SC_CLK_TCK") - all_of_us
