"""The published numbers: typed as in their readable sources; printed means and scores next to computed ones."""

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from visual_decathlon.benchmark.tables import published
from visual_decathlon.datasets.errors import InputError


def test_committed_parquet_is_made_from_the_readable_sources(tmp_path: Path):
    for path, content in published.contents(tmp_path).items():
        committed = pq.read_table(published.PUBLISHED / path.name)
        assert committed.equals(pq.read_table(content), check_metadata=True), path.name
        with open(published.PUBLISHED / f"{path.stem}.csv", newline="") as file:
            assert len(committed) == sum(1 for _ in csv.DictReader(file))
        assert all(len(field.metadata[b"comment"]) > 5 for field in committed.schema)


def test_known_numbers():
    rows = published.decathlon().to_pylist()
    assert len(rows) == 28 and sum(row["table"] == "table1" for row in rows) == 11
    best = next(row for row in rows if row["Model"] == "URL + parallel res. adapt.")
    assert (best["S"], best["#par."], best["SVHN"]) == (4005, 2, 97.14)
    assert [row["SID"] for row in published.chapter().to_pylist()] == [64.56, 87.71, 89.44, 91.56]
    kernels = {(r["model"], r["method"]): r for r in published.compression().to_pylist()}
    assert len(kernels) == 9
    assert kernels["VGG-16", "Asym."]["flops"] == "~5.00" and kernels["VGG-16", "Asym."]["flops_ratio"] == 5
    assert kernels["VGG-16", "Asym."]["top1_change"] is None
    assert kernels["ResNet-50", "EPS=0.0028"]["top5_change"] == -0.71


def test_printed_and_computed_values_are_next_to_each_other():
    rows = {row["Model"]: row for row in published.decathlon().to_pylist()}
    odd = rows["Res. adapt. finetune all"]
    assert odd["mean"] == 77.17 and round(odd["mean of cells"], 2) == 77.18 and "77.18" in odd["note"]
    assert rows["Finetune"]["S of cells"] == pytest.approx(2500)
    assert rows["Depthwise soft sharing"]["S"] == 3507 and rows["Depthwise soft sharing"]["S of cells"] is None
    for row in rows.values():
        if row["mean"] and row["mean of cells"]:
            assert abs(row["mean"] - row["mean of cells"]) < (0.011 if row["decimals"] == 2 else 0.11), row["Model"]


def test_a_cell_that_is_no_number_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for path in published.PUBLISHED.glob("*.csv"):
        (tmp_path / path.name).write_text(path.read_text().replace("91.56", "many"))
    monkeypatch.setattr(published, "PUBLISHED", tmp_path)
    with pytest.raises(InputError, match=r"no number .*many"):
        published.contents(tmp_path / "out")
