"""Table 1 as a pure function of records: who shares a table, whose errors set E_max, mean and S of each method.

Columns throughout, no loop over records: a hundred thousand of them take a second.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from visual_decathlon.benchmark.tables.comparability import computed_elsewhere
from visual_decathlon.benchmark.tables.costs import costs, times
from visual_decathlon.benchmark.tables.display_text import shown
from visual_decathlon.benchmark.tables.grouping import GROUP, agreeing, codes, current, first, keys, named
from visual_decathlon.benchmark.tables.published import published_baseline
from visual_decathlon.benchmark.tables.score import BASELINE, ceilings
from visual_decathlon.datasets.catalogue import DOMAINS


@dataclass(frozen=True)
class Spread:
    """Mean over seeds and deviation over seeds (None for one seed)."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, mean: float, deviation: float) -> "Spread":
        """Of numbers in which NaN stands for what is not known."""
        return cls(float(mean), None if np.isnan(deviation) else float(deviation))


@dataclass
class Row:
    """One line of Table 1. `domains` by name, own domains behind the ten; mean and S only with ten of ten."""

    label: str
    method: str
    family: str
    fidelity: str
    multiplier: float
    multiplier_heads: float
    domains: dict[str, Spread]
    binomial: dict[str, float]  # deviation of a cell from the finite sample alone, in points of top-1
    seeds: int
    complete: int  # of them with all ten domains: mean and S are over these
    mean: Spread | None
    S: Spread | None
    runs: list[str]  # hashes of its records

    @property
    def ten(self) -> int:
        return sum(name in DOMAINS for name in self.domains)


@dataclass
class Table:
    """The rows of records that may be compared: same data, split, profile, settings, backbone, limit."""

    group: dict
    rows: list[Row]
    own: list[str]  # names of own domains
    images: dict[str, int]
    baseline: str  # where E_max is from
    why_no_score: str
    timing: list[dict]
    cost: list[dict]
    runs: pd.DataFrame  # the records, of each kind the current ones
    superseded: pd.DataFrame  # records that newer ones supersede, and `why`: see `grouping.current`


def tables(frame: pd.DataFrame, shipped: pd.DataFrame | None = None) -> list[Table]:
    """One table a group of comparable records, the largest first. `shipped` records only serve as the baseline of S.

    Frames as `records.read_frame` gives them. Where data, a default or a backbone was changed, only records of the
    newest kind count: no cell is a mean over two kinds.
    """
    if not len(frame):
        return []
    frame = shown(frame)
    frame, superseded = current(frame)
    group = codes(*(frame[name] for name in GROUP))
    found = keys(frame.iloc[first(group)])
    older = keys(superseded)
    lent = _lent(shipped)
    row = codes(group, frame["method"])
    limits, baselines = zip(*(_limits(frame, group == i, lent.get(found[i])) for i in range(len(found))))
    rows = _rows(frame, row, np.array(limits)[group])
    timing, cost = times(frame, group, row), costs(frame, row)
    group_of = group[first(row)]
    size = np.bincount(group_of)
    order = sorted(range(len(found)), key=lambda i: (-size[i], str(found[i])))
    out = []
    for i in order:
        mine = np.flatnonzero(group_of == i)
        runs = frame[group == i].reset_index(drop=True)
        own = sorted({name for j in mine for name in rows[j].domains if name not in DOMAINS})
        often = Counter(rows[j].label for j in mine)
        for j in mine:  # two methods may have one label: two rows of one table are never named alike
            if often[rows[j].label] > 1:
                rows[j].label += f" [{rows[j].method}]"
        out.append(
            Table(
                group=dict(zip(GROUP, found[i], strict=True)),
                rows=sorted((rows[j] for j in mine), key=lambda r: (r.mean.mean if r.mean else -1, r.label, r.method)),
                own=own,
                images=_images(runs),
                baseline=baselines[i],
                why_no_score=_why_no_score([rows[j] for j in mine], limits[i]),
                timing=sorted((_called(rows[j]) | timing[j] for j in mine if j in timing), key=_soonest),
                cost=sorted(
                    (_cost(rows[j], cost[j]) for j in mine if j in cost), key=lambda c: (c["#par."], c["method"])
                ),
                runs=runs,
                superseded=superseded[np.array([key == found[i] for key in older], bool)].reset_index(drop=True),
            )
        )
    return out


def _lent(shipped: pd.DataFrame | None) -> dict[tuple, pd.DataFrame]:
    """The shipped fine-tune records by group."""
    if shipped is None or not len(mine := shipped[shipped["method"] == BASELINE]):
        return {}
    mine, _ = current(mine)
    group = codes(*(mine[name] for name in GROUP))
    return {key: mine[group == i] for i, key in enumerate(keys(mine.iloc[first(group)]))}


def _limits(frame: pd.DataFrame, mine: np.ndarray, lent: pd.DataFrame | None) -> tuple[np.ndarray, str]:
    """((10,) E_max in %, NaN where there is none; what it is from), of one group's records."""
    fine = frame[mine & (frame["method"] == BASELINE).to_numpy()]
    if lent is not None:
        lent = agreeing(lent, frame[mine])
    if real_test(frame, mine):
        reference, said = published_baseline(), "the published fine-tune row"
    else:
        # Never both: another run's records may be of another rate. Without one error on a domain, as one seed may
        # be, there is no S: then the shipped ones, which have more seeds.
        own = len(fine) and all(ceilings(baseline_top1(fine)).values())
        chosen = fine if own or lent is None or not len(lent) else lent
        reference, said = baseline_top1(chosen), "none"
        if len(chosen):
            where = computed_elsewhere(lent, frame[mine]) if chosen is lent else ""
            shipped = f" (records of another run{where and ', ' + where})" if chosen is lent else ""
            said = f"fine-tune on the same data, split and profile, n = {chosen['seed'].nunique()}{shipped}"
    found = ceilings(reference)
    return np.array([found.get(name, np.nan) for name in DOMAINS]), said


def baseline_top1(fine: pd.DataFrame) -> dict[str, float]:
    """Mean top-1 of fine-tune records by domain."""
    return fine.groupby("domain", observed=True)["top1"].mean().to_dict()


def real_test(frame: pd.DataFrame, mine: np.ndarray) -> bool:
    """Whether these are the real test split, whole: there alone the published baseline serves."""
    one = frame.iloc[np.argmax(mine)]
    if one["split"] != "test" or one["standin"] or not pd.isna(one["limit"]):
        return False
    official = frame[mine & (frame["k"] > 0).to_numpy()]
    shown = zip(official["domain"], official["eval_images"], strict=True)
    return {name for name, images in shown if images == DOMAINS[name].counts[2]} == set(DOMAINS)


def spreads(code: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(count, mean, deviation with n - 1, NaN for one) of the values of each code."""
    count = np.bincount(code)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.bincount(code, values) / count
        deviation = np.sqrt(np.bincount(code, (values - mean[code]) ** 2) / (count - 1))
    return count, mean, np.where(count > 1, deviation, np.nan)


def _rows(frame: pd.DataFrame, row: np.ndarray, limit: np.ndarray) -> list[Row]:
    """A Row for each code of `row`; `limit` (records, 10) is E_max of each record's group."""
    names = pd.Index(DOMAINS)
    place = names.get_indexer(frame["domain"].astype(object))  # -1: an own domain
    official, top1 = place >= 0, frame["top1"].to_numpy(float)
    run = codes(row, frame["seed"])  # a method with one seed
    many, of_run = run.max() + 1, row[first(run)]
    whole = np.bincount(run[official], minlength=many) == len(DOMAINS)
    ceiling = limit[np.arange(len(frame)), np.maximum(place, 0)]
    with np.errstate(divide="ignore", invalid="ignore"):  # the formula of visual_decathlon.benchmark.tables.score
        part = 1000 * (np.maximum(0.0, ceiling - (100 - top1)) / ceiling) ** 2
    part[ceiling == 0] = np.nan
    mean = np.bincount(run[official], top1[official], many) / len(DOMAINS)
    score = np.bincount(run[official], part[official], many)

    cell = codes(row, frame["domain"])
    at, (_, top, deviation) = first(cell), spreads(cell, top1)
    source = frame["source_cell"].to_numpy(bool)[at]
    top[source], deviation[source] = top1[at][source], np.nan  # one backbone, whatever the seed
    of_cell, shown = row[at], frame["eval_images"].to_numpy(float)[at]
    binomial = 100 * np.sqrt(np.maximum(0, top / 100 * (1 - top / 100)) / shown)
    # A domain's own parameters may depend on its image size: #par. is that of its mean domain, nine times over.
    own, rows = ~source, row.max() + 1
    count = np.bincount(of_cell[own], minlength=rows)
    multiplier = frame["multiplier"].to_numpy(float)
    with np.errstate(invalid="ignore"):
        mine = np.bincount(of_cell[own], multiplier[at][own], rows) / count
    mine = np.where(count > 0, mine, multiplier[first(row)])
    heads = np.bincount(of_cell, np.where(official, frame["head_floats"], 0)[at], rows)
    heads = heads / frame["base_floats"].to_numpy(float)[first(row)]

    domains: list[dict] = [{} for _ in range(rows)]
    samples: list[dict] = [{} for _ in range(rows)]
    rank = np.where(place[at] < 0, len(DOMAINS), place[at])
    domain = frame["domain"].astype(object).to_numpy()[at]
    for i in np.lexsort((domain.astype(str), rank)).tolist():
        domains[of_cell[i]][domain[i]] = Spread.of(top[i], deviation[i])
        samples[of_cell[i]][domain[i]] = float(binomial[i])
    means, scores = (_over_seeds(of_run[whole], values[whole], rows) for values in (mean, score))
    hashes = [[] for _ in range(rows)]
    for i, text in zip(row.tolist(), frame["hash"].tolist(), strict=True):
        hashes[i].append(text)
    one = {name: frame[name].iloc[first(row)].tolist() for name in ("label", "method", "family", "fidelity")}
    seeds, complete = np.bincount(of_run), np.bincount(of_run, whole, rows).astype(int)
    return [
        Row(
            label=named(one["label"][i], one["method"][i]),
            method=one["method"][i],
            family=one["family"][i],
            fidelity=one["fidelity"][i],
            multiplier=float(mine[i]),
            multiplier_heads=float(mine[i] + heads[i]),
            domains=domains[i],
            binomial=samples[i],
            seeds=int(seeds[i]),
            complete=int(complete[i]),
            mean=means[i],
            S=scores[i],
            runs=hashes[i],
        )
        for i in range(rows)
    ]


def _over_seeds(row: np.ndarray, values: np.ndarray, rows: int) -> list[Spread | None]:
    """The values of each row's seeds; None where there are none or one of them is NaN."""
    out: list[Spread | None] = [None] * rows
    if len(row):
        _, mean, deviation = spreads(row, values)
        for i in np.flatnonzero(~np.isnan(mean)).tolist():
            out[i] = Spread.of(mean[i], deviation[i])
    return out


def _soonest(timing: dict) -> tuple:
    """Least seconds first, what was not measured last."""
    return timing["seconds"] is None, timing["seconds"] or 0.0, timing["method"]


def _called(row: Row) -> dict:
    return {"Model": row.label, "method": row.method, "seeds": row.seeds, "records": " ".join(row.runs)}


def _cost(row: Row, cost: dict) -> dict:
    return _called(row) | {"#par.": row.multiplier, "#par. with heads": row.multiplier_heads} | cost


def _why_no_score(rows: list[Row], limit: np.ndarray) -> str:
    """Why S stays empty somewhere, "" where it does not."""
    if perfect := [name for name, value in zip(DOMAINS, limit, strict=True) if value == 0]:
        return f"S stays empty: the baseline has no error on {', '.join(perfect)}"
    if any(row.ten < 10 for row in rows):
        return "mean and S stay empty where not all ten domains are there"
    if np.isnan(limit).any():
        return "S stays empty: there is no fine-tune run of the same profile, data and split on all ten domains"
    return ""


def _images(runs: pd.DataFrame) -> dict[str, int]:
    """Images of each domain: of train, and of val where that is what is evaluated."""
    found = runs.drop_duplicates("domain", keep="last")
    val = np.where(found["split"] == "val", found["eval_images"], 0)
    return dict(zip(found["domain"], (found["train_images"] + val).astype(int).tolist(), strict=True))
