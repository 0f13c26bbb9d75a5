"""The published rows of the decathlon, as read in the papers (source and evidence stand in the file)."""

import csv
from dataclasses import dataclass
from pathlib import Path

from datasets.catalogue import DOMAINS

PATH = Path(__file__).resolve().parent.parent / "results" / "published" / "published.csv"


@dataclass(frozen=True)
class Published:
    """One row: top-1 in % on the real test split by domain (empty where the cells were not found)."""

    table: str
    label: str
    method: str
    params: str
    top1: dict[str, float]
    mean: float | None
    S: float | None
    source: str
    decimals: int


def published() -> list[Published]:
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
        decimals=max((len(cell.partition(".")[2]) for cell in cells.values()), default=0),
    )


def published_baseline() -> dict[str, float]:
    """The published fine-tune row: the baseline of S on the real test split alone."""
    return next(row.top1 for row in published() if row.table == "table1" and row.method == "finetune")
