"""Tables as text: the published layout in Markdown, and the same cells for the screen."""

import json
from collections.abc import Iterable, Sequence

from benchmark.published import Published, published
from benchmark.tables import Row, Spread, Table
from datasets.catalogue import DOMAINS


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
        out.append("± is the standard deviation over seeds; the backbone is one, so imagenet12 has none.")
    if table.why_no_score:
        out.append(table.why_no_score + ".")
    return out


APART = "Published, on the real test split: for orientation only, not comparable with the rows above."
BESIDE = "Published, on the same test split."


def grid(table: Table) -> tuple[list[str], list[list[list[str]]]]:
    """(header, sections of rows): the "# images" line, ours, and the published rows of the same methods."""
    sections = [[images_line(table)], [cells(row, table.own) for row in table.rows]]
    if rows := published_like(table):
        sections.append([published_cells(row, table.own) for row in rows])
    return header(table), sections


def markdown(table: Table) -> str:
    """The table, its published counterpart clearly apart unless comparable, and the timing table."""
    head, (images, ours, *theirs) = grid(table)
    lines = [f"## {heading(table)}", "", *_markdown(head, images + ours), "", *notes(table), ""]
    if theirs:
        lines += [apart(table), "", *_markdown(head, theirs[0]), ""]
    if table.timing:
        lines += [TIMING, "", *_markdown(*timing_text(table)), ""]
    return "\n".join(lines)


TIMING = "Time and cost: seconds and joules are sums over the target domains, step and throughput medians."


def apart(table: Table) -> str:
    """Whether the published rows may stand beside ours."""
    return BESIDE if table.baseline.startswith("the published") else APART


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(values: Iterable[str]) -> str:
        return "| " + " | ".join(value.replace("|", "\\|") for value in values) + " |"

    return [line(head), line(["---"] + ["---:"] * (len(head) - 1)), *map(line, rows)]


def timing_text(table: Table) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the timing table as text; empty where nothing was measured."""
    digits = {"seconds": 1, "T/T_FFT": 2, "peak/FFT": 2}
    digits |= {"step ms": 1, "p10": 1, "p90": 1, "MMACs": 1, "merged MMACs": 1}
    head = [name for name in table.timing[0] if name not in ("method", "workers", "threads")]

    def text(name: str, value) -> str:
        if value is None:
            return ""
        return value if isinstance(value, str) else f"{value:,.{digits.get(name, 0)}f}"

    return head, [[text(name, row[name]) for name in head] for row in table.timing]
