"""Tables as pure functions of records: the layout of the published Table 1, and a timing table beside it."""

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from benchmark.published import Published, published, published_baseline
from benchmark.records import write_table
from benchmark.score import ceilings, score
from datasets.catalogue import DOMAINS

GROUP = ("data", "data_id", "standin", "split", "limit", "profile", "settings", "backbone_source")
BASELINE = "finetune"


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
    groups: dict[tuple, list[dict]] = defaultdict(list)
    for record in records:
        groups[tuple(record[name] for name in GROUP)].append(record)
    lent: dict[tuple, list[dict]] = defaultdict(list)
    for record in shipped:
        if record["method"] == BASELINE:
            lent[tuple(record[name] for name in GROUP)].append(record)
    return [_table(dict(zip(GROUP, key, strict=True)), mine, lent[key]) for key, mine in sorted(groups.items(), key=str)]


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
    return full == set(DOMAINS) and all(r["split"] == "test" and not r["standin"] and r["limit"] is None for r in records)


def _table(group: dict, records: list[dict], lent: list[dict]) -> Table:
    own = sorted({r["domain"] for r in records if r["k"] == 0})
    if real_test(records):
        reference, baseline = published_baseline(), "the published fine-tune row"
    else:
        mine = [r for r in records if r["method"] == BASELINE]
        chosen = mine + [r for r in lent if r["hash"] not in {m["hash"] for m in mine}]
        reference = baseline_top1(chosen)
        seeds = len({r["seed"] for r in chosen})
        shipped = " (records that come with the suite)" if chosen and not mine else ""
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
    elif len(limits) < 10:
        why = "S stays empty: there is no fine-tune run of the same profile, data and split on all ten domains"
    images = {}
    for record in records:
        images[record["domain"]] = record["train_images"] + (record["eval_images"] if record["split"] == "val" else 0)
    return Table(group, rows, own, images, baseline, why, _timing(by_method))


def _row(records: list[dict], limits: dict[str, float], own: list[str]) -> Row:
    by_seed: dict[int, dict[str, float]] = defaultdict(dict)
    for record in records:
        by_seed[record["seed"]][record["domain"]] = record["top1"]
    order = [*DOMAINS, *own]
    domains = {
        name: Spread.of([cells[name] for cells in by_seed.values() if name in cells])
        for name in order
        if any(name in cells for cells in by_seed.values())
    }
    whole = [cells for cells in by_seed.values() if all(name in cells for name in DOMAINS)]
    scores = [s for cells in whole if (s := score(cells, limits)) is not None]
    first = records[0]
    heads = {r["domain"]: r["head_floats"] for r in records if r["k"]}
    return Row(
        label=first["label"] + (first["method"].partition("(")[1] + first["method"].partition("(")[2]),
        method=first["method"],
        multiplier=first["multiplier"],
        multiplier_heads=first["multiplier"] + sum(heads.values()) / first["base_floats"],
        domains=domains,
        seeds=len(by_seed),
        mean=Spread.of([statistics.fmean(cells[n] for n in DOMAINS) for cells in whole]) if whole else None,
        S=Spread.of(scores) if scores and len(scores) == len(whole) else None,
    )


def _timing(by_method: dict[str, list[dict]]) -> list[dict]:
    """Per method: sums over its target domains (the backbone's own cell left out), mean over seeds."""
    cells = {m: [r for r in records if not r["source_cell"]] for m, records in by_method.items()}
    against = {(r["domain"], r["device"], r["workers"]): _seconds(r) for r in cells.get(BASELINE, ())}
    rows = []
    for method, records in cells.items():
        if not records:
            continue
        seeds = len({r["seed"] for r in records})
        pairs = [(_seconds(r), against.get((r["domain"], r["device"], r["workers"]))) for r in records]
        ratio = None
        if all(other is not None for _, other in pairs):
            ratio = sum(mine for mine, _ in pairs) / sum(other for _, other in pairs)
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
                "joules": sum(r["joules"] for r in records) / seeds if all(r["joules"] for r in records) else None,
                "MMACs": _median(records, "macs_train", 1e-6),
                "merged MMACs": _median(records, "macs_inference", 1e-6),
                "device": records[0]["device"],
                "workers": records[0]["workers"],
                "threads": records[0]["threads"],
            }
        )
    return sorted(rows, key=lambda row: row["seconds"])


def _seconds(record: dict) -> float:
    return record["train_seconds"] + (record["prepare_seconds"] or 0.0)


def _median(records: list[dict], name: str, scale: float = 1.0) -> float | None:
    values = [r[name] for r in records if r[name] is not None]
    return statistics.median(values) * scale if values else None


# ------------------------------------------------------------------------------------- as text


def heading(table: Table) -> str:
    """What the group is: data, split, profile, backbone."""
    group = table.group
    settings = json.loads(group["settings"])
    parts = [
        f"{'stand-in data' if group['standin'] else 'data'} {group['data']}",
        f"split {group['split']}",
        f"profile {group['profile']} ({settings['network']}, width {settings['width']:g}, {settings['crop']} px)",
    ]
    if group["backbone_source"] != "pretrained":
        parts.append(f"backbone {group['backbone_source']}")
    if group["limit"] is not None:
        parts.append(f"CUT to {group['limit']} images a split: no result")
    return ", ".join(parts)


def header(table: Table) -> list[str]:
    return ["Model", "#par.", *(domain.column for domain in DOMAINS.values()), *table.own, "mean", "S"]


def images_line(table: Table) -> list[str]:
    """The paper's "# images" where the data are the real ones, the actual counts otherwise."""

    def count(name: str) -> str:
        n, domain = table.images.get(name), DOMAINS.get(name)
        if n is None:
            return ""
        return domain.paper_images if domain and n == sum(domain.counts[:2]) else f"{n:,}"

    return ["# images", "", *(count(name) for name in (*DOMAINS, *table.own)), "", ""]


def _number(spread: Spread | None, digits: int) -> str:
    if spread is None:
        return ""
    text = f"{spread.mean:.{digits}f}"
    return text if spread.deviation is None else f"{text} ±{spread.deviation:.{digits}f}"


def cells(row: Row, own: list[str]) -> list[str]:
    """A row as text, one decimal where there are deviations, two where not; n/10 in the mean's place if not ten."""
    digits = 2 if row.seeds == 1 else 1
    return [
        row.label,
        f"{row.multiplier:.2f}",
        *(_number(row.domains.get(name), digits) for name in (*DOMAINS, *own)),
        _number(row.mean, digits) if row.ten == 10 else f"({row.ten}/10)",
        _number(row.S, 0),
    ]


def published_like(table: Table) -> list[Published]:
    """The published rows of the table's methods."""
    methods = {row.method.partition("(")[0] for row in table.rows}
    return [row for row in published() if row.method in methods]


def published_cells(row: Published, own: list[str]) -> list[str]:
    return [
        row.label,
        row.params,
        *(f"{row.top1[name]:.2f}" if name in row.top1 else "" for name in DOMAINS),
        *("" for _ in own),
        "" if row.mean is None else f"{row.mean:.2f}",
        "" if row.S is None else f"{row.S:.0f}",
    ]


def notes(table: Table) -> list[str]:
    out = [f"Top-1 in %. E_max of S: {table.baseline}."]
    if any(row.seeds > 1 for row in table.rows):
        out.append("± is the standard deviation over seeds; the backbone is one, so imagenet12 has none.")
    if table.why_no_score:
        out.append(table.why_no_score + ".")
    return out


APART = "Published, on the real test split: for orientation only, not comparable with the rows above."
BESIDE = "Published, on the same test split."


def markdown(table: Table) -> str:
    """The table, its published counterpart and the timing table."""
    lines = [f"## {heading(table)}", "", *_markdown(header(table), [images_line(table)] + [cells(r, table.own) for r in table.rows])]
    lines += ["", *notes(table), ""]
    if rows := published_like(table):
        beside = table.baseline.startswith("the published")
        lines += [BESIDE if beside else APART, ""]
        lines += [*_markdown(header(table), [published_cells(r, table.own) for r in rows]), ""]
    if table.timing:
        lines += ["Time and cost, summed over the target domains", ""]
        lines += [*_markdown(*timing_text(table)), ""]
    return "\n".join(lines)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(values: Iterable[str]) -> str:
        return "| " + " | ".join(value.replace("|", "\\|") for value in values) + " |"

    return [line(head), line(["---"] + ["---:"] * (len(head) - 1)), *map(line, rows)]


def timing_text(table: Table) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the timing table as text; empty where nothing was measured."""
    digits = {"seconds": 1, "T/T_FFT": 2, "step ms": 1, "p10": 1, "p90": 1, "MMACs": 1, "merged MMACs": 1}
    head = [name for name in table.timing[0] if name not in ("method", "workers", "threads")]

    def text(name: str, value) -> str:
        if value is None:
            return ""
        return value if isinstance(value, str) else f"{value:,.{digits.get(name, 0)}f}"

    return head, [[text(name, row[name]) for name in head] for row in table.timing]


# ------------------------------------------------------------------------------------- as files


def write(found: list[Table], folder: Path) -> list[Path]:
    """table1.parquet, table1.md and timing.parquet in `folder`."""
    rows, times = [], []
    for table in found:
        group = table.group | {"baseline": table.baseline}
        for row in table.rows:
            line = {"Model": row.label, "#par.": row.multiplier}
            for name in (*DOMAINS, *table.own):
                column = DOMAINS[name].column if name in DOMAINS else name
                spread = row.domains.get(name)
                line[column] = spread and spread.mean
                line[f"{column} sd"] = spread and spread.deviation
            line |= {"mean": row.mean and row.mean.mean, "mean sd": row.mean and row.mean.deviation}
            line |= {"S": row.S and row.S.mean, "S sd": row.S and row.S.deviation}
            line |= {"#par. with heads": row.multiplier_heads, "seeds": row.seeds, "domains": row.ten}
            rows.append(line | {"method": row.method} | group)
        times += [row | group for row in table.timing]
    own = sorted({name for table in found for name in table.own})
    columns = [domain.column for domain in DOMAINS.values()] + own
    first = ["Model", "#par.", *columns, "mean", "S"]
    numbers = [*first[1:], *(f"{c} sd" for c in (*columns, "mean", "S")), "#par. with heads"]
    schema = [(name, pa.string() if name == "Model" else pa.float64()) for name in first]
    schema += [(name, pa.float64()) for name in numbers if name not in first]
    schema += [("seeds", pa.int32()), ("domains", pa.int32()), ("method", pa.string())]
    schema += [("data", pa.string()), ("data_id", pa.string()), ("standin", pa.bool_()), ("split", pa.string())]
    schema += [("limit", pa.int32()), ("profile", pa.string()), ("settings", pa.string())]
    schema += [("backbone_source", pa.string()), ("baseline", pa.string())]
    paths = [write_table(pa.Table.from_pylist(rows, pa.schema(schema)), folder / "table1.parquet")]
    text = "\n".join(markdown(table) for table in found)
    paths.append(_write_text(text, folder / "table1.md"))
    if times:
        paths.append(write_table(pa.Table.from_pylist(times), folder / "timing.parquet"))
    return paths


def _write_text(text: str, path: Path) -> Path:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
    return path
