"""Runs with other data, another recipe or backbone than the newest never share a cell with it."""

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.benchmark.drawn_records import record, ten
from visual_decathlon.benchmark.cli.main import main
from visual_decathlon.benchmark.config.specs import preprocessing_json
from visual_decathlon.benchmark.report import files, sheets
from visual_decathlon.benchmark.report.latex import latex
from visual_decathlon.benchmark.report.markdown import markdown
from visual_decathlon.benchmark.tables.compare import compare
from visual_decathlon.benchmark.tables.detail import detail
from visual_decathlon.benchmark.tables.grouping import current
from visual_decathlon.benchmark.tables.superseded import superseded
from visual_decathlon.benchmark.tables.table1 import Table, tables
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.io import write_all

OLD, NEW, NEWER = (f"2026-01-0{day}T00:00:00+00:00" for day in (1, 2, 3))
FACTS = {
    "train_manifest": "a",
    "eval_manifest": "b",
    "presentation": None,
    "classes": 3,
    "backbone": "plain 1",
    "backbone_manifest": None,
    "structure": "plain",
    "method_full": "full",
    "lr": 0.1,
    "together": None,
    "together_manifest": None,
    "asked": None,
}


def run(method: str = "f", domain: str = "mine", top1: float = 80.0, seed: int = 0, **more) -> dict:
    return record(method, domain, top1, seed, **FACTS | {"created": OLD} | more)


def one(records: list[dict], shipped: list[dict] = ()) -> Table:
    (table,) = tables(pd.DataFrame(records), pd.DataFrame(shipped) if shipped else None)
    return table


CHANGES = {
    "labels corrected": {"train_manifest": "x", "eval_manifest": "y"},
    "images of train": {"train_manifest": "x"},
    "images of val": {"eval_manifest": "y"},
    "class list": {"classes": 4},
    "colours": {"presentation": preprocessing_json(DOMAINS["svhn"])},
    "rate": {"lr": 0.2},
    "a default": {"method_full": "full(rank=8)"},
    "backbone": {"backbone": "plain 2"},
    "structure": {"structure": "series", "backbone": "series 1"},
    "domains of the joint training": {"together": ["mine", "dtd"], "together_manifest": "both"},
    "data of the joint training": {"together": ["mine", "svhn"], "together_manifest": "changed"},
}


@pytest.mark.parametrize("changed", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("order", [1, -1])
def test_a_cell_is_no_mean_over_two_kinds(changed: dict, order: int):
    """Old seeds 0, 1 and 2 and a new seed 0 give 85.0 over one seed, not 59.2 over three."""
    known = {
        "presentation": preprocessing_json(DOMAINS["dtd"]),
        "together": ["mine", "svhn"],
        "together_manifest": "two",
    }
    old = [run(top1=46.3, seed=seed, **known) for seed in range(3)]
    new = run(top1=85.0, created=NEW, **known | changed)
    table = one((old + [new])[::order])
    (row,) = table.rows
    assert (row.domains["mine"].mean, row.domains["mine"].deviation, row.seeds) == (85.0, None, 1)
    (line,) = detail(table).to_pylist()
    assert (line["top1"], line["seeds"], line["records"]) == (85.0, "0", new["hash"])
    assert table.timing[0]["records"] == table.cost[0]["records"] == new["hash"]
    assert table.timing[0]["seconds"] == 4.0
    assert sorted(superseded(table)["hash"].to_pylist()) == sorted(r["hash"] for r in old)
    note = "Superseded by newer runs, so in no row (superseded.csv has them): 3 runs of f on mine, last made 2026-01-01"
    for sheet in (sheets.table1, sheets.timing, sheets.cost):
        assert note in markdown([table], sheet) and note in " ".join(sheet(table).notes)
    assert note in latex([table], sheets.table1) and note in " ".join(sheets.notes(table)), "the page shows these"


def test_superseded_runs_have_their_own_file(tmp_path: Path):
    table = one([run(top1=10.0), run(top1=85.0, train_manifest="x", created=NEW)])
    write_all(files.contents([table], tmp_path))
    (line,) = pq.read_table(tmp_path / "superseded.parquet").to_pylist()
    assert (line["top1"], line["train_manifest"], line["why"]) == (10.0, "a", "other images or labels in training")
    assert (tmp_path / "superseded.csv").is_file()
    write_all(files.contents([one([run()])], tmp_path))
    assert not (tmp_path / "superseded.parquet").exists(), "it held other records"


def test_other_methods_on_old_data_have_no_cell_there():
    """Only one method was run on the corrected labels: the numbers of the others are of other data."""
    old = [run(method, domain) for method in "fg" for domain in ("mine", "dtd")]
    table = one([*old, run("f", "mine", 85.0, train_manifest="x", created=NEW)])
    cells = {(row.method, name): spread.mean for row in table.rows for name, spread in row.domains.items()}
    assert cells == {("f", "mine"): 85.0, ("f", "dtd"): 80.0, ("g", "dtd"): 80.0}


def test_a_row_is_one_recipe_on_all_its_domains():
    table = one([run(domain="dtd"), run(domain="svhn"), run("g", "svhn"), run(domain="dtd", lr=0.2, created=NEW)])
    cells = {(row.method, name) for row in table.rows for name in row.domains}
    assert cells == {("f", "dtd"), ("g", "svhn")}


def test_other_images_of_imagenet12_are_another_backbone_for_all():
    """Series and plain backbones have hashes of their own; the hash of imagenet12's images identifies both."""
    first, second = {"backbone_manifest": "i1"}, {"backbone_manifest": "i2", "backbone": "plain 2", "created": NEW}
    serial = {"structure": "series", "backbone": "series 1"}
    table = one([run("s", "dtd", **first, **serial), run("f", "dtd", **first), run("f", "dtd", 90.0, **second)])
    assert [row.method for row in table.rows] == ["f"] and len(table.superseded) == 2
    # Records of older schemas lack it: the backbone's own run has it.
    source = run("s", "imagenet12", train_manifest="i1", **serial)
    table = one([source, run("s", "dtd", **serial), run("f", "dtd", 90.0, **second)])
    assert [row.method for row in table.rows] == ["f"] and len(table.superseded) == 2


def test_the_run_requested_last_is_current():
    """Labels were changed and changed back, and the old runs requested again."""
    back = run(top1=60.0, asked=NEWER)
    table = one([back, run(top1=85.0, train_manifest="x", created=NEW)])
    assert table.rows[0].domains["mine"].mean == 60.0 and table.superseded["top1"].tolist() == [85.0]


def test_records_of_older_schemas_are_of_the_catalogues_colours():
    own = preprocessing_json(DOMAINS["dtd"])
    new = run(domain="dtd", seed=1, presentation=own, created=NEW)
    assert one([run(domain="dtd"), new]).rows[0].seeds == 2
    other = preprocessing_json(DOMAINS["svhn"])
    assert one([run(domain="dtd"), new | {"presentation": other}]).rows[0].seeds == 1
    given = {"backbone_source": "w.pth 0123"}  # its record does not have the colours
    assert one([run(domain="dtd", **given), new | given | {"presentation": other}]).rows[0].seeds == 2


def test_the_baseline_is_of_the_same_data():
    def all_ten(method: str, top1: float, **more) -> list[dict]:
        return [run(method, name, top1, **more) for name in DOMAINS]

    changed = {"train_manifest": "x", "created": NEW}
    shipped = all_ten("finetune", 80.0)
    assert one(all_ten("f", 90.0), shipped).rows[0].S is not None
    table = one(all_ten("f", 90.0, **changed), shipped)
    assert table.rows[0].S is None and table.baseline == "none"
    table = one([*all_ten("finetune", 80.0), *all_ten("f", 90.0, **changed)])
    assert [row.method for row in table.rows] == ["f"] and table.rows[0].S is None
    assert "no fine-tune run of the same profile, data and split" in table.why_no_score
    table = one(all_ten("f", 90.0)[:9] + [run("f", "svhn", 90.0, **changed)], shipped)
    assert table.rows[0].S is None, "E_max of svhn is of other data"


def test_pairs_are_of_the_same_data():
    changed = {"train_manifest": "x", "created": NEW}
    records = [run("a", "dtd", 90.0), run("b", "dtd", 80.0), run("a", "svhn", 50.0, **changed), run("b", "svhn", 10.0)]
    ((_, lines, _),) = compare(pd.DataFrame(records), "a", "b")
    assert [line.name for line in lines] == ["dtd"]
    both = pd.DataFrame([*records, run("b", "svhn", 40.0, **changed)])
    ((_, lines, _),) = compare(both, "a", "b")
    assert {line.name: line.mean for line in lines} == {"dtd": 10.0, "svhn": 10.0}


def test_nothing_is_superseded_where_nothing_changed():
    records = [run(method, domain, seed=seed) for method in "fg" for domain in ("dtd", "mine") for seed in range(3)]
    kept, older = current(pd.DataFrame(records))
    assert len(kept) == 12 and not len(older)
    assert "Superseded" not in markdown([one(records)], sheets.table1)
    assert len(one(ten() + ten(seed=1)).superseded) == 0


def test_corrected_labels_through_the_bench(here, picture, tmp_path: Path, capsys):
    """Three seeds with labels mixed up, one with them corrected, and the mixed ones again."""
    own, mixed = tmp_path / "own", tmp_path / "mixed"
    for root, shift in ((own, 0), (mixed, 1)):
        for split, each in (("train", 6), ("val", 4)):
            for i in range(3 * each):
                kind = i // each
                where = root / split / "abc"[(kind + shift * (i % 2)) % 3]
                where.mkdir(parents=True, exist_ok=True)
                picture(kind, 100 * (split == "val") + i).save(where / f"{i}.png", compress_level=1)

    def bench(folder: Path, seeds: str) -> tuple:
        results = tmp_path / "r"
        words = ("--own", f"mine={folder}", "--domains", "mine", "--seeds", seeds)
        done = here(*words, method="feature", results=results)
        assert done.code == 0, done.err
        table = pq.read_table(results / "table1.parquet").to_pylist()
        (results / "table1.parquet").unlink()
        assert main(["tables", "--results", str(results), "--only", "steps"]) == 0
        capsys.readouterr()
        again = pq.read_table(results / "table1.parquet").to_pylist()
        assert again == table and len(table) == 1, "make results agrees with the bench"
        row = table[0]
        text = f"{row['mine']:.2f}" if row["mine sd"] is None else f"{row['mine']:.1f} ±{row['mine sd']:.1f}"
        assert text in done.out, "and both agree with its screen"
        assert row["seeds"] == len(row["records"].split())
        assert ("Superseded by newer runs" in done.out) == ("Superseded" in (results / "table1.md").read_text())
        return row["records"], row["seeds"], "Superseded" in (results / "table1.md").read_text()

    first = bench(mixed, "3")
    second = bench(own, "1")
    third = bench(mixed, "3")
    assert (first[1:], second[1:], third[1:]) == ((3, False), (1, True), (3, True))
    assert first[0] == third[0] != second[0]
