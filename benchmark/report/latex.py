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
    return text.translate(_ESCAPES)


def latex(found: Sequence[Table], sheet: Callable[[Table], Sheet]) -> str:
    r"""One `table` of each group; a document needs `\usepackage{booktabs}` and, for wide tables, graphicx."""
    parts = [r"% \usepackage{booktabs,graphicx}"]
    for table in found:
        one = sheet(table)
        if not one.rows:
            continue
        notes = [one.title + ".", *one.notes]
        if table is not found[0]:
            notes.append(f"Not comparable with the first table: {differs(table, found[0])}.")
        if one.below:
            notes.append(f"The last rows: {one.beneath}")
        body = [_line(row) for row in one.above]
        body += [r"\midrule"] if one.above else []
        body += [_line(row, marks) for row, marks in zip(one.rows, one.marks, strict=True)]
        body += [r"\midrule", *map(_line, one.below)] if one.below else []
        parts += [
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{escaped(' '.join(notes))}}}",
            r"\resizebox{\textwidth}{!}{%",
            rf"\begin{{tabular}}{{l{'r' * (len(one.head) - 1)}}}",
            r"\toprule",
            _line(one.head),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
        ]
    return "\n".join([*parts, ""])


def _line(cells: Sequence[str], marks: Sequence[str] | None = None) -> str:
    marked = (_MARKS[mark].format(escaped(cell)) for cell, mark in zip(cells, marks or [""] * len(cells), strict=True))
    line = " & ".join(marked)
    # After \\ or a rule LaTeX would take these as an option of that.
    return ("{}" if line.startswith(("[", "*")) else "") + line + r" \\"
