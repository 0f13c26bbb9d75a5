"""Tables as files beside the records: Parquet and CSV with every figure, Markdown and LaTeX as they are printed."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from visual_decathlon.benchmark.records.store import parquet
from visual_decathlon.benchmark.report import sheets
from visual_decathlon.benchmark.report.latex import latex
from visual_decathlon.benchmark.tables.detail import DETAIL, detail
from visual_decathlon.benchmark.tables.superseded import SUPERSEDED, superseded
from visual_decathlon.benchmark.tables.table1 import Table
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


def contents(found: list[Table], folder: Path) -> dict[Path, bytes | pa.Buffer | None]:
    """table1, timing, cost (.parquet, .csv, .md, .tex), detail and superseded (.parquet, .csv) for `io.write_all`.

    None for a table without rows: what stands there is of other rows.
    """
    numbers = {"table1": _table1(found), "timing": _rows(found, "timing"), "cost": _rows(found, "cost")}
    numbers["detail"] = pa.concat_tables([DETAIL.empty_table(), *map(detail, found)])
    numbers["superseded"] = pa.concat_tables([SUPERSEDED.empty_table(), *map(superseded, found)])
    made_of = {"table1": sheets.table1, "timing": sheets.timing, "cost": sheets.cost}
    made: dict[Path, bytes | pa.Buffer | None] = {}
    for name, table in numbers.items():
        forms: dict[str, Callable] = {"parquet": partial(parquet, table), "csv": partial(csv, table)}
        if name in made_of:
            forms |= {"md": partial(_text, sheets.markdown, found, made_of[name])}
            forms |= {"tex": partial(_text, latex, found, made_of[name])}
        made |= {folder / f"{name}.{suffix}": form() if len(table) else None for suffix, form in forms.items()}
    return made


# What a spreadsheet takes for a formula, in any width of letters; a number with a sign is a number.
_FORMULA, _NUMBER = "^[=+\\-@\t\r＝＋－＠]", r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def csv(table: pa.Table) -> pa.Buffer:
    """The table as CSV; a text that a spreadsheet would compute has ' before it, which makes it a text there."""

    def inert(texts: pa.ChunkedArray) -> pa.ChunkedArray:
        formula = pc.and_not(pc.match_substring_regex(texts, _FORMULA), pc.match_substring_regex(texts, _NUMBER))
        return pc.if_else(formula, pc.binary_join_element_wise("'", texts, ""), texts)

    columns = [inert(column) if pa.types.is_string(column.type) else column for column in table.columns]
    names = inert(pa.array(table.column_names, pa.string())).to_pylist()
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(pa.Table.from_arrays(columns, names), sink)
    return sink.getvalue()


def _text(form: Callable, found: list[Table], sheet: Callable) -> bytes:
    return form(found, sheet).encode()


def _table1(found: list[Table]) -> pa.Table:
    rows = []
    own = sorted({name for table in found for name in table.own})
    for table in found:
        group = table.group | {"baseline": table.baseline}
        for row in table.rows:
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
            about = {"method": row.method, "family": row.family, "fidelity": row.fidelity}
            rows.append(line | about | group | {"records": " ".join(row.runs)})
    columns = [domain.column for domain in DOMAINS.values()] + own
    first = ["Model", "#par.", *columns, "mean", "S"]
    numbers = [*first[1:], *(f"{c} sd" for c in (*columns, "mean", "S")), "#par. with heads"]
    numbers += [f"{c} binomial" for c in columns]
    schema = [(name, pa.string() if name == "Model" else pa.float64()) for name in first]
    schema += [(name, pa.float64()) for name in numbers if name not in first]
    return pa.Table.from_pylist(rows, pa.schema(schema + ABOUT))


def _rows(found: list[Table], kind: str) -> pa.Table:
    """The timing or cost rows of every group, with the group's columns behind."""
    rows = [row | table.group for table in found for row in getattr(table, kind)]
    texts, known = {"Model", "device", "machine", "workers", "threads", "runs_on_device"}, dict(ABOUT)
    names = rows[0] if rows else ()
    schema = [(n, known.get(n, pa.string() if n in texts else pa.float64())) for n in names]
    return pa.Table.from_pylist(rows, pa.schema(schema))
