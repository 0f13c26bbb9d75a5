"""Table 1 as a pure function of records: groups of comparable runs, E_max of each, mean and S of each method.

Everything is computed on columns, without a loop over records: a hundred thousand of them take a second.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from visual_decathlon.benchmark.tables.comparability import computed_elsewhere
from visual_decathlon.benchmark.tables.costs import costs, times
from visual_decathlon.benchmark.tables.display_text import printable_frame
from visual_decathlon.benchmark.tables.grouping import (
    GROUP,
    agreeing,
    codes,
    current,
    first_positions,
    full_label,
    group_keys,
)
from visual_decathlon.benchmark.tables.published import published_baseline
from visual_decathlon.benchmark.tables.score import BASELINE, ceilings, domain_points
from visual_decathlon.datasets.catalogue import DOMAINS


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over seeds (None for one seed)."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, mean: float, deviation: float) -> "Spread":
        """Make one of numbers in which NaN means unknown."""
        return cls(float(mean), None if np.isnan(deviation) else float(deviation))


@dataclass
class Row:
    """One line of Table 1. `domains` by name, own domains after the ten; mean and S only with all ten."""

    label: str
    method: str
    family: str
    fidelity: str
    multiplier: float
    multiplier_heads: float
    domains: dict[str, Spread]
    binomial: dict[str, float]  # deviation that the finite sample alone gives, in points of top-1
    seeds: int
    complete: int  # seeds with all ten domains: mean and S are over these
    mean: Spread | None
    S: Spread | None
    runs: list[str]  # hashes of its records

    @property
    def official_count(self) -> int:
        """How many of the ten official domains the row has."""
        return sum(name in DOMAINS for name in self.domains)


@dataclass
class Table:
    """The rows of comparable records: same data, split, profile, settings, backbone, limit."""

    group: dict
    rows: list[Row]
    own: list[str]  # names of own domains
    images: dict[str, int]
    baseline: str  # where E_max is from, in words
    published_baseline: bool  # whether E_max is that of the published fine-tune row: the real test split alone
    why_no_score: str
    timing: list[dict]
    cost: list[dict]
    runs: pd.DataFrame  # the current records
    superseded: pd.DataFrame  # records that newer ones supersede, with the column `why`: see `grouping.current`


@dataclass(frozen=True)
class Baseline:
    """E_max of a group: (10,) in %, NaN where there is none."""

    e_max: np.ndarray
    text: str
    published: bool = False


def tables(frame: pd.DataFrame, shipped: pd.DataFrame | None = None) -> list[Table]:
    """One table for each group of comparable records, the largest first. `shipped` records only give the baseline of S.

    Frames are as `records.store.read_frame` gives them. Where data, a default or a backbone was changed, only records
    of the newest kind count: no cell is a mean over two kinds.
    """
    if not len(frame):
        return []
    frame, superseded = current(printable_frame(frame))
    group = codes(*(frame[name] for name in GROUP))
    keys, older = group_keys(frame.iloc[first_positions(group)]), group_keys(superseded)
    shipped_baselines = _shipped_baselines(shipped)
    baselines = [_baseline(frame, group == i, shipped_baselines.get(key)) for i, key in enumerate(keys)]
    row = codes(group, frame["method"])
    rows = _rows(frame, row, np.array([baseline.e_max for baseline in baselines])[group])
    timing, cost = times(frame, group, row), costs(frame, row)
    group_of = group[first_positions(row)]  # of each row
    size = np.bincount(group_of)
    out = []
    for i in sorted(range(len(keys)), key=lambda i: (-size[i], str(keys[i]))):
        members = np.flatnonzero(group_of == i)
        _tell_labels_apart([rows[j] for j in members])
        out.append(
            _table(
                dict(zip(GROUP, keys[i], strict=True)),
                [rows[j] for j in members],
                baselines[i],
                timing=sorted((_identity(rows[j]) | timing[j] for j in members if j in timing), key=_by_seconds),
                cost=sorted((_cost(rows[j], cost[j]) for j in members if j in cost), key=_by_parameters),
                runs=frame[group == i].reset_index(drop=True),
                superseded=superseded[np.array([key == keys[i] for key in older], bool)].reset_index(drop=True),
            )
        )
    return out


def _table(group: dict, rows: list[Row], baseline: Baseline, *, runs: pd.DataFrame, **parts) -> Table:
    """The table of one group, its rows sorted by mean top-1; `parts` are the remaining fields."""
    return Table(
        group=group,
        rows=sorted(rows, key=lambda r: (r.mean.mean if r.mean else -1, r.label, r.method)),
        own=sorted({name for row in rows for name in row.domains if name not in DOMAINS}),
        images=_images(runs),
        baseline=baseline.text,
        published_baseline=baseline.published,
        why_no_score=_why_no_score(rows, baseline.e_max),
        runs=runs,
        **parts,
    )


def _tell_labels_apart(rows: list[Row]) -> None:
    """Add the method string to labels that several methods of one table share."""
    count = Counter(row.label for row in rows)
    for row in rows:
        if count[row.label] > 1:
            row.label += f" [{row.method}]"


def _shipped_baselines(shipped: pd.DataFrame | None) -> dict[tuple, pd.DataFrame]:
    """The shipped fine-tune records by group."""
    if shipped is None or not len(baseline := shipped[shipped["method"] == BASELINE]):
        return {}
    baseline, _ = current(baseline)
    group = codes(*(baseline[name] for name in GROUP))
    return {key: baseline[group == i] for i, key in enumerate(group_keys(baseline.iloc[first_positions(group)]))}


def _baseline(frame: pd.DataFrame, mask: np.ndarray, shipped: pd.DataFrame | None) -> Baseline:
    """The baseline of one group, whose records `mask` selects; `shipped` are fine-tune records of the same group."""
    if is_real_test(frame, mask):
        return Baseline(_in_order(ceilings(published_baseline())), "the published fine-tune row", published=True)
    members = frame[mask]
    own = members[members["method"] == BASELINE]
    if shipped is not None:
        shipped = agreeing(shipped, members)
    # Never a mixture: another run's records may have another learning rate. Where the own records have no error on
    # some domain, as with a single seed, there is no S: then the shipped ones serve, which have more seeds.
    usable = len(own) and all(ceilings(baseline_top1(own)).values())
    chosen = own if usable or shipped is None or not len(shipped) else shipped
    text = "none"
    if len(chosen):
        where = computed_elsewhere(shipped, members) if chosen is shipped else ""
        origin = f" (records of another run{where and ', ' + where})" if chosen is shipped else ""
        text = f"fine-tune on the same data, split and profile, n = {chosen['seed'].nunique()}{origin}"
    return Baseline(_in_order(ceilings(baseline_top1(chosen))), text)


def _in_order(e_max: dict[str, float]) -> np.ndarray:
    """(10,) in the order of DOMAINS, NaN where a domain is missing."""
    return np.array([e_max.get(name, np.nan) for name in DOMAINS])


def baseline_top1(fine: pd.DataFrame) -> dict[str, float]:
    """Mean top-1 of fine-tune records by domain."""
    return fine.groupby("domain", observed=True)["top1"].mean().to_dict()


def is_real_test(frame: pd.DataFrame, mask: np.ndarray) -> bool:
    """Whether the selected records are the whole real test split: the published baseline serves there alone."""
    one = frame.iloc[np.argmax(mask)]
    if one["split"] != "test" or one["standin"] or not pd.isna(one["limit"]):
        return False
    official = frame[mask & (frame["k"] > 0).to_numpy()]
    evaluated = zip(official["domain"], official["eval_images"], strict=True)
    return {name for name, images in evaluated if images == DOMAINS[name].counts[2]} == set(DOMAINS)


def spreads(code: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(count, mean, standard deviation with n - 1, NaN for a single value) of the values of each code."""
    count = np.bincount(code)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.bincount(code, values) / count
        deviation = np.sqrt(np.bincount(code, (values - mean[code]) ** 2) / (count - 1))
    return count, mean, np.where(count > 1, deviation, np.nan)


def _rows(frame: pd.DataFrame, row: np.ndarray, e_max: np.ndarray) -> list[Row]:
    """A Row for each code of `row`; `e_max` is (records, 10), of each record's group."""
    first = first_positions(row)
    domains, samples = _cells(frame, row)
    multiplier, heads = _multipliers(frame, row)
    seeds, complete, means, scores = _seed_means(frame, row, e_max)
    hashes: list[list[str]] = [[] for _ in first]
    for i, text in zip(row.tolist(), frame["hash"].tolist(), strict=True):
        hashes[i].append(text)
    columns = [frame[name].iloc[first].tolist() for name in ("label", "method", "family", "fidelity")]
    return [
        Row(
            label=full_label(label, method),
            method=method,
            family=family,
            fidelity=fidelity,
            multiplier=float(multiplier[i]),
            multiplier_heads=float(multiplier[i] + heads[i]),
            domains=domains[i],
            binomial=samples[i],
            seeds=int(seeds[i]),
            complete=int(complete[i]),
            mean=means[i],
            S=scores[i],
            runs=hashes[i],
        )
        for i, (label, method, family, fidelity) in enumerate(zip(*columns, strict=True))
    ]


def _positions(frame: pd.DataFrame) -> np.ndarray:
    """(n,) positions of the records' domains among the ten, -1 for an own domain."""
    return pd.Index(DOMAINS).get_indexer(frame["domain"].astype(object))


def _seed_means(
    frame: pd.DataFrame, row: np.ndarray, e_max: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[Spread | None], list[Spread | None]]:
    """(seeds, seeds with all ten domains, mean top-1, S) of each row; the latter two over the complete seeds."""
    position, top1 = _positions(frame), frame["top1"].to_numpy(float)
    official = position >= 0
    seed = codes(row, frame["seed"])  # a method with one seed
    count, row_of, rows = seed.max() + 1, row[first_positions(seed)], row.max() + 1
    whole = np.bincount(seed[official], minlength=count) == len(DOMAINS)
    ceiling = e_max[np.arange(len(frame)), np.maximum(position, 0)]
    with np.errstate(divide="ignore", invalid="ignore"):
        points = domain_points(top1, ceiling)
    points[ceiling == 0] = np.nan
    mean = np.bincount(seed[official], top1[official], count) / len(DOMAINS)
    score = np.bincount(seed[official], points[official], count)
    means, scores = (_over_seeds(row_of[whole], values[whole], rows) for values in (mean, score))
    return np.bincount(row_of), np.bincount(row_of, whole, rows).astype(int), means, scores


def _cells(frame: pd.DataFrame, row: np.ndarray) -> tuple[list[dict[str, Spread]], list[dict[str, float]]]:
    """For each row: top-1 by domain, and by domain the deviation that the finite sample alone gives, in points."""
    cell, values = codes(row, frame["domain"]), frame["top1"].to_numpy(float)
    at, (_, top1, deviation) = first_positions(cell), spreads(cell, values)
    source = frame["source_cell"].to_numpy(bool)[at]
    top1[source], deviation[source] = values[at][source], np.nan  # one backbone for all seeds
    evaluated = frame["eval_images"].to_numpy(float)[at]
    binomial = 100 * np.sqrt(np.maximum(0, top1 / 100 * (1 - top1 / 100)) / evaluated)
    position, domain = _positions(frame)[at], frame["domain"].astype(object).to_numpy()[at]
    rank, row_of = np.where(position < 0, len(DOMAINS), position), row[at]
    domains: list[dict] = [{} for _ in range(row.max() + 1)]
    samples: list[dict] = [{} for _ in range(row.max() + 1)]
    for i in np.lexsort((domain.astype(str), rank)).tolist():
        domains[row_of[i]][domain[i]] = Spread.of(top1[i], deviation[i])
        samples[row_of[i]][domain[i]] = float(binomial[i])
    return domains, samples


def _multipliers(frame: pd.DataFrame, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(#par., what the heads of the ten domains add) of each row, in multiples of the shared backbone.

    A domain's own parameters may depend on its image size: #par. is that of its mean domain, as often as it is counted.
    """
    at, first, rows = first_positions(codes(row, frame["domain"])), first_positions(row), row.max() + 1
    row_of, target = row[at], ~frame["source_cell"].to_numpy(bool)[at]
    count = np.bincount(row_of[target], minlength=rows)
    multiplier = frame["multiplier"].to_numpy(float)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(row_of[target], multiplier[at][target], rows) / count
    mean = np.where(count > 0, mean, multiplier[first])
    heads = np.bincount(row_of, np.where(_positions(frame) >= 0, frame["head_floats"], 0)[at], rows)
    return mean, heads / frame["base_floats"].to_numpy(float)[first]


def _over_seeds(row: np.ndarray, values: np.ndarray, rows: int) -> list[Spread | None]:
    """Mean and deviation of each row's seeds; None where there are none or one of them is NaN."""
    out: list[Spread | None] = [None] * rows
    if len(row):
        _, mean, deviation = spreads(row, values)
        for i in np.flatnonzero(~np.isnan(mean)).tolist():
            out[i] = Spread.of(mean[i], deviation[i])
    return out


def _by_seconds(timing: dict) -> tuple:
    """Sorting key: fewest seconds first, unmeasured rows last."""
    return timing["seconds"] is None, timing["seconds"] or 0.0, timing["method"]


def _by_parameters(cost: dict) -> tuple:
    """Sorting key: fewest parameters first."""
    return cost["#par."], cost["method"]


def _identity(row: Row) -> dict:
    """The columns that name a row in the timing and cost tables."""
    return {"Model": row.label, "method": row.method, "seeds": row.seeds, "records": " ".join(row.runs)}


def _cost(row: Row, cost: dict) -> dict:
    return _identity(row) | {"#par.": row.multiplier, "#par. with heads": row.multiplier_heads} | cost


def _why_no_score(rows: list[Row], e_max: np.ndarray) -> str:
    """The reason why S stays empty in some row, "" where it is in all."""
    if perfect := [name for name, value in zip(DOMAINS, e_max, strict=True) if value == 0]:
        return f"S stays empty: the baseline has no error on {', '.join(perfect)}"
    if any(row.official_count < 10 for row in rows):
        return "mean and S stay empty where not all ten domains are there"
    if np.isnan(e_max).any():
        return "S stays empty: there is no fine-tune run of the same profile, data and split on all ten domains"
    return ""


def _images(runs: pd.DataFrame) -> dict[str, int]:
    """Images of each domain: of train, and of val where that is the evaluated split."""
    one = runs.drop_duplicates("domain", keep="last")
    val = np.where(one["split"] == "val", one["eval_images"], 0)
    return dict(zip(one["domain"], (one["train_images"] + val).astype(int).tolist(), strict=True))
