"""Tables as files: every group and column, and a hundred thousand records."""

import sys
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tests.benchmark.drawn_records import record, ten
from tests.benchmark.drawn_tables import tables_of
from visual_decathlon.benchmark.perf.synthetic_records import write_many
from visual_decathlon.benchmark.records.schema import TAKEN
from visual_decathlon.benchmark.report import files
from visual_decathlon.datasets.io import write_all


def test_files_hold_every_group_and_null_for_missing_values(tmp_path: Path):
    tables = tables_of(ten() + ten("f", 90.0)[:3] + ten(limit=5) + [record("f", "mine", 5.0)])
    paths = write_all(files.contents(tables, tmp_path))
    forms = ("parquet", "csv", "md", "tex")
    names = [f"{name}.{form}" for name in ("table1", "timing", "cost") for form in forms]
    assert [p.name for p in paths] == names + ["detail.parquet", "detail.csv"]
    lines = pq.read_table(tmp_path / "table1.parquet").to_pylist()
    assert len(lines) == 3 and {line["limit"] for line in lines} == {None, 5}
    f = next(line for line in lines if line["method"] == "f")
    assert f["UCF"] is None and f["S"] is None and f["mean"] is None and f["mine"] == 5.0 and f["mine sd"] is None
    assert [line["training"] for line in lines] == [1, 1, 1]
    assert len(f["records"].split("f ")) == 5, "each row leads back to its records"
    assert (tmp_path / "table1.md").read_text().count("## ") == 2
    assert len(pq.read_table(tmp_path / "timing.parquet")) == len(pq.read_table(tmp_path / "cost.parquet")) == 3
    for name in ("table1", "timing", "cost", "detail"):
        same, text = pq.read_table(tmp_path / f"{name}.parquet"), pyarrow.csv.read_csv(tmp_path / f"{name}.csv")
        assert same.column_names == text.column_names and len(same) == len(text)
    before = {path: path.read_bytes() for path in paths}
    assert {path: path.read_bytes() for path in write_all(files.contents(tables, tmp_path))} == before


def test_own_domain_cannot_take_a_column_that_is_there():
    assert {name for name, _ in files.ABOUT} | {"mean"} <= TAKEN
    assert {"data", "split", "method", "limit"} <= TAKEN and "mine" not in TAKEN


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the peak of memory is read from /proc")
def test_a_hundred_thousand_records_in_half_a_gigabyte(command, tmp_path: Path):
    """How long they take is measured by `make perf ONLY=tables`: no test depends on a clock."""
    n = 100_000
    write_many(tmp_path / "records", n)
    done = command([sys.executable, "-m", "visual_decathlon.benchmark.perf.synthetic_records", str(tmp_path)])
    assert done.code == 0, done.err
    _, mb = map(float, done.out.split())
    assert pq.read_metadata(tmp_path / "out" / "table1.parquet").num_rows > n / 31
    assert mb <= 500, mb
