"""Tables are pure functions of records: who shares one, whose errors set E_max, what stays empty."""

import json
import statistics
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmark import layout, table_files
from benchmark.published import published, published_baseline
from benchmark.score import ceilings, score
from benchmark.tables import Table, tables
from datasets.catalogue import DOMAINS

SETTINGS = json.dumps({"network": "resnet26", "width": 0.25, "crop": 32})


def record(method: str = "finetune", domain: str = "dtd", top1: float = 80.0, seed: int = 0, **more) -> dict:
    official = DOMAINS.get(domain)
    made = {
        "hash": f"{method} {domain} {seed} {sorted(more.items())}",
        "method": method,
        "label": method.partition("(")[0].capitalize(),
        "domain": domain,
        "k": official.k if official else 0,
        "seed": seed,
        "split": "val",
        "limit": None,
        "profile": "standin",
        "settings": SETTINGS,
        "data": "standin-v1-seed0",
        "data_id": "standin-v1-seed0",
        "standin": True,
        "backbone_source": "pretrained",
        "training": 1,
        "source_cell": domain == "imagenet12",
        "top1": top1,
        "eval_images": 100,
        "train_images": 200,
        "multiplier": 2.0,
        "head_floats": 10,
        "base_floats": 1000,
        "train_seconds": 4.0,
        "prepare_seconds": None,
        **dict.fromkeys(
            ("step_ms", "step_ms_p10", "step_ms_p90", "train_img_s", "eval_img_s", "peak_mb", "bytes"), 5.0
        ),
        "joules": None,
        "macs_train": 2_000_000,
        "macs_inference": 1_000_000,
        "device": "cpu",
        "machine": "mine",
        "workers": 2,
        "threads": 1,
        "created": "2026-01-01T00:00:00+00:00",
    }
    return made | more


def ten(method: str = "finetune", top1: float = 80.0, seed: int = 0, **more) -> list[dict]:
    return [record(method, name, top1, seed, **more) for name in DOMAINS]


def one(records: list[dict], shipped: list[dict] = ()) -> Table:
    (table,) = tables(records, shipped)
    return table


def rows(table: Table) -> dict:
    return {row.method: row for row in table.rows}


def test_ten_domains_give_mean_and_score():
    table = one(ten() + ten("feature", 90.0))
    assert rows(table)["finetune"].S.mean == pytest.approx(2500) and rows(table)["finetune"].S.deviation is None
    assert rows(table)["feature"].S.mean == pytest.approx(10 * 1000 * (30 / 40) ** 2)
    assert rows(table)["feature"].mean.mean == pytest.approx(90)
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
def test_what_is_not_comparable_never_shares_a_table_nor_a_baseline(other: dict):
    found = tables(ten() + ten("feature", 90.0, **other), ten(**other | {"split": "elsewhere"}))
    assert len(found) == 2
    assert sorted([row.method for row in table.rows] for table in found) == [["feature"], ["finetune"]]
    lonely = next(table for table in found if table.rows[0].method == "feature")
    assert lonely.rows[0].S is None and lonely.baseline == "none" and "no fine-tune run" in lonely.why_no_score


def test_another_machine_and_commit_share_a_table():
    assert (
        len(tables(ten() + ten("feature", machine="other", device="H100", commit="x", versions="y", command="z"))) == 1
    )


def test_seeds_give_mean_and_deviation_and_a_score_each_against_the_mean_baseline():
    base = {0: 80.0, 1: 70.0}
    mine = {0: 90.0, 1: 60.0, 2: 75.0}
    table = one(
        [r for s, v in base.items() for r in ten("finetune", v, s)]
        + [r for s, v in mine.items() for r in ten("f", v, s)]
    )
    row = rows(table)["f"]
    limits = ceilings(dict.fromkeys(DOMAINS, 75.0))
    scores = [score(dict.fromkeys(DOMAINS, v), limits) for v in mine.values()]
    assert (row.seeds, row.ten) == (3, 10)
    assert row.S.mean == pytest.approx(statistics.mean(scores)) and row.S.deviation == pytest.approx(
        statistics.stdev(scores)
    )
    assert row.domains["dtd"].mean == pytest.approx(75) and row.domains["dtd"].deviation == pytest.approx(15)
    assert row.domains["imagenet12"].deviation is None, "one backbone: nothing varied"
    assert "n = 2" in table.baseline


def test_seed_that_is_not_whole_has_no_share_in_the_score():
    table = one(ten() + ten("f", 90.0) + [record("f", "dtd", 10.0, seed=1)])
    row = rows(table)["f"]
    assert row.mean.mean == pytest.approx(90) and row.mean.deviation is None and row.S is not None
    assert row.domains["dtd"].mean == pytest.approx(50)


def test_nine_domains_leave_mean_and_score_empty():
    table = one(ten() + ten("f", 90.0)[:-1])
    row = rows(table)["f"]
    assert row.mean is None and row.S is None and row.ten == 9
    assert layout.cells(row, [])[-2:] == ["(9/10)", ""]
    assert "not all ten" in table.why_no_score


def test_perfect_baseline_leaves_the_score_empty_and_says_why():
    table = one(ten()[:-1] + [record(domain="ucf101", top1=100.0)] + ten("f", 90.0))
    assert all(row.S is None and row.mean is not None for row in table.rows)
    assert "no error on ucf101" in table.why_no_score


def test_shipped_records_are_the_baseline_and_nothing_else():
    shipped = ten() + ten("feature", 50.0)
    table = one(ten("f", 90.0), shipped)
    assert list(rows(table)) == ["f"] and rows(table)["f"].S.mean == pytest.approx(5625)
    assert "another run" in table.baseline
    mine = one(ten("f", 90.0) + ten(top1=60.0, hash=None), shipped)
    assert rows(mine)["f"].S.mean == pytest.approx(10_000 * (70 / 80) ** 2), "own fine-tune runs come first"
    assert "another run" not in mine.baseline
    assert one(ten("f"), ten(data_id="other")).baseline == "none"


def test_of_two_records_of_one_cell_the_newest_counts():
    old = [r | {"hash": f"old {r['hash']}", "created": "2025-01-01", "top1": 10.0} for r in ten("f")]
    new = ten("f", 90.0)
    for records in (old + new, new + old):
        assert rows(one(ten() + records))["f"].mean.mean == pytest.approx(90)
    assert rows(one(ten("f", 90.0), [r | {"method": "finetune"} for r in old] + ten()))["f"].S.mean == pytest.approx(
        5625
    )


def test_own_domains_stand_behind_and_do_not_count():
    table = one(ten() + [record("finetune", "mine", 5.0)] + ten("f", 90.0) + [record("g", "mine", 5.0)])
    assert table.own == ["mine"]
    assert rows(table)["finetune"].mean.mean == pytest.approx(80) and rows(table)["f"].S is not None
    assert rows(table)["g"].ten == 0 and rows(table)["g"].mean is None
    assert layout.header(table)[-3:] == ["mine", "mean", "S"]
    nine = one(ten()[:-1] + [record(domain="mine")] + ten("f"))
    assert rows(nine)["f"].S is None


def real(method: str, top1: dict[str, float]) -> list[dict]:
    more = {"split": "test", "standin": False, "data": "decathlon-1.0", "data_id": "x"}
    return [record(method, n, v, eval_images=DOMAINS[n].counts[2], **more) for n, v in top1.items()]


def test_published_baseline_serves_the_whole_real_test_split_alone():
    base = published_baseline()
    table = one(real("f", base))
    assert "published" in table.baseline and rows(table)["f"].S.mean == pytest.approx(2500)
    assert layout.apart(table) == layout.BESIDE
    for change in ({"standin": True}, {"split": "val"}, {"limit": 10}, {"eval_images": 10}):
        table = one([r | change for r in real("f", base)])
        assert table.baseline == "none" and rows(table)["f"].S is None, change
        assert layout.apart(table) == layout.APART
    assert one(real("f", base)[:-1]).baseline == "none"


def test_published_rows_stand_apart_with_the_decimals_they_have():
    text = layout.markdown(one(ten() + ten("ba2", 90.0)))
    ours, theirs = text.split(layout.APART)
    assert (
        "| Ba2 |" in ours
        and "| BA2 (beta=1) (published) |" in theirs
        and "| Finetune (published) | 10 | 59.87 |" in theirs
    )
    row = next(row for row in published() if row.method == "ba2")
    assert layout.published_cells(row, [])[2:4] == ["56.9", "49.9"] and layout.published_cells(row, [])[-2:] == [
        "75.7",
        "3199",
    ]


def test_markdown_escapes_what_would_end_a_cell():
    text = layout.markdown(one(ten("f(x='a|b')")))
    line = next(line for line in text.splitlines() if "a\\|b" in line)
    assert line.replace("\\|", "").count("|") == len(layout.header(one(ten("f")))) + 1


def test_cut_and_standin_data_are_named_in_the_heading():
    assert "CUT to 5 images" in layout.heading(one(ten(limit=5)))
    assert layout.heading(one(ten())).startswith("stand-in data standin-v1-seed0, split val")


def test_times_stand_against_the_baseline_of_the_same_machine_and_load():
    def times(records: list[dict]) -> dict:
        return {row["method"]: row for row in one(records).timing}

    base = ten()
    both = times(base + ten("f", train_seconds=1.0, prepare_seconds=1.0))
    assert both["f"]["T/T_FFT"] == pytest.approx(0.5) and both["finetune"]["T/T_FFT"] == pytest.approx(1)
    assert both["f"]["seconds"] == pytest.approx(18), "nine targets; the backbone's own cell is left out"
    assert both["f"]["joules"] is None and both["f"]["MMACs"] == 2
    assert times(ten("f"))["f"]["T/T_FFT"] is None
    assert times(base[:-1] + ten("f"))["f"]["T/T_FFT"] is None
    for name, value in (("machine", "other"), ("workers", 1), ("threads", 4), ("device", "H100")):
        assert times(base + ten("f", **{name: value}))["f"]["T/T_FFT"] is None, name
    seeds = times(ten(train_seconds=2.0) + ten(seed=1, train_seconds=6.0) + ten("f", train_seconds=4.0))
    assert seeds["f"]["T/T_FFT"] == pytest.approx(1) and seeds["finetune"]["seconds"] == pytest.approx(36)
    assert times(ten(joules=2.0))["finetune"]["joules"] == pytest.approx(18)


def test_files_hold_every_group_and_nulls_where_nothing_is(tmp_path: Path):
    found = tables(ten() + ten("f", 90.0)[:3] + ten(limit=5) + [record("f", "mine", 5.0)])
    paths = table_files.write(found, tmp_path)
    assert [p.name for p in paths] == ["table1.parquet", "table1.md", "timing.parquet"]
    lines = pq.read_table(tmp_path / "table1.parquet").to_pylist()
    assert len(lines) == 3 and {line["limit"] for line in lines} == {None, 5}
    f = next(line for line in lines if line["method"] == "f")
    assert f["UCF"] is None and f["S"] is None and f["mean"] is None and f["mine"] == 5.0 and f["mine sd"] is None
    assert [line["training"] for line in lines] == [1, 1, 1]
    assert (tmp_path / "table1.md").read_text().count("## ") == 2
    assert len(pq.read_table(tmp_path / "timing.parquet")) == 3


def test_own_domain_cannot_take_a_column_that_is_there():
    assert {name for name, _ in table_files.ABOUT} | {"mean"} <= table_files.TAKEN
    assert {"data", "split", "method", "limit"} <= table_files.TAKEN and "mine" not in table_files.TAKEN


def test_no_records_make_empty_tables(tmp_path: Path):
    assert tables([]) == []
    table_files.write([], tmp_path)
    assert len(pq.read_table(tmp_path / "table1.parquet")) == 0
