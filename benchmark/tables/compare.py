"""Two methods on the same domains and seeds: the paired difference, with its interval."""

import math
from dataclasses import dataclass
from statistics import fmean, stdev

import pandas as pd
from scipy.stats import t

from visual_decathlon.benchmark.tables.display_text import shown
from visual_decathlon.benchmark.tables.grouping import GROUP, codes, current
from visual_decathlon.datasets.catalogue import DOMAINS


@dataclass(frozen=True)
class Difference:
    """A - B in points of top-1. `half` is half the 95 % interval of the mean (Student), None for one pair."""

    name: str  # domain, or what the mean is over
    a: float
    b: float
    mean: float
    half: float | None
    pairs: int

    @property
    def wins(self) -> str:
        """ "A" or "B" where the interval leaves 0 out, "" where it does not or is unknown."""
        if self.half is None or abs(self.mean) <= self.half:
            return ""
        return "A" if self.mean > 0 else "B"


def compare(frame: pd.DataFrame, a: str, b: str) -> list[tuple[dict, list[Difference], Difference | None]]:
    """For each group of comparable records that holds both: (group, differences by domain, that over the official).

    Pairs are of the same data, the newest that either was run on: see `grouping.current`. Seeds are paired within a
    domain. The last takes each domain's mean difference as one observation, for seeds of one domain are not independent
    of each other. The backbone's own cells are left out.
    """
    frame, _ = current(shown(frame[frame["method"].isin([a, b]) & ~frame["source_cell"].astype(bool)]))
    out = []
    group = codes(*(frame[name] for name in GROUP)) if len(frame) else []
    for code in sorted(set(group)):
        mine = frame[group == code]
        wide = mine.astype({"method": object, "domain": object}).pivot(
            index=["domain", "seed"], columns="method", values="top1"
        )
        if not {a, b} <= set(wide):
            continue
        pairs = wide.dropna().sort_index()
        if not len(pairs):
            continue
        order = [*DOMAINS, *sorted(set(pairs.index.get_level_values(0)) - set(DOMAINS))]
        by_domain = dict(list(pairs.groupby(level=0)))
        lines = [_difference(n, by_domain[n][a].tolist(), by_domain[n][b].tolist()) for n in order if n in by_domain]
        over, official = None, [line for line in lines if line.name in DOMAINS]
        if official:  # an own domain has no share in a mean
            over = _difference(f"mean of {len(official)}", *([getattr(d, k) for d in official] for k in "ab"))
        out.append(({name: mine[name].iloc[0] for name in GROUP}, lines, over))
    return out


def _difference(name: str, a: list[float], b: list[float]) -> Difference:
    n = len(a)
    apart = [x - y for x, y in zip(a, b, strict=True)]
    half = float(t.ppf(0.975, n - 1)) * stdev(apart) / math.sqrt(n) if n > 1 else None
    return Difference(name, fmean(a), fmean(b), fmean(apart), half, n)
