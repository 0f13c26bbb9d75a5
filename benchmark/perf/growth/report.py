"""growth.md: a table, the figure and its caption for each scaling study."""

from collections.abc import Sequence

from visual_decathlon.benchmark.perf.growth.figures import number
from visual_decathlon.benchmark.report.figures import block
from visual_decathlon.benchmark.report.figures.style import Drawn


def table(rows: Sequence[dict]) -> list[list[str]]:
    """The table of one study, head first: a line for each series, a column for each value, spreads in brackets."""
    values = sorted({row["at"] for row in rows})
    lines = [[rows[0]["grows"], "", "", *(f"{value:,g}" for value in values)]]
    for series, what, unit in dict.fromkeys((row["series"], row["what"], row["unit"]) for row in rows):
        by_value = {row["at"]: row for row in rows if (row["series"], row["what"]) == (series, what)}
        lines.append([series, what, unit, *(_cell(by_value.get(value)) for value in values)])
    return lines


def _cell(row: dict | None) -> str:
    """The median, with least and largest value where they differ."""
    if row is None:
        return ""
    value, least, largest = (number(row[name]) for name in ("value", "least", "largest"))
    return value if least == largest else f"{value} ({least}–{largest})"


def markdown(rows: Sequence[dict], drawn: Sequence[Drawn]) -> str:
    """The blocks of all studies; `drawn` has a figure for each, in the order of the rows."""
    blocks = []
    for grows, figure in zip(dict.fromkeys(row["grows"] for row in rows), drawn, strict=True):
        of_study = [row for row in rows if row["grows"] == grows]
        head, *lines = table(of_study)
        rule = ["---"] * 3 + ["---:"] * (len(head) - 3)
        text = "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))
        first = of_study[0]
        made = f"commit {first['commit']}, load {first['load']:.1f} before the first round"
        blocks.append(f"{block(figure)}\n{text}\n\n{made}\n")
    return "\n".join(blocks)
