"""Tables as text: what stands in which cell, for the screen, Markdown and LaTeX alike."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from visual_decathlon.benchmark.tables import superseded
from visual_decathlon.benchmark.tables.costs import PLACE, is_disturbed
from visual_decathlon.benchmark.tables.published import Published, published
from visual_decathlon.benchmark.tables.ranking import ranks
from visual_decathlon.benchmark.tables.score import BASELINE
from visual_decathlon.benchmark.tables.table1 import Row, Spread, Table
from visual_decathlon.datasets.catalogue import DOMAINS, SOURCE


def heading(table: Table) -> str:
    """What the table's group is: data, split, profile, backbone."""
    return described(table.group)


def described(group: dict) -> str:
    """A group of comparable records in a line."""
    settings = json.loads(group["settings"])
    parts = [
        f"{'Stand-in data' if group['standin'] else 'Data'} {group['data']}",
        f"split {group['split']}",
        f"profile {group['profile']} ({settings['network']}, width {settings['width']:g}, {settings['crop']} px)",
    ]
    if group["backbone_source"] != "pretrained":
        parts.append(f"backbone {group['backbone_source']}")
    if group["limit"] is not None:
        parts.append(f"CUT to {group['limit']} images a split: no result")
    return ", ".join(parts)


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


def cells(row: Row, own: list[str], digits: int) -> list[str]:
    """A row as text; n/10 in the mean's place where there are not ten."""
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
    return [
        f"{row.label} (published)",
        row.params,
        *(f"{row.top1[name]:.{row.decimals}f}" if name in row.top1 else "" for name in DOMAINS),
        *("" for _ in own),
        "" if row.mean is None else f"{row.mean:.{row.decimals}f}",
        "" if row.S is None else f"{row.S:.0f}",
    ]


def notes(table: Table) -> list[str]:
    out = [f"Top-1 in %. E_max of S: {table.baseline}."]
    if any(row.seeds > 1 for row in table.rows):
        seeds = sorted({row.seeds for row in table.rows})
        many = f"n = {seeds[0]}" if len(seeds) == 1 else f"n = {seeds[0]} to {seeds[-1]}"
        out.append(f"± is the standard deviation over seeds ({many}); the backbone is one, so imagenet12 has none.")
        if any(row.mean and row.complete < row.seeds for row in table.rows):
            out.append("Mean and S are over the seeds that have all ten domains.")
        if any(row.method == BASELINE and row.seeds > 1 and row.S for row in table.rows):
            out.append(
                "S is the mean of the seeds' S; where the errors are E_max / 2 it is 2500, and above that on average "
                "where they vary about it, as fine-tune's own do."
            )
        if seeds[0] == 1:
            out.append("A row without ± is of one seed: a difference of a point or two from it says little.")
    if len(table.rows) > 1:
        out.append("Bold: the best of a column; underlined: the second.")
    if table.why_no_score:
        out.append(table.why_no_score + ".")
    return out + superseded.note(table)


APART = "Published, on the real test split: for orientation only, not comparable with the rows above."
BESIDE = "Published, on the same test split."


@dataclass(frozen=True)
class Sheet:
    """A table as text: rows that are ranked against each other, and what stands quietly above and below them."""

    title: str
    head: list[str]
    rows: list[list[str]]
    marks: list[list[str]]  # of each cell of `rows`: "best", "second" or ""
    above: list[list[str]]
    below: list[list[str]]
    notes: list[str]
    beneath: str = ""  # what the rows below are


def table1(table: Table) -> Sheet:
    """The published layout: the "# images" line, our rows, and the published rows of the same methods."""
    names, rows = (*DOMAINS, *table.own), table.rows
    digits = 2 if all(row.seeds == 1 for row in rows) else 1
    # The imagenet12 of a pretrained backbone is nobody's merit: it has no best.
    ranked = [name for name in names if name != SOURCE or table.group["backbone_source"] != "pretrained"]
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
        beneath=apart(table),
    )


def apart(table: Table) -> str:
    """Whether the published rows may stand beside ours."""
    return BESIDE if table.baseline.startswith("the published") else APART


TIMING = (
    "Time: seconds and joules are sums over the target domains, mean over seeds; steps and throughput are medians. "
    "T/T_FFT compares runs that shared the device alike, of the same seed, measured in the same hour, where there are "
    "such, and on a CPU their processor time, which other programs do not lengthen."
)
DISTURBED = "* Clock and processor time part by more than a tenth: others had the machine, and seconds tell little."
COST = (
    "Cost: what one more domain stores (means over the target domains), and the convolutions' multiply-adds an image. "
    "#par. also counts what all domains share beside the plain backbone: a wider one, a judge."
)
_LARGEST = {"train img/s": True, "eval img/s": True}
_SMALLEST = dict.fromkeys(("seconds", "T/T_FFT", "step ms", "peak MB", "peak/FFT", "joules"), False)
_DIGITS = {"seconds": 1, "T/T_FFT": 2, "peak/FFT": 2, "step ms": 1, "p10": 1, "p90": 1}
_DIGITS |= {"#par.": 2, "#par. with heads": 2, "kB a domain": 1, "MMACs": 1, "merged MMACs": 1}


def timing(table: Table) -> Sheet:
    """Ranked where all were measured on one device, as busy; times of others stand side by side without a place."""
    busy = {(*(row[name] for name in PLACE), row["device"] != "cpu" and row["runs_on_device"]) for row in table.timing}
    sheet = _sheet(table, TIMING, table.timing, _LARGEST | _SMALLEST if len(busy) == 1 else {})
    for line, row in zip(sheet.rows, table.timing, strict=True):
        if is_disturbed(row):
            line[sheet.head.index("seconds")] += "*"
    if any(map(is_disturbed, table.timing)):
        sheet.notes.append(DISTURBED)
    return sheet


def cost(table: Table) -> Sheet:
    return _sheet(table, COST, table.cost, {})


def _sheet(table: Table, about: str, rows: list[dict], ranked: dict[str, bool]) -> Sheet:
    """Rows of one kind as text; `ranked` names the columns that have a best, and whether it is the largest."""
    quiet = ("method", "seeds", "records", "machine", "workers", "threads", "processor s", "runs_on_device")
    head = [name for name in (rows[0] if rows else ()) if name not in quiet]

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


def differs(table: Table, other: Table) -> str:
    """Why the two are not one table: in which settings their runs differ."""
    mine, theirs = table.group, other.group
    parts = []
    for name, value in mine.items():
        if value == theirs[name] or (name == "data_id" and mine["data"] != theirs["data"]):
            continue
        if name == "settings":
            parts += _settings(json.loads(value), json.loads(theirs[name]))
        elif name == "standin":
            parts.append("drawn stand-ins" if value else "real images")
        elif name == "limit":
            parts.append("whole splits" if value is None else f"splits cut to {value} images")
        else:
            parts.append(f"{_WORDS.get(name, name)} {value}")
    return "; ".join(parts)


_WORDS = {"data_id": "other annotations", "backbone_source": "backbone", "training": "training version"}


def _settings(mine: dict, theirs: dict, prefix: str = "") -> list[str]:
    out = []
    for name in sorted(mine.keys() | theirs.keys()):
        value, other = mine.get(name), theirs.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            out += _settings(value, other, f"{name}.".replace("adapt.", ""))
        elif value is not None and value != other and name != "name":
            out.append(f"{prefix}{name}={value}")
    return out


def markdown(found: Sequence[Table], sheet: Callable[[Table], Sheet]) -> str:
    """One kind of sheet of every group under its own heading, which says what sets it apart from the first."""
    lines = []
    for table in found:
        one = sheet(table)
        if not one.rows:
            continue
        lines += [f"## {_escaped(one.title)}", ""]
        if table is not found[0]:
            lines += [f"Not comparable with the first table: {_escaped(differs(table, found[0]))}.", ""]
        rows = [[_MARKDOWN[m].format(_escaped(c)) for m, c in zip(*pair)] for pair in zip(one.marks, one.rows)]
        lines += [*_markdown(one.head, [[*map(_escaped, row)] for row in one.above] + rows), "", *one.notes, ""]
        if one.below:
            lines += [one.beneath, "", *_markdown(one.head, [[*map(_escaped, row)] for row in one.below]), ""]
    return "\n".join(lines)


_MARKDOWN = {"": "{}", "best": "**{}**", "second": "<u>{}</u>"}


_ESCAPES = str.maketrans({char: f"\\{char}" for char in "\\|*_<>`[$"} | {"\n": " ", "&": "&amp;"})


def _escaped(text: str) -> str:
    return " ".join(text.translate(_ESCAPES).split())


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(values: Iterable[str]) -> str:
        return "| " + " | ".join(values) + " |"

    return [line(map(_escaped, head)), line(["---"] + ["---:"] * (len(head) - 1)), *map(line, rows)]
