"""The data of the scatter figures: a point for each method, on the measure that the group has."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from visual_decathlon.benchmark.report.figures.style import MOST
from visual_decathlon.benchmark.tables.costs import PLACE, training_seconds
from visual_decathlon.benchmark.tables.score import BASELINE
from visual_decathlon.benchmark.tables.table1 import Row, Spread, Table
from visual_decathlon.datasets.catalogue import DOMAINS

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Point:
    """A method: its `value` on the measure, `seconds` of training on its domains and their `ratio` to fine-tune's."""

    row: Row
    label: str
    value: Spread
    seconds: float | None
    ratio: float | None


@dataclass(frozen=True)
class Measure:
    """S where a row has one, else mean top-1 over the ten domains, else over the domains that most rows share."""

    name: str  # of the axis
    short: str
    over: str  # for a caption
    of: str  # "S", "mean" or "some"
    points: list[Point]
    left_out: list[str]  # labels of the rows that lack a domain of the measure


def measured(table: Table) -> Measure:
    """The measure of the table and every row that has it, in the table's order."""
    scored, meant = any(row.S for row in table.rows), any(row.mean for row in table.rows)
    domains = list(DOMAINS) if scored or meant else _shared(table)
    trained = _trained(table, domains).groupby("method", observed=True)
    over = "mean top-1 over the ten domains"
    if scored:
        name, short, of, over = "Score S", "S", "S", "score S"
        values = {row.method: row.S for row in table.rows}
    elif meant:
        name, short, of = "Mean top-1 over the ten domains, %", "Mean top-1", "mean"
        values = {row.method: row.mean for row in table.rows}
    else:
        columns = ", ".join(column(name) for name in domains)
        short, of = ("Mean top-1" if len(domains) > 1 else "Top-1"), "some"
        over = f"mean top-1 over {columns}" if len(domains) > 1 else f"top-1 on {columns}"
        name = f"Mean top-1 over {len(domains)} domains, %" if len(domains) > 4 else f"{over[0].upper()}{over[1:]}, %"
        spread = trained["top1"].agg(["mean", "std"])
        values = {m: Spread.of(mean, std) for m, mean, std in spread.itertuples()}
    seconds = trained["seconds"].mean()  # NaN where all are NaN
    ratios = {row["method"]: row["T/T_FFT"] for row in table.timing}
    names = labels(table)
    points = [
        Point(row, names[m], values[m], _known(seconds.get(m)), ratios.get(m))
        for row in table.rows
        if values.get(m := row.method)
    ]
    return Measure(name, short, over, of, points, [names[r.method] for r in table.rows if not values.get(r.method)])


def labels(table: Table) -> dict[str, str]:
    """Labels for the figures, by method: long ones lose the names of their options, unless two became equal."""
    short = {row.method: _without_names(row.label) if len(row.label) > 28 else row.label for row in table.rows}
    count = Counter(short.values())
    return {row.method: short[row.method] if count[short[row.method]] == 1 else row.label for row in table.rows}


def column(domain: str) -> str:
    """A domain's column in Table 1, or an own domain's name."""
    return DOMAINS[domain].column if domain in DOMAINS else domain


def _without_names(label: str) -> str:
    """`Adapter(parallel, 1)` of Adapter(kind='parallel', n=1)."""
    name, bracket, options = label.partition("(")
    return name + bracket + re.sub(r"\b\w+=", "", options).replace("'", "")


def front(xs: Sequence[float], ys: Sequence[float]) -> list[int]:
    """Indices of the Pareto front, by x: points that no other beats (x no larger, y no smaller, one of them better)."""
    best, out = float("-inf"), []
    for i in sorted(range(len(xs)), key=lambda i: (xs[i], -ys[i])):
        twin = out and (xs[out[-1]], ys[out[-1]]) == (xs[i], ys[i])
        if ys[i] > best or twin:
            best = ys[i]
            out.append(i)
    return out


def measured_places(table: Table) -> list[str]:
    """Where the group's times were measured, as sorted texts; times of two places are not comparable."""
    runs = table.runs[~table.runs["source_cell"]]
    return sorted(map(place_text, runs[list(PLACE)].drop_duplicates().astype(str).to_dict("records")))


def place_text(place: dict) -> str:
    """Where a time was measured, of a run or a row of the timing table."""
    return "{machine} ({device}), {workers} side by side, threads {threads}".format(**place)


def seeds_text(rows: Sequence[Row]) -> str:
    """`n = 3 seeds`, or a range where rows differ."""
    low, high = min(row.seeds for row in rows), max(row.seeds for row in rows)
    return f"n = {high} seed{'s' * (high > 1)}" if low == high else f"n = {low} to {high} seeds"


def baseline_row(table: Table) -> Row | None:
    """The table's fine-tune row."""
    return next((row for row in table.rows if row.method == BASELINE), None)


def best(table: Table) -> list[Row]:
    """The best rows, MOST at most, for figures with a line or a file for each method. The table's last are the best."""
    return table.rows[-MOST:]


def cut(table: Table) -> str:
    """A sentence for captions about the rows that `best` leaves out; "" where it leaves out none."""
    return f" The {MOST} best of {len(table.rows):,} methods." if len(table.rows) > MOST else ""


def listed(labels: Sequence[str]) -> str:
    """The names, or their number where there are many."""
    return ", ".join(labels) if len(labels) <= 12 else f"{len(labels):,} methods"


def _shared(table: Table) -> list[str]:
    """The set of domains that gives most cells, counted over the rows that have all of the set."""
    sets = [frozenset(d for d in row.domains if d in DOMAINS) or frozenset(row.domains) for row in table.rows]
    cells = {chosen: len(chosen) * sum(chosen <= set(row.domains) for row in table.rows) for chosen in sets}
    chosen = max(cells, key=lambda s: (cells[s], len(s), sorted(s)))
    return [name for name in (*DOMAINS, *table.own) if name in chosen]


def _trained(table: Table, domains: list[str]) -> "pd.DataFrame":
    """A line for each method and seed with all the domains: mean top-1, and seconds of training and preparation.

    Seconds are summed over the domains without the pretrained backbone's own run, NaN where there is no other.
    """
    runs = table.runs[table.runs["domain"].isin(domains)]
    seconds = np.where(runs["source_cell"], np.nan, training_seconds(runs))
    lines = runs.assign(seconds=seconds).groupby(["method", "seed"], observed=True)
    trained = lines.agg(cells=("domain", "size"), top1=("top1", "mean"))
    trained["seconds"] = lines["seconds"].sum(min_count=1)
    return trained[trained["cells"] == len(domains)]


def _known(value: float | None) -> float | None:
    """The value, None for NaN."""
    return None if value is None or math.isnan(value) else float(value)
