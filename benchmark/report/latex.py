"""Tables for a paper: LaTeX with booktabs."""

from collections.abc import Callable, Sequence

from visual_decathlon.benchmark.report.sheets import Sheet, differs
from visual_decathlon.benchmark.tables.table1 import Table

_ESCAPES = str.maketrans(
    {
        **{char: f"\\{char}" for char in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "×": r"$\times$",
        "Δ": r"$\Delta$",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
    }
)
_MARKS = {"": "{}", "best": r"\textbf{{{}}}", "second": r"\underline{{{}}}"}


def escaped(text: str) -> str:
    """The text with LaTeX's special characters escaped."""
    return text.translate(_ESCAPES)


def latex(tables: Sequence[Table], sheet: Callable[[Table], Sheet]) -> str:
    r"""One `table` for each group; a document needs `\usepackage{booktabs}` and, for wide tables, graphicx."""
    parts = [r"% \usepackage{booktabs,graphicx}"]
    for table in tables:
        one = sheet(table)
        if not one.rows:
            continue
        notes = [one.title + ".", *one.notes]
        if table is not tables[0]:
            notes.append(f"Not comparable with the first table: {differs(table, tables[0])}.")
        if one.below:
            notes.append(f"The last rows: {one.beneath}")
        parts += _environment(one, notes)
    return "\n".join([*parts, ""])


def _environment(sheet: Sheet, notes: Sequence[str]) -> list[str]:
    """The lines of one `table` environment, the notes as its caption."""
    body = [_line(row) for row in sheet.above]
    body += [r"\midrule"] if sheet.above else []
    body += [_line(row, marks) for row, marks in zip(sheet.rows, sheet.marks, strict=True)]
    body += [r"\midrule", *map(_line, sheet.below)] if sheet.below else []
    return [
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{escaped(' '.join(notes))}}}",
        r"\resizebox{\textwidth}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * (len(sheet.head) - 1)}}}",
        r"\toprule",
        _line(sheet.head),
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]


def _line(cells: Sequence[str], marks: Sequence[str] | None = None) -> str:
    marked = (_MARKS[mark].format(escaped(cell)) for cell, mark in zip(cells, marks or [""] * len(cells), strict=True))
    line = " & ".join(marked)
    # After \\ or a rule, LaTeX would take these for an option of that command.
    return ("{}" if line.startswith(("[", "*")) else "") + line + r" \\"
