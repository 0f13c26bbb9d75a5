"""Tables as files: Parquet in the published layout, and Markdown, beside the records."""

from pathlib import Path

import pyarrow as pa

from benchmark.layout import markdown
from benchmark.records import write_bytes, write_table
from benchmark.tables import Table
from datasets.catalogue import DOMAINS

ABOUT = [
    ("seeds", pa.int32()),
    ("domains", pa.int32()),
    ("method", pa.string()),
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
]
TAKEN = {"mean", *(name for name, _ in ABOUT)}
"""Columns whose names an own domain cannot have."""


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
                line[f"{column} binomial"] = row.binomial.get(name)
            line |= {"mean": row.mean and row.mean.mean, "mean sd": row.mean and row.mean.deviation}
            line |= {"S": row.S and row.S.mean, "S sd": row.S and row.S.deviation}
            line |= {"#par. with heads": row.multiplier_heads, "seeds": row.seeds, "domains": row.ten}
            rows.append(line | {"method": row.method} | group)
        times += [row | group for row in table.timing]
    own = sorted({name for table in found for name in table.own})
    columns = [domain.column for domain in DOMAINS.values()] + own
    first = ["Model", "#par.", *columns, "mean", "S"]
    numbers = [*first[1:], *(f"{c} sd" for c in (*columns, "mean", "S")), "#par. with heads"]
    numbers += [f"{c} binomial" for c in columns]
    schema = [(name, pa.string() if name == "Model" else pa.float64()) for name in first]
    schema += [(name, pa.float64()) for name in numbers if name not in first]
    schema += ABOUT
    paths = [write_table(pa.Table.from_pylist(rows, pa.schema(schema)), folder / "table1.parquet")]
    text = "\n".join(markdown(table) for table in found)
    paths.append(write_bytes(text.encode(), folder / "table1.md"))
    if times:
        paths.append(write_table(pa.Table.from_pylist(times), folder / "timing.parquet"))
    else:
        (folder / "timing.parquet").unlink(missing_ok=True)  # of other rows
    return paths
