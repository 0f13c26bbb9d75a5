"""Tables as pure functions of records: the layout of the published Table 1, and a timing table beside it."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from benchmark.published import published_baseline
from benchmark.score import BASELINE, ceilings, score
from datasets.catalogue import DOMAINS

GROUP = ("data", "data_id", "standin", "split", "limit", "profile", "settings", "backbone_source", "training")


@dataclass(frozen=True)
class Spread:
    """Mean over seeds and deviation over seeds (None for one seed)."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


@dataclass
class Row:
    """One line of Table 1. `domains` by name, own domains behind the ten; mean and S only with ten of ten."""

    label: str
    method: str
    multiplier: float
    multiplier_heads: float
    domains: dict[str, Spread]
    binomial: dict[str, float]  # deviation of a cell from the finite sample alone, in points of top-1
    seeds: int
    mean: Spread | None
    S: Spread | None

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
    timing: list[dict] = field(default_factory=list)


def tables(records: Iterable[dict], shipped: Iterable[dict] = ()) -> list[Table]:
    """One table a group of comparable records. `shipped` records only serve as the baseline of S."""
    groups, lent = _groups(records), _groups(r for r in shipped if r["method"] == BASELINE)
    return [
        _table(dict(zip(GROUP, key, strict=True)), groups[key], lent.get(key, [])) for key in sorted(groups, key=str)
    ]


def _groups(records: Iterable[dict]) -> dict[tuple, list[dict]]:
    """Comparable records; of several of one cell (a default or an image was changed) the newest."""
    newest: dict[tuple, dict] = {}
    for record in sorted(records, key=lambda r: r["created"]):
        group = tuple(record[name] for name in GROUP)
        newest[group, record["method"], record["domain"], record["seed"]] = record
    groups = defaultdict(list)
    for (group, *_), record in newest.items():
        groups[group].append(record)
    return groups


def baseline_top1(records: Iterable[dict]) -> dict[str, float]:
    """Mean top-1 of the fine-tune records by domain."""
    found = defaultdict(dict)
    for record in records:
        if record["method"] == BASELINE:
            found[record["domain"]][record["seed"]] = record["top1"]
    return {domain: statistics.fmean(seeds.values()) for domain, seeds in found.items()}


def real_test(records: Iterable[dict]) -> bool:
    """Whether these are the real test split, whole: there alone the published baseline serves."""
    full = {r["domain"] for r in records if r["k"] and r["eval_images"] == DOMAINS[r["domain"]].counts[2]}
    return full == set(DOMAINS) and all(
        r["split"] == "test" and not r["standin"] and r["limit"] is None for r in records
    )


def _table(group: dict, records: list[dict], lent: list[dict]) -> Table:
    own = sorted({r["domain"] for r in records if r["k"] == 0})
    if real_test(records):
        reference, baseline = published_baseline(), "the published fine-tune row"
    else:
        mine = [r for r in records if r["method"] == BASELINE]
        chosen = mine or lent  # never both: another run's records may be of another rate
        reference = baseline_top1(chosen)
        seeds = len({r["seed"] for r in chosen})
        shipped = " (records of another run)" if chosen and not mine else ""
        baseline = f"fine-tune on the same data, split and profile, n = {seeds}{shipped}" if chosen else "none"
    limits = ceilings(reference)
    perfect = [name for name in DOMAINS if limits.get(name) == 0]
    by_method: dict[str, list[dict]] = defaultdict(list)
    for record in records:
        by_method[record["method"]].append(record)
    rows = [_row(mine, limits, own) for mine in by_method.values()]
    rows.sort(key=lambda row: (row.mean.mean if row.mean else -1, row.label))
    why = ""
    if perfect:
        why = f"S stays empty: the baseline has no error on {', '.join(perfect)}"
    elif any(row.ten < 10 for row in rows):
        why = "mean and S stay empty where not all ten domains are there"
    elif any(name not in limits for name in DOMAINS):
        why = "S stays empty: there is no fine-tune run of the same profile, data and split on all ten domains"
    images = {}
    for record in records:
        images[record["domain"]] = record["train_images"] + (record["eval_images"] if record["split"] == "val" else 0)
    return Table(group, rows, own, images, baseline, why, _timing(by_method))


def _row(records: list[dict], limits: dict[str, float], own: list[str]) -> Row:
    by_seed: dict[int, dict[str, float]] = defaultdict(dict)
    for record in records:
        by_seed[record["seed"]][record["domain"]] = record["top1"]
    domains = {}
    for name in (*DOMAINS, *own):
        if values := [cells[name] for cells in by_seed.values() if name in cells]:
            domains[name] = Spread.of(values)
    for record in records:
        if record["source_cell"]:  # one backbone, whatever the seed: no deviation was measured
            domains[record["domain"]] = Spread(record["top1"], None)
    shown = {record["domain"]: record["eval_images"] for record in records}
    binomial = {n: 100 * math.sqrt(s.mean / 100 * (1 - s.mean / 100) / shown[n]) for n, s in domains.items()}
    whole = [cells for cells in by_seed.values() if all(name in cells for name in DOMAINS)]
    scores = [s for cells in whole if (s := score(cells, limits)) is not None]
    first = records[0]
    heads = {r["domain"]: r["head_floats"] for r in records if r["k"]}
    # A domain's own parameters may depend on its image size: #par. is that of its mean domain, nine times over.
    multiplier = statistics.fmean(
        sorted({r["domain"]: r["multiplier"] for r in records if not r["source_cell"]}.values())
        or [first["multiplier"]]
    )
    return Row(
        label=first["label"] + (first["method"].partition("(")[1] + first["method"].partition("(")[2]),
        method=first["method"],
        multiplier=multiplier,
        multiplier_heads=multiplier + sum(heads.values()) / first["base_floats"],
        domains=domains,
        binomial=binomial,
        seeds=len(by_seed),
        mean=Spread.of([statistics.fmean(cells[n] for n in DOMAINS) for cells in whole]) if whole else None,
        S=Spread.of(scores) if scores and len(scores) == len(whole) else None,
    )


def _timing(by_method: dict[str, list[dict]]) -> list[dict]:
    """Per method: sums over its target domains (the backbone's own cell left out), mean over seeds."""
    cells = {m: [r for r in records if not r["source_cell"]] for m, records in by_method.items()}
    against, memory = defaultdict(list), defaultdict(list)
    for record in cells.get(BASELINE, ()):
        against[_place(record)].append(_seconds(record))
        if record["peak_mb"] is not None:
            memory[_place(record)].append(record["peak_mb"])
    rows = []
    for method, records in cells.items():
        if not records:
            continue
        seeds = len({r["seed"] for r in records})
        ratio = None
        if all(_place(r) in against for r in records):
            ratio = sum(map(_seconds, records)) / sum(statistics.fmean(against[_place(r)]) for r in records)
        peaks = [(r["peak_mb"], memory[_place(r)]) for r in records]
        lean = all(mine is not None and other for mine, other in peaks)
        rows.append(
            {
                "Model": records[0]["label"],
                "method": method,
                "seconds": sum(_seconds(r) for r in records) / seeds,
                "T/T_FFT": ratio,
                "step ms": _median(records, "step_ms"),
                "p10": _median(records, "step_ms_p10"),
                "p90": _median(records, "step_ms_p90"),
                "train img/s": _median(records, "train_img_s"),
                "eval img/s": _median(records, "eval_img_s"),
                "peak MB": max((r["peak_mb"] for r in records if r["peak_mb"] is not None), default=None),
                "peak/FFT": statistics.fmean(mine / statistics.fmean(other) for mine, other in peaks) if lean else None,
                "kB a domain": statistics.fmean(r["bytes"] for r in records) / 1e3,
                "joules": sum(r["joules"] for r in records) / seeds if all(r["joules"] for r in records) else None,
                "MMACs": _median(records, "macs_train", 1e-6),
                "merged MMACs": _median(records, "macs_inference", 1e-6),
                "device": records[0]["device"],
                "workers": records[0]["workers"],
                "threads": records[0]["threads"],
            }
        )
    return sorted(rows, key=lambda row: row["seconds"])


def _place(record: dict) -> tuple:
    """Where a time may be held against another: one domain on one machine, as busy."""
    return tuple(record[name] for name in ("domain", "machine", "device", "workers", "threads"))


def _seconds(record: dict) -> float:
    return record["train_seconds"] + (record["prepare_seconds"] or 0.0)


def _median(records: list[dict], name: str, scale: float = 1.0) -> float | None:
    values = [r[name] for r in records if r[name] is not None]
    return statistics.median(values) * scale if values else None
