"""Published numbers, as printed in the papers: the decathlon's rows, and two tables of other benchmarks for reference.

The readable sources are the CSV files in results/published; `contents` gives them typed, as Parquet.
"""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from visual_decathlon.benchmark.config.folders import PUBLISHED
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.store import parquet
from visual_decathlon.benchmark.tables.score import ceilings, score
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import InputError

PATH = PUBLISHED / "published.csv"


@dataclass(frozen=True)
class Published:
    """One row: top-1 in % on the real test split by domain (empty where its cells are not known)."""

    table: str
    label: str
    method: str
    params: str
    top1: dict[str, float]
    mean: float | None
    S: float | None
    source: str
    evidence: str
    note: str
    decimals: int

    @property
    def multiplier(self) -> float | None:
        """#par. as a number, without the "about" of the printed text."""
        return float(self.params.lstrip("~")) if self.params else None

    @property
    def mean_of_cells(self) -> float | None:
        """Mean top-1 of the row's own cells, %; None unless all ten are known."""
        return math.fsum(self.top1.values()) / len(DOMAINS) if len(self.top1) == len(DOMAINS) else None

    @property
    def S_of_cells(self) -> float | None:
        """S by the formula, against the published fine-tune row."""
        return score(self.top1, ceilings(published_baseline()))


def published() -> list[Published]:
    """Every published row of the decathlon, in the order of the file."""
    with open(PATH, newline="") as file:
        return [_row(row) for row in csv.DictReader(file)]


def _row(row: dict[str, str]) -> Published:
    cells = {name: row[name] for name in DOMAINS if row[name]}
    return Published(
        table=row["table"],
        label=row["label"],
        method=row["method"],
        params=row["params"],
        top1={name: float(cell) for name, cell in cells.items()},
        mean=float(row["mean"]) if row["mean"] else None,
        S=float(row["S"]) if row["S"] else None,
        source=row["source"],
        evidence=row["evidence"],
        note=row["note"],
        decimals=max((len(cell.partition(".")[2]) for cell in cells.values()), default=0),
    )


def published_baseline() -> dict[str, float]:
    """The published fine-tune row: the baseline of S on the real test split alone."""
    return next(row.top1 for row in published() if row.table == "table1" and row.method == "finetune")


def _schema(*fields: tuple[str, pa.DataType, str]) -> pa.Schema:
    return pa.schema([pa.field(name, kind, metadata={"comment": text}) for name, kind, text in fields])


_SOURCE = (("source", pa.string(), "where it was read"), ("evidence", pa.string(), "how sure it is"))
DECATHLON = _schema(
    ("table", pa.string(), "table1: of the paper of 2017; later: of papers since"),
    ("Model", pa.string(), "the row's name as printed"),
    ("method", pa.string(), "the entry of this registry that it is; null where there is none"),
    ("params", pa.string(), "#par. as printed"),
    ("#par.", pa.float64(), "the same as a number"),
    *((domain.column, pa.float64(), f"top-1 on the test split of {name}, %") for name, domain in DOMAINS.items()),
    ("mean", pa.float64(), "mean top-1 as printed, %"),
    ("mean of cells", pa.float64(), "what the row's own ten cells give, %"),
    ("S", pa.float64(), "score as printed"),
    ("S of cells", pa.float64(), "what the cells give by the formula, against the published fine-tune row"),
    ("decimals", pa.int32(), "digits behind the point of the printed cells"),
    *_SOURCE,
    ("note", pa.string(), "what is odd about the row"),
)
CHAPTER = _schema(
    ("method", pa.string(), "method"),
    ("params_m", pa.float64(), "trained parameters, millions"),
    ("SID", pa.float64(), "speaker identification, accuracy, %"),
    ("SD", pa.float64(), "speaker diarisation, error rate, %"),
    ("ER", pa.float64(), "emotion recognition, accuracy, %"),
    *_SOURCE,
)
COMPRESSION = _schema(
    ("model", pa.string(), "network"),
    ("method", pa.string(), "how it was compressed"),
    ("flops", pa.string(), "times fewer FLOPs, as printed"),
    ("flops_ratio", pa.float64(), "the same as a number"),
    ("top1_change", pa.float64(), "change of top-1 on ImageNet, points"),
    ("top5_change", pa.float64(), "change of top-5, points"),
    *_SOURCE,
)


def decathlon() -> pa.Table:
    """Every published row, with the printed mean and S next to those computed from its cells."""
    rows = []
    for row in published():
        cells = {DOMAINS[name].column: value for name, value in row.top1.items()}
        about = {"table": row.table, "Model": row.label, "method": row.method or None, "params": row.params or None}
        figures = {"#par.": row.multiplier, "mean": row.mean, "mean of cells": row.mean_of_cells}
        figures |= {"S": row.S, "S of cells": row.S_of_cells, "decimals": row.decimals}
        rows.append(
            about | cells | figures | {"source": row.source, "evidence": row.evidence, "note": row.note or None}
        )
    return pa.Table.from_pylist(rows, DECATHLON)


def chapter() -> pa.Table:
    """The method CHAPTER compared with Houlsby adapters on three speech tasks."""
    return pa.Table.from_pylist([_typed(row, CHAPTER) for row in _read("chapter.csv")], CHAPTER)


def compression() -> pa.Table:
    """Kernels factored as CP and Tucker-CP tensors: FLOPs saved and accuracy lost on ImageNet."""
    rows = [row | {"flops": row["flops_ratio"]} for row in _read("compression.csv")]
    return pa.Table.from_pylist([_typed(row, COMPRESSION) for row in rows], COMPRESSION)


def _read(name: str) -> list[dict[str, str]]:
    with open(PUBLISHED / name, newline="") as file:
        return list(csv.DictReader(file))


def _typed(row: dict[str, str], schema: pa.Schema) -> dict:
    """The row with numbers where the schema has float64, and None for empty cells."""
    numeric = {field.name for field in schema if field.type == pa.float64()}
    return {n: (float(v.lstrip("~")) if n in numeric else v) if v else None for n, v in row.items()}


def contents(folder: Path) -> dict[Path, pa.Buffer]:
    """published.parquet, chapter.parquet and compression.parquet in `folder`, for `io.write_all`.

    Raises InputError where a source is missing, or a number in it is not one.
    """
    try:
        made = {"published": decathlon(), "chapter": chapter(), "compression": compression()}
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{PUBLISHED}: a published number is missing or is no number ({error}); restore the folder with git"
        ) from None
    return {ResultsFolder(folder).table(name): parquet(table) for name, table in made.items()}
