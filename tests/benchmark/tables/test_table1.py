"""Table 1 is a pure function of records: groups, baselines, mean and S, and missing values."""

import statistics
from pathlib import Path

import pytest

from tests.benchmark.drawn_records import SETTINGS, record, ten
from tests.benchmark.drawn_tables import real_test, rows_of, table_of, tables_of
from visual_decathlon.benchmark.records.store import read_frame
from visual_decathlon.benchmark.report import files, sheets
from visual_decathlon.benchmark.tables.published import published_baseline
from visual_decathlon.benchmark.tables.score import ceilings, score
from visual_decathlon.benchmark.tables.table1 import tables
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.io import write_all


def test_ten_domains_give_mean_and_score():
    table = table_of(ten() + ten("feature", 90.0))
    assert rows_of(table)["finetune"].S.mean == pytest.approx(2500) and rows_of(table)["finetune"].S.deviation is None
    assert rows_of(table)["feature"].S.mean == pytest.approx(10 * 1000 * (30 / 40) ** 2)
    assert rows_of(table)["feature"].mean.mean == pytest.approx(90)
    assert table.why_no_score == "" and "n = 1" in table.baseline


@pytest.mark.parametrize(
    "other",
    [
        {"split": "test"},
        {"profile": "decathlon"},
        {"settings": SETTINGS.replace("0.25", "0.5")},
        {"data_id": "other"},
        {"data": "other"},
        {"standin": False},
        {"limit": 5},
        {"backbone_source": "file 1234"},
        {"training": 2},
    ],
    ids=lambda other: next(iter(other)),
)
def test_incomparable_records_share_neither_table_nor_baseline(other: dict):
    tables = tables_of(ten() + ten("feature", 90.0, **other), ten(**other | {"split": "elsewhere"}))
    assert len(tables) == 2
    assert sorted([row.method for row in table.rows] for table in tables) == [["feature"], ["finetune"]]
    lonely = next(table for table in tables if table.rows[0].method == "feature")
    assert lonely.rows[0].S is None and lonely.baseline == "none" and "no fine-tune run" in lonely.why_no_score


def test_another_machine_and_commit_share_a_table():
    assert len(tables_of(ten() + ten("feature", machine="other", device="H100", commit="x", command="z"))) == 1


def test_each_seed_has_a_score_against_the_mean_baseline():
    base = {0: 80.0, 1: 70.0}
    mine = {0: 90.0, 1: 60.0, 2: 75.0}
    table = table_of(
        [r for s, v in base.items() for r in ten("finetune", v, s)]
        + [r for s, v in mine.items() for r in ten("f", v, s)]
    )
    row = rows_of(table)["f"]
    limits = ceilings(dict.fromkeys(DOMAINS, 75.0))
    scores = [score(dict.fromkeys(DOMAINS, v), limits) for v in mine.values()]
    assert (row.seeds, row.official_count) == (3, 10)
    assert row.S.mean == pytest.approx(statistics.mean(scores)) and row.S.deviation == pytest.approx(
        statistics.stdev(scores)
    )
    assert row.domains["dtd"].mean == pytest.approx(75) and row.domains["dtd"].deviation == pytest.approx(15)
    assert row.domains["imagenet12"].deviation is None, "one backbone: nothing varied"
    assert "n = 2" in table.baseline


def test_an_incomplete_seed_does_not_count_in_the_score():
    table = table_of(ten() + ten("f", 90.0) + [record("f", "dtd", 10.0, seed=1)])
    row = rows_of(table)["f"]
    assert row.mean.mean == pytest.approx(90) and row.mean.deviation is None and row.S is not None
    assert row.domains["dtd"].mean == pytest.approx(50)


def test_nine_domains_leave_mean_and_score_empty():
    table = table_of(ten() + ten("f", 90.0)[:-1])
    row = rows_of(table)["f"]
    assert row.mean is None and row.S is None and row.official_count == 9
    assert sheets.cells(row, [], 2)[-2:] == ["(9/10)", ""]
    assert "not all ten" in table.why_no_score


VERSIONS = '{"python": "3.12", "torch": "2.15.0", "cpu": "AVX512"}'


@pytest.mark.parametrize(
    ("other", "environment"),
    [
        ({}, ""),
        ({"commit": "x", "created": "2027-01-01T00:00:00+00:00", "workers": 7}, ""),
        ({"versions": VERSIONS.replace("3.12", "3.11")}, ""),  # the version of Python changes no number
        ({"machine": "Intel i7, Linux x86_64"}, "Intel i7, Linux x86_64, torch 2.15.0, cpu AVX512"),
        ({"versions": VERSIONS.replace("AVX512", "AVX2")}, "mine, torch 2.15.0, cpu AVX2"),
        ({"versions": VERSIONS.replace("2.15.0", "2.11.0")}, "mine, torch 2.11.0, cpu AVX512"),
        (
            {"device": "NVIDIA H100", "versions": '{"torch": "2.15.0", "cuda": "13.0", "cudnn": 91900}'},
            "mine, NVIDIA H100, torch 2.15.0, cuda 13.0, cudnn 91900",
        ),
    ],
    ids=str,
)
def test_a_note_names_the_other_processor_of_a_shipped_baseline(other: dict, environment: str):
    here = {"machine": "mine", "versions": VERSIONS, "device": "cpu"}
    table = table_of(ten("f", 90.0, **here | other), ten(**here))
    assert rows_of(table)["f"].S.mean == pytest.approx(5625), "it still serves as baseline"
    assert "another run" in table.baseline
    notes = " ".join(sheets.table1(table).notes)
    if environment:
        assert f"computed elsewhere: mine, torch 2.15.0, cpu AVX512; these rows: {environment})" in notes
    else:
        assert "elsewhere" not in notes


def test_a_shipped_baseline_of_unknown_instruction_set_is_perhaps_from_elsewhere():
    here, old = {"machine": "mine", "device": "cpu"}, '{"python": "3.11", "torch": "2.15.0"}'
    notes = " ".join(
        sheets.table1(table_of(ten("f", 90.0, versions=VERSIONS, **here), ten(versions=old, **here))).notes
    )
    assert (
        "run, perhaps computed elsewhere: mine, torch 2.15.0, instruction set not recorded; these rows: mine, " in notes
    )
    far = here | {"machine": "another"}
    notes = " ".join(sheets.table1(table_of(ten("f", 90.0, versions=VERSIONS, **far), ten(versions=old, **here))).notes)
    assert "run, computed elsewhere: mine, " in notes
    notes = " ".join(sheets.table1(table_of(ten("f", 90.0, versions=old, **here), ten(versions=old, **here))).notes)
    assert "elsewhere" not in notes


def test_a_perfect_baseline_leaves_the_score_empty_with_the_reason():
    table = table_of(ten()[:-1] + [record(domain="ucf101", top1=100.0)] + ten("f", 90.0))
    assert all(row.S is None and row.mean is not None for row in table.rows)
    assert "no error on ucf101" in table.why_no_score


def test_shipped_records_are_the_baseline_and_nothing_else():
    shipped = ten() + ten("feature", 50.0)
    table = table_of(ten("f", 90.0), shipped)
    assert list(rows_of(table)) == ["f"] and rows_of(table)["f"].S.mean == pytest.approx(5625)
    assert "another run" in table.baseline
    mine = table_of(ten("f", 90.0) + ten(top1=60.0, hash="x"), shipped)
    assert rows_of(mine)["f"].S.mean == pytest.approx(10_000 * (70 / 80) ** 2), "own fine-tune runs come first"
    assert "another run" not in mine.baseline
    assert table_of(ten("f"), ten(data_id="other")).baseline == "none"


def test_one_perfect_seed_of_fine_tune_leaves_the_shipped_baseline():
    perfect = ten()[:9] + [record("finetune", list(DOMAINS)[9], 100.0)]
    table = table_of(perfect + ten("f", 90.0), ten(top1=80.0, hash="x"))
    assert rows_of(table)["f"].S.mean == pytest.approx(10 * 1000 * (30 / 40) ** 2)
    assert table.baseline.endswith("(records of another run)")
    alone = table_of(perfect + ten("f", 90.0))
    assert rows_of(alone)["f"].S is None and "has no error" in alone.why_no_score


def test_of_two_records_of_one_cell_the_newest_counts():
    old = [r | {"hash": f"old {r['hash']}", "created": "2025-01-01", "top1": 10.0} for r in ten("f")]
    new = ten("f", 90.0)
    for records in (old + new, new + old):
        assert rows_of(table_of(ten() + records))["f"].mean.mean == pytest.approx(90)
    assert rows_of(table_of(ten("f", 90.0), [r | {"method": "finetune"} for r in old] + ten()))[
        "f"
    ].S.mean == pytest.approx(5625)


def test_own_domains_follow_the_ten_and_do_not_count():
    table = table_of(ten() + [record("finetune", "mine", 5.0)] + ten("f", 90.0) + [record("g", "mine", 5.0)])
    assert table.own == ["mine"]
    assert rows_of(table)["finetune"].mean.mean == pytest.approx(80) and rows_of(table)["f"].S is not None
    assert rows_of(table)["g"].official_count == 0 and rows_of(table)["g"].mean is None
    assert sheets.table1(table).head[-3:] == ["mine", "mean", "S"]
    nine = table_of(ten()[:-1] + [record(domain="mine")] + ten("f"))
    assert rows_of(nine)["f"].S is None


def test_published_baseline_serves_the_whole_real_test_split_alone():
    base = published_baseline()
    table = table_of(real_test("f", base))
    assert "published" in table.baseline and rows_of(table)["f"].S.mean == pytest.approx(2500)
    assert sheets.published_note(table) == sheets.COMPARABLE
    for change in ({"standin": True}, {"split": "val"}, {"limit": 10}, {"eval_images": 10}):
        table = table_of([r | change for r in real_test("f", base)])
        assert table.baseline == "none" and rows_of(table)["f"].S is None, change
        assert sheets.published_note(table) == sheets.NOT_COMPARABLE
    assert table_of(real_test("f", base)[:-1]).baseline == "none"


def test_equal_labels_get_the_method_and_a_label_is_one_line():
    table = table_of(ten() + ten("f", label="Same") + ten("g", label="Same\nx") + ten("h", label="Same\n\nx"))
    assert [row.label for row in table.rows if row.method != "finetune"] == ["Same", r"Same\n\nx", r"Same\nx"]


def test_no_records_make_no_tables(tmp_path: Path):
    assert tables(read_frame([tmp_path])) == []
    (tmp_path / "table1.md").write_text("of other rows")
    assert write_all(files.contents([], tmp_path)) == [] and list(tmp_path.iterdir()) == []
