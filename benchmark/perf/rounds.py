"""Measures several variants of one task in turn; rounds in which the machine did other work are dropped."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from visual_decathlon.benchmark.runtime.progress import ProgressCallback, silent

RETRYING = 30.0  # s of dropped rounds, after which no further round is dropped
OTHERS = 0.05  # of the machine's processors: a round in which other programs used more is dropped
_STAT = Path("/proc/stat")


@dataclass(frozen=True)
class Variant:
    """One way to do a task: `work()` does it once and returns the number of images, or of other units, processed."""

    name: str
    work: Callable[[], int]


@dataclass(frozen=True)
class Comparison:
    """How many times faster our variant is than the other: median, least and largest ratio of the rounds.

    `ours_value` and `other_value` are medians in `unit`. The other's is null where nothing is compared, both are where
    nothing could be measured (without a GPU, say).
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
    dropped: int  # rounds in which other programs used the machine
    peak_mb: float | None = None  # of the process while ours ran: it holds all variants of the part
    share: float | None = None  # multiply-adds of the reference at our speed, relative to the machine's ceiling


@dataclass(frozen=True)
class Rounds:
    """Speeds (units per second) by variant, one for each round that counts."""

    speeds: Mapping[str, list[float]]
    dropped: int

    def comparison(
        self, part: str, what: str, ours: str, other: str | None = None, unit: str = "img/s", **more
    ) -> Comparison:
        """Compare `ours` with `other`, both names of variants; with `unit` "s" the values are seconds, not speeds."""
        speeds, other_speeds = self.speeds[ours], self.speeds[other] if other else []
        ratios = [a / b for a, b in zip(speeds, other_speeds)]
        value = statistics.median if unit != "s" else lambda speeds: 1 / statistics.median(speeds)
        ratio = (statistics.median(ratios), min(ratios), max(ratios)) if ratios else (None, None, None)
        values = value(speeds), value(other_speeds) if other_speeds else None
        return Comparison(part, what, ours, other, unit, *values, *ratio, len(speeds), self.dropped, **more)


def run_interleaved(
    variants: list[Variant], rounds: int, progress: ProgressCallback = silent, what: str = ""
) -> Rounds:
    """Run the variants in turn until `rounds` rounds count; one more before these warms up.

    At most `rounds` rounds are dropped, and only during RETRYING seconds. After that disturbed rounds count too, and
    `dropped` shows how many were dropped. `progress` is called with the variant of `what` and the round.
    """
    steps, done = len(variants) * (1 + rounds), 0

    def report(variant: Variant, which: str) -> None:
        nonlocal done
        progress(", ".join(filter(None, (what, variant.name, which))), done, steps)
        done += 1

    for variant in variants:
        report(variant, "warming up")
        variant.work()
    speeds: dict[str, list[float]] = {variant.name: [] for variant in variants}
    dropped, retried = 0, 0.0
    while (kept := len(speeds[variants[0].name])) < rounds:
        again = f" (again: others had the machine in {dropped})" if dropped else ""
        start, busy_before = time.perf_counter(), _busy()
        measured = {}
        for variant in variants:
            report(variant, f"round {kept + 1} of {rounds}{again}")
            measured[variant.name] = _speed(variant.work)
        seconds = time.perf_counter() - start
        disturbed = (_busy() - busy_before) / seconds / (os.cpu_count() or 1) > OTHERS
        if disturbed and dropped < rounds and retried < RETRYING:
            dropped, retried, steps = dropped + 1, retried + seconds, steps + len(variants)
            continue
        for name, speed in measured.items():
            speeds[name].append(speed)
    return Rounds(speeds, dropped)


def _speed(work: Callable[[], int]) -> float:
    """Units per second of one call."""
    start = time.perf_counter()
    done = work()
    return done / (time.perf_counter() - start)


def _busy() -> float:
    """Processor seconds used so far by other programs than this process and its children; 0 where unknown."""
    try:
        user, nice, system, _, _, irq, soft, stolen = map(int, _STAT.read_text().split(maxsplit=9)[1:9])
    except (OSError, ValueError):
        return 0.0
    own = sum(os.times()[:4])
    return (user + nice + system + irq + soft + stolen) / os.sysconf("SC_CLK_TCK") - own
