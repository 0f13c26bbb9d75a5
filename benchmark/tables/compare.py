"""Compares two methods on the same domains and seeds: the paired difference with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import pandas as pd

from visual_decathlon.benchmark.tables.display_text import printable_frame
from visual_decathlon.benchmark.tables.grouping import GROUP, codes, current
from visual_decathlon.benchmark.tables.intervals import student_half_width
from visual_decathlon.datasets.catalogue import DOMAINS


@dataclass(frozen=True)
class Difference:
    """A - B in points of top-1. `half` is half the 95 % interval of the mean (Student), None for one pair."""

    name: str  # the domain, or which domains the mean is over
    a: float
    b: float
    mean: float
    half: float | None
    pairs: int

    @property
    def wins(self) -> str:
        """ "A" or "B" where the interval does not contain 0; "" where it does or is unknown."""
        if self.half is None or abs(self.mean) <= self.half:
            return ""
        return "A" if self.mean > 0 else "B"


def compare(frame: pd.DataFrame, a: str, b: str) -> list[tuple[dict, list[Difference], Difference | None]]:
    """For each group of comparable records that has both methods: (group, differences by domain, overall difference).

    Pairs share a domain and a seed, and their data are the newest that either method was run on: see
    `grouping.current`. The overall difference takes each official domain's mean difference as one observation, because
    seeds of one domain are not independent of each other. The backbone's own runs are left out.
    """
    frame, _ = current(printable_frame(frame[frame["method"].isin([a, b]) & ~frame["source_cell"].astype(bool)]))
    out = []
    group = codes(*(frame[name] for name in GROUP)) if len(frame) else []
    for code in sorted(set(group)):
        members = frame[group == code]
        wide = members.astype({"method": object, "domain": object}).pivot(
            index=["domain", "seed"], columns="method", values="top1"
        )
        if not {a, b} <= set(wide):
            continue
        pairs = wide.dropna().sort_index()
        if len(pairs):
            lines, overall = _differences(pairs, a, b)
            out.append(({name: members[name].iloc[0] for name in GROUP}, lines, overall))
    return out


def _differences(pairs: pd.DataFrame, a: str, b: str) -> tuple[list[Difference], Difference | None]:
    """(differences by domain in the published order, that over the official domains) of one group."""
    order = [*DOMAINS, *sorted(set(pairs.index.get_level_values(0)) - set(DOMAINS))]
    by_domain = dict(list(pairs.groupby(level=0)))
    lines = [_difference(n, by_domain[n][a].tolist(), by_domain[n][b].tolist()) for n in order if n in by_domain]
    official = [line for line in lines if line.name in DOMAINS]  # an own domain does not count in a mean
    if not official:
        return lines, None
    return lines, _difference(f"mean of {len(official)}", [d.a for d in official], [d.b for d in official])


def _difference(name: str, a: Sequence[float], b: Sequence[float]) -> Difference:
    differences = [x - y for x, y in zip(a, b, strict=True)]
    half = student_half_width(differences)
    return Difference(name, fmean(a), fmean(b), fmean(differences), half, len(differences))
