"""Tables as text: the cells, marks and notes that the screen, Markdown and LaTeX share."""

import json
from dataclasses import dataclass

from visual_decathlon.benchmark.config.backbone_names import OWN
from visual_decathlon.benchmark.config.profiles import current_name
from visual_decathlon.benchmark.tables import superseded
from visual_decathlon.benchmark.tables.costs import PLACE, is_disturbed
from visual_decathlon.benchmark.tables.published import Published, published
from visual_decathlon.benchmark.tables.ranking import ranks
from visual_decathlon.benchmark.tables.score import BASELINE
from visual_decathlon.benchmark.tables.table1 import Row, Spread, Table
from visual_decathlon.datasets.catalogue import BACKBONE_DOMAIN, DOMAINS


def heading(table: Table) -> str:
    """Data, split, profile and backbone of the table's group, in one line."""
    return described(table.group)


def described(group: dict) -> str:
    """A group of comparable records in one line."""
    parts = [
        data_and_split(group["data"], group["split"], group["standin"]),
        f"profile {group['profile']} ({_network(group)})",
    ]
    if group["backbone_source"] != "pretrained":
        parts.append(f"backbone {group['backbone_source']}")
    if group["limit"] is not None:
        parts.append(f"CUT to {group['limit']} images a split: no result")
    return ", ".join(parts)


def data_and_split(data: str, split: str, standin: bool) -> str:
    """The words for them in headings and captions."""
    return f"{'Stand-in data' if standin else 'Data'} {data}, split {split}"


def backbone(group: dict) -> str:
    """Network, width and size of the images of a group of records, and its weights where they were given."""
    given = group["backbone_source"]
    return _network(group) + (f", weights {given}" if given != "pretrained" else "")


def _network(group: dict) -> str:
    return network_text(json.loads(group["settings"]))


def network_text(settings: dict, short: bool = False) -> str:
    """The network, its width if it has one, and the side of its images; `short` writes "(…)" for its arguments."""
    name, arguments, _ = settings["network"].partition("(")
    width = f", width {settings['width']:g}" * (name == OWN)
    return f"{name + '(…)' * bool(arguments) if short else settings['network']}{width}, {settings['crop']} px"


def images_line(table: Table) -> list[str]:
    """The line "# images": the paper's numbers where the data are the real ones, the actual counts otherwise."""

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


def cells(row: Row, own: list[str], digits: int) -> list[str]:
    """A row as text; (n/10) in place of the mean where domains are missing."""
    return [
        row.label,
        f"{row.multiplier:.2f}",
        *(_number(row.domains.get(name), digits) for name in (*DOMAINS, *own)),
        _number(row.mean, digits) if row.official_count == 10 else f"({row.official_count}/10)",
        _number(row.S, 0),
    ]


def published_like(table: Table) -> list[Published]:
    """The published rows of the table's methods."""
    methods = {row.method.partition("(")[0] for row in table.rows}
    return [row for row in published() if row.method in methods]


def published_cells(row: Published, own: list[str]) -> list[str]:
    """A published row as text, with the decimals of the print and empty cells for `own` domains."""
    return [
        f"{row.label} (published)",
        row.params,
        *(f"{row.top1[name]:.{row.decimals}f}" if name in row.top1 else "" for name in DOMAINS),
        *("" for _ in own),
        "" if row.mean is None else f"{row.mean:.{row.decimals}f}",
        "" if row.S is None else f"{row.S:.0f}",
    ]


def notes(table: Table) -> list[str]:
    """The sentences under Table 1: baseline, seeds, marks, missing scores and superseded runs."""
    out = [f"Top-1 in %. E_max of S: {table.baseline}.", *_seed_notes(table)]
    if len(table.rows) > 1:
        out.append("Bold: the best of a column; underlined: the second.")
    if table.why_no_score:
        out.append(table.why_no_score + ".")
    return out + superseded.note(table)


def _seed_notes(table: Table) -> list[str]:
    """The meaning of ± and S, where a row has several seeds."""
    if all(row.seeds <= 1 for row in table.rows):
        return []
    seeds = sorted({row.seeds for row in table.rows})
    count = f"n = {seeds[0]}" if len(seeds) == 1 else f"n = {seeds[0]} to {seeds[-1]}"
    out = [f"± is the standard deviation over seeds ({count}); the backbone is one, so imagenet12 has none."]
    if any(row.mean and row.complete < row.seeds for row in table.rows):
        out.append("Mean and S are over the seeds that have all ten domains.")
    if any(row.method == BASELINE and row.seeds > 1 and row.S for row in table.rows):
        out.append(
            "S is the mean of the seeds' S; where the errors are E_max / 2 it is 2500, and above that on average "
            "where they vary about it, as fine-tune's own do."
        )
    if seeds[0] == 1:
        out.append("A row without ± is of one seed: a difference of a point or two from it says little.")
    return out


NOT_COMPARABLE = "Published, on the real test split: for orientation only, not comparable with the rows above."
COMPARABLE = "Published, on the same test split."


@dataclass(frozen=True)
class Sheet:
    """A table as text: rows that are ranked against each other, and unranked rows above and below them."""

    title: str
    head: list[str]
    rows: list[list[str]]
    marks: list[list[str]]  # "best", "second" or "" for each cell of `rows`
    above: list[list[str]]
    below: list[list[str]]
    notes: list[str]
    beneath: str = ""  # a sentence about the rows below


def table1(table: Table) -> Sheet:
    """The published layout: the "# images" line, the table's rows, and the published rows of the same methods."""
    names, rows = (*DOMAINS, *table.own), table.rows
    digits = 2 if all(row.seeds == 1 for row in rows) else 1
    # All methods share the imagenet12 result of a pretrained backbone: it has no best.
    ranked = [name for name in names if name != BACKBONE_DOMAIN or table.group["backbone_source"] != "pretrained"]
    columns = [[(s := row.domains.get(n)) and s.mean if n in ranked else None for row in rows] for n in names]
    columns.append([row.mean and row.mean.mean for row in rows])
    marks = [ranks(values, digits) for values in columns] + [ranks([row.S and row.S.mean for row in rows], 0)]
    return Sheet(
        title=heading(table),
        head=["Model", "#par.", *(domain.column for domain in DOMAINS.values()), *table.own, "mean", "S"],
        rows=[cells(row, table.own, digits) for row in rows],
        marks=[["", "", *line] for line in zip(*marks, strict=True)],
        above=[images_line(table)],
        below=[published_cells(row, table.own) for row in published_like(table)],
        notes=notes(table),
        beneath=published_note(table),
    )


def published_note(table: Table) -> str:
    """The sentence on whether the published rows are comparable with the table's."""
    return COMPARABLE if table.published_baseline else NOT_COMPARABLE


TIMING = (
    "Time: seconds and joules are sums over the target domains, mean over seeds; steps and throughput are medians. "
    "T/T_FFT compares runs that shared the device alike, of the same seed, measured in the same hour, where there are "
    "such, and on a CPU their processor time, which other programs do not lengthen."
)
DISTURBED = "* Clock and processor time part by more than a tenth: others had the machine, and seconds tell little."
COST = (
    "Cost: what one more domain stores (means over the target domains), and multiply-adds of an image: of resnet26 "
    "those of the convolutions, of other networks also those of linear layers (not of the head) and attention. "
    "#par. also counts what all domains share beside the plain backbone: a wider one, a domain classifier."
)
_LARGEST = {"train img/s": True, "eval img/s": True}
_SMALLEST = dict.fromkeys(("seconds", "T/T_FFT", "step ms", "peak MB", "peak/FFT", "joules"), False)
_DIGITS = {"seconds": 1, "T/T_FFT": 2, "peak/FFT": 2, "step ms": 1, "p10": 1, "p90": 1}
_DIGITS |= {"#par.": 2, "#par. with heads": 2, "kB a domain": 1, "MMACs": 1, "merged MMACs": 1}


def timing(table: Table) -> Sheet:
    """Times and memory. They are ranked where all were measured in one place, shared by as many runs."""
    places = {
        (*(row[name] for name in PLACE), row["device"] != "cpu" and row["runs_on_device"]) for row in table.timing
    }
    sheet = _sheet(table, TIMING, table.timing, _LARGEST | _SMALLEST if len(places) == 1 else {})
    for line, row in zip(sheet.rows, table.timing, strict=True):
        if is_disturbed(row):
            line[sheet.head.index("seconds")] += "*"
    if any(map(is_disturbed, table.timing)):
        sheet.notes.append(DISTURBED)
    return sheet


def cost(table: Table) -> Sheet:
    """Storage and multiply-adds; nothing is ranked."""
    return _sheet(table, COST, table.cost, {})


def _sheet(table: Table, about: str, rows: list[dict], ranked: dict[str, bool]) -> Sheet:
    """Rows of one kind as text; `ranked` has the columns that have a best, and whether that is the largest value."""
    hidden = ("method", "seeds", "records", "machine", "workers", "threads", "processor s", "runs_on_device")
    head = [name for name in (rows[0] if rows else ()) if name not in hidden]

    def text(name: str, value) -> str:
        if value is None:
            return ""
        return value if isinstance(value, str) else f"{value:,.{_DIGITS.get(name, 0)}f}"

    columns = [
        ranks([row[name] for row in rows], _DIGITS.get(name, 0), ranked[name]) if name in ranked else [""] * len(rows)
        for name in head
    ]
    return Sheet(
        title=heading(table),
        head=head,
        rows=[[text(name, row[name]) for name in head] for row in rows],
        marks=[list(line) for line in zip(*columns, strict=True)],
        above=[],
        below=[],
        notes=[about, *superseded.note(table)],
    )


def differences(table: Table, other: Table) -> list[tuple[str, str]]:
    """(field of the group, text) of everything that separates `table` from `other`, a field of settings each."""
    group, reference = table.group, other.group
    parts = []
    for name, value in group.items():
        if value == reference[name] or (name == "data_id" and group["data"] != reference["data"]):
            continue
        if name == "settings":
            parts += [(name, text) for text in _settings(json.loads(value), json.loads(reference[name]))]
        elif name == "standin":
            parts.append((name, "drawn stand-ins" if value else "real images"))
        elif name == "limit":
            parts.append((name, "whole splits" if value is None else f"splits cut to {value} images"))
        else:
            parts.append((name, f"{_WORDS.get(name, name)} {value}"))
    return parts


def differs(table: Table, other: Table) -> str:
    """The differences between two groups in one line, "" where there are none."""
    return "; ".join(text for _, text in differences(table, other))


_WORDS = {"data_id": "other annotations", "backbone_source": "backbone", "training": "training version"}


def _settings(settings: dict, reference: dict, prefix: str = "") -> list[str]:
    """`name=value` of every setting that differs from the reference; those of `adapt` without its name."""
    out = []
    for name in sorted(settings.keys() | reference.keys()):
        value, other = settings.get(name), reference.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            out += _settings(value, other, "" if name == "adapt" else f"{name}.")
        elif value is not None and value != other and name != "name":
            out.append(f"{prefix}{current_name(name)}={value}")
    return out
