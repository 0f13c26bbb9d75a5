"""Tables as files: Parquet and CSV with every number, Markdown and LaTeX as printed."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.store import parquet
from visual_decathlon.benchmark.report import sheets
from visual_decathlon.benchmark.report.latex import latex
from visual_decathlon.benchmark.report.markdown import markdown
from visual_decathlon.benchmark.tables.detail import DETAIL, detail
from visual_decathlon.benchmark.tables.superseded import SUPERSEDED, superseded
from visual_decathlon.benchmark.tables.table1 import Row, Table
from visual_decathlon.datasets.catalogue import DOMAINS

ABOUT = [
    ("method", pa.string()),
    ("family", pa.string()),
    ("fidelity", pa.string()),
    ("seeds", pa.int32()),
    ("domains", pa.int32()),
    ("data", pa.string()),
    ("data_id", pa.string()),
    ("standin", pa.bool_()),
    ("split", pa.string()),
    ("limit", pa.int32()),
    ("profile", pa.string()),
    ("settings", pa.string()),
    ("backbone_source", pa.string()),
    ("training", pa.int32()),
    ("baseline", pa.string()),
    ("records", pa.string()),  # hashes, a space between them
]


def contents(tables: list[Table], folder: Path) -> dict[Path, bytes | pa.Buffer | None]:
    """table1, timing, cost (.parquet, .csv, .md, .tex), detail and superseded (.parquet, .csv) for `io.write_all`.

    None for a table without rows: a file of that name holds other rows and is to be removed.
    """
    numbers = {"table1": _table1(tables), "timing": _rows(tables, "timing"), "cost": _rows(tables, "cost")}
    numbers["detail"] = pa.concat_tables([DETAIL.empty_table(), *map(detail, tables)])
    numbers["superseded"] = pa.concat_tables([SUPERSEDED.empty_table(), *map(superseded, tables)])
    sheet_of = {"table1": sheets.table1, "timing": sheets.timing, "cost": sheets.cost}
    made: dict[Path, bytes | pa.Buffer | None] = {}
    for name, table in numbers.items():
        forms: dict[str, Callable] = {"parquet": partial(parquet, table), "csv": partial(csv, table)}
        if name in sheet_of:
            forms |= {"md": partial(_text, markdown, tables, sheet_of[name])}
            forms |= {"tex": partial(_text, latex, tables, sheet_of[name])}
        made |= {
            ResultsFolder(folder).table(name, suffix): form() if len(table) else None for suffix, form in forms.items()
        }
    return made


# A spreadsheet takes these for a formula, in full-width letters too; a number with a sign is a number.
_FORMULA, _NUMBER = "^[=+\\-@\t\r＝＋－＠]", r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def csv(table: pa.Table) -> pa.Buffer:
    """The table as CSV; a text that a spreadsheet would compute gets a ' in front, which marks it as text there."""

    def inert(texts: pa.ChunkedArray) -> pa.ChunkedArray:
        formula = pc.and_not(pc.match_substring_regex(texts, _FORMULA), pc.match_substring_regex(texts, _NUMBER))
        return pc.if_else(formula, pc.binary_join_element_wise("'", texts, ""), texts)

    columns = [inert(column) if pa.types.is_string(column.type) else column for column in table.columns]
    names = inert(pa.array(table.column_names, pa.string())).to_pylist()
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(pa.Table.from_arrays(columns, names), sink)
    return sink.getvalue()


def _text(form: Callable, tables: list[Table], sheet: Callable) -> bytes:
    return form(tables, sheet).encode()


def _table1(tables: list[Table]) -> pa.Table:
    """Table 1 of every group with its spreads, and the columns that identify group and records."""
    own = sorted({name for table in tables for name in table.own})
    columns = [domain.column for domain in DOMAINS.values()] + own
    first = ["Model", "#par.", *columns, "mean", "S"]
    numbers = [*first[1:], *(f"{c} sd" for c in (*columns, "mean", "S")), "#par. with heads"]
    numbers += [f"{c} binomial" for c in columns]
    schema = [(name, pa.string() if name == "Model" else pa.float64()) for name in first]
    schema += [(name, pa.float64()) for name in numbers if name not in first]
    rows = [_table1_row(table, row) for table in tables for row in table.rows]
    return pa.Table.from_pylist(rows, pa.schema(schema + ABOUT))


def _table1_row(table: Table, row: Row) -> dict:
    line = {"Model": row.label, "#par.": row.multiplier}
    for name in (*DOMAINS, *table.own):
        column = DOMAINS[name].column if name in DOMAINS else name
        spread = row.domains.get(name)
        line[column] = spread and spread.mean
        line[f"{column} sd"] = spread and spread.deviation
        line[f"{column} binomial"] = row.binomial.get(name)
    line |= {"mean": row.mean and row.mean.mean, "mean sd": row.mean and row.mean.deviation}
    line |= {"S": row.S and row.S.mean, "S sd": row.S and row.S.deviation}
    line |= {"#par. with heads": row.multiplier_heads, "seeds": row.seeds, "domains": row.official_count}
    line |= {"method": row.method, "family": row.family, "fidelity": row.fidelity}
    return line | table.group | {"baseline": table.baseline, "records": " ".join(row.runs)}


def _rows(tables: list[Table], kind: str) -> pa.Table:
    """The timing or cost rows of every group, followed by the group's columns."""
    rows = [row | table.group for table in tables for row in getattr(table, kind)]
    texts, known = {"Model", "device", "machine", "workers", "threads", "runs_on_device"}, dict(ABOUT)
    names = rows[0] if rows else ()
    schema = [(n, known.get(n, pa.string() if n in texts else pa.float64())) for n in names]
    return pa.Table.from_pylist(rows, pa.schema(schema))
