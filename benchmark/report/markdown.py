"""Tables as Markdown, best values bold, second-best underlined."""

from collections.abc import Callable, Iterable, Sequence

from visual_decathlon.benchmark.report.sheets import Sheet, differs
from visual_decathlon.benchmark.tables.table1 import Table

_MARKS = {"": "{}", "best": "**{}**", "second": "<u>{}</u>"}
_ESCAPES = str.maketrans({char: f"\\{char}" for char in "\\|*_<>`[$"} | {"\n": " ", "&": "&amp;"})


def markdown(tables: Sequence[Table], sheet: Callable[[Table], Sheet]) -> str:
    """One kind of sheet for every group, each under its own heading, with its differences from the first group."""
    lines = []
    for table in tables:
        one = sheet(table)
        if not one.rows:
            continue
        lines += [f"## {escaped(one.title)}", ""]
        if table is not tables[0]:
            lines += [f"Not comparable with the first table: {escaped(differs(table, tables[0]))}.", ""]
        rows = [[_MARKS[m].format(escaped(c)) for m, c in zip(*pair)] for pair in zip(one.marks, one.rows)]
        lines += [*table_lines(one.head, [[*map(escaped, row)] for row in one.above] + rows), "", *one.notes, ""]
        if one.below:
            lines += [one.beneath, "", *table_lines(one.head, [[*map(escaped, row)] for row in one.below]), ""]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """The text in one line, in which no character is markup."""
    return " ".join(text.translate(_ESCAPES).split())


def table_lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table: the first column to the left, all others to the right. The cells of `rows` are Markdown."""

    def line(values: Iterable[str]) -> str:
        return "| " + " | ".join(values) + " |"

    return [line(map(escaped, head)), line(["---"] + ["---:"] * (len(head) - 1)), *map(line, rows)]
