"""Tables are pure functions of records: who shares one, whose errors set E_max, what stays empty."""

import statistics
import sys
from pathlib import Path

import pandas as pd
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tests.benchmark.drawn_records import SETTINGS, record, ten
from visual_decathlon.benchmark.perf.synthetic_records import write_many
from visual_decathlon.benchmark.records.schema import TAKEN
from visual_decathlon.benchmark.records.store import read_frame
from visual_decathlon.benchmark.report import files, sheets
from visual_decathlon.benchmark.report.latex import latex
from visual_decathlon.benchmark.report.markdown import markdown
from visual_decathlon.benchmark.tables.detail import detail
from visual_decathlon.benchmark.tables.published import published, published_baseline
from visual_decathlon.benchmark.tables.ranking import ranks
from visual_decathlon.benchmark.tables.score import ceilings, score
from visual_decathlon.benchmark.tables.table1 import Table
from visual_decathlon.benchmark.tables.table1 import tables as of_frames
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.io import write_all


def tables(records: list[dict], shipped: list[dict] = ()) -> list[Table]:
    return of_frames(pd.DataFrame(records), pd.DataFrame(shipped) if shipped else None)


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
    assert len(tables(ten() + ten("feature", machine="other", device="H100", commit="x", command="z"))) == 1


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
    assert (row.seeds, row.official_count) == (3, 10)
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
    assert row.mean is None and row.S is None and row.official_count == 9
    assert sheets.cells(row, [], 2)[-2:] == ["(9/10)", ""]
    assert "not all ten" in table.why_no_score


VERSIONS = '{"python": "3.12", "torch": "2.15.0", "cpu": "AVX512"}'


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({}, ""),
        ({"commit": "x", "created": "2027-01-01T00:00:00+00:00", "workers": 7}, ""),
        ({"versions": VERSIONS.replace("3.12", "3.11")}, ""),  # Python adds nothing up
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
def test_a_shipped_baseline_from_another_processor_is_told_in_the_note(other: dict, told: str):
    here = {"machine": "mine", "versions": VERSIONS, "device": "cpu"}
    table = one(ten("f", 90.0, **here | other), ten(**here))
    assert rows(table)["f"].S.mean == pytest.approx(5625), "it serves all the same"
    assert "another run" in table.baseline
    notes = " ".join(sheets.table1(table).notes)
    if told:
        assert f"computed elsewhere: mine, torch 2.15.0, cpu AVX512; these rows: {told})" in notes
    else:
        assert "elsewhere" not in notes


def test_a_shipped_baseline_of_unknown_instruction_set_is_told_as_perhaps_from_elsewhere():
    here, old = {"machine": "mine", "device": "cpu"}, '{"python": "3.11", "torch": "2.15.0"}'
    notes = " ".join(sheets.table1(one(ten("f", 90.0, versions=VERSIONS, **here), ten(versions=old, **here))).notes)
    assert (
        "run, perhaps computed elsewhere: mine, torch 2.15.0, instruction set not recorded; these rows: mine, " in notes
    )
    far = here | {"machine": "another"}
    notes = " ".join(sheets.table1(one(ten("f", 90.0, versions=VERSIONS, **far), ten(versions=old, **here))).notes)
    assert "run, computed elsewhere: mine, " in notes
    notes = " ".join(sheets.table1(one(ten("f", 90.0, versions=old, **here), ten(versions=old, **here))).notes)
    assert "elsewhere" not in notes


def test_perfect_baseline_leaves_the_score_empty_and_says_why():
    table = one(ten()[:-1] + [record(domain="ucf101", top1=100.0)] + ten("f", 90.0))
    assert all(row.S is None and row.mean is not None for row in table.rows)
    assert "no error on ucf101" in table.why_no_score


def test_shipped_records_are_the_baseline_and_nothing_else():
    shipped = ten() + ten("feature", 50.0)
    table = one(ten("f", 90.0), shipped)
    assert list(rows(table)) == ["f"] and rows(table)["f"].S.mean == pytest.approx(5625)
    assert "another run" in table.baseline
    mine = one(ten("f", 90.0) + ten(top1=60.0, hash="x"), shipped)
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
    assert rows(table)["g"].official_count == 0 and rows(table)["g"].mean is None
    assert sheets.table1(table).head[-3:] == ["mine", "mean", "S"]
    nine = one(ten()[:-1] + [record(domain="mine")] + ten("f"))
    assert rows(nine)["f"].S is None


def real(method: str, top1: dict[str, float]) -> list[dict]:
    more = {"split": "test", "standin": False, "data": "decathlon-1.0", "data_id": "x"}
    return [record(method, n, v, eval_images=DOMAINS[n].counts[2], **more) for n, v in top1.items()]


def test_published_baseline_serves_the_whole_real_test_split_alone():
    base = published_baseline()
    table = one(real("f", base))
    assert "published" in table.baseline and rows(table)["f"].S.mean == pytest.approx(2500)
    assert sheets.published_note(table) == sheets.COMPARABLE
    for change in ({"standin": True}, {"split": "val"}, {"limit": 10}, {"eval_images": 10}):
        table = one([r | change for r in real("f", base)])
        assert table.baseline == "none" and rows(table)["f"].S is None, change
        assert sheets.published_note(table) == sheets.NOT_COMPARABLE
    assert one(real("f", base)[:-1]).baseline == "none"


def test_published_rows_stand_apart_with_the_decimals_they_have():
    text = markdown([one(ten() + ten("ba2", 90.0))], sheets.table1)
    ours, theirs = text.split(sheets.NOT_COMPARABLE)
    assert (
        "| Ba2 |" in ours
        and "| BA2 (beta=1) (published) |" in theirs
        and "| Finetune (published) | 10 | 59.87 |" in theirs
    )
    row = next(row for row in published() if row.method == "ba2")
    assert sheets.published_cells(row, [])[2:4] == ["56.9", "49.9"] and sheets.published_cells(row, [])[-2:] == [
        "75.7",
        "3199",
    ]


def test_markdown_escapes_what_would_end_a_cell():
    text = markdown([one(ten("f(x='a|b<i>*')"))], sheets.table1)
    line = next(line for line in text.splitlines() if "a\\|b\\<i\\>\\*" in line)
    assert line.replace("\\|", "").count("|") == len(sheets.table1(one(ten("f"))).head) + 1


def test_cut_and_standin_data_are_named_in_the_heading():
    assert "CUT to 5 images" in sheets.heading(one(ten(limit=5)))
    assert sheets.heading(one(ten())).startswith("Stand-in data standin-v1-seed0, split val")


def test_times_stand_against_the_baseline_of_the_same_machine_and_load():
    def times(records: list[dict]) -> dict:
        return {row["method"]: row for row in one(records).timing}

    base = ten()
    both = times(base + ten("f", train_seconds=1.0, prepare_seconds=1.0))
    assert both["f"]["T/T_FFT"] == pytest.approx(0.5) and both["finetune"]["T/T_FFT"] == pytest.approx(1)
    assert both["f"]["seconds"] == pytest.approx(18), "nine targets; the backbone's own cell is left out"
    assert both["f"]["joules"] is None
    assert times(ten("f"))["f"]["T/T_FFT"] is None
    assert times(base[:-1] + ten("f"))["f"]["T/T_FFT"] is None
    for name, value in (("machine", "other"), ("workers", 1), ("threads", 4), ("device", "H100")):
        assert times(base + ten("f", **{name: value}))["f"]["T/T_FFT"] is None, name
    fine = ten(train_seconds=2.0) + ten(seed=1, train_seconds=6.0)
    seeds = times(fine + ten("f", train_seconds=4.0) + ten("g", train_seconds=4.0, seed=2))
    assert seeds["finetune"]["seconds"] == pytest.approx(36)
    assert seeds["f"]["T/T_FFT"] == pytest.approx(2), "the same seed's"
    assert seeds["g"]["T/T_FFT"] == pytest.approx(1), "all seeds', where there is none of its own"
    assert times(ten(joules=2.0))["finetune"]["joules"] == pytest.approx(18)


def test_ratios_on_a_cpu_are_of_processor_time_and_rows_disturbed_by_others_are_marked():
    def line(records: list[dict]) -> dict:
        return {row["method"]: row for row in one(records).timing}["f"]

    def shown(records: list[dict]) -> tuple[dict[str, str], list[str]]:
        sheet = sheets.timing(one(records))
        return {row[0]: row[sheet.head.index("seconds")] for row in sheet.rows}, sheet.notes

    quiet, base = {"train_seconds": 4.0, "cpu_seconds": 4.0}, ten(train_seconds=4.1, cpu_seconds=4.0)
    for seconds, mark in ((3.0, ""), (3.29, ""), (3.4, "*"), (8.0, "*")):
        disturbed = base + ten("f", train_seconds=seconds, cpu_seconds=3.0)
        assert line(disturbed)["T/T_FFT"] == pytest.approx(0.75), "whatever the clock says"
        assert line(disturbed)["seconds"] == pytest.approx(9 * seconds)
        assert line(disturbed)["processor s"] == pytest.approx(27)
        texts, notes = shown(disturbed)
        assert texts == {"F": f"{9 * seconds:.1f}{mark}", "Finetune": "36.9"}
        assert (sheets.DISTURBED in notes) == bool(mark)
    assert line(base + ten("f", train_seconds=2.0, prepare_seconds=6.0, cpu_seconds=8.0))["T/T_FFT"] == 2
    # Records of before have the clock alone, and so has a GPU.
    assert line(ten() + ten("f", train_seconds=2.0, cpu_seconds=1.0))["T/T_FFT"] == pytest.approx(0.5)
    assert line(base + ten("f", train_seconds=8.2))["T/T_FFT"] == pytest.approx(2)
    gpu = {"device": "H100", "cpu_seconds": 1.0}
    assert line(ten(**gpu, train_seconds=4.0) + ten("f", **gpu, train_seconds=2.0))["T/T_FFT"] == pytest.approx(0.5)
    assert line(ten(**quiet)[:-1] + ten("f", **quiet))["T/T_FFT"] is None


def test_ratios_are_of_runs_that_shared_the_device_alike():
    def ratio(*records: list[dict]) -> float | None:
        return {row["method"]: row for row in one([r for some in records for r in some]).timing}["f"]["T/T_FFT"]

    eight, alone, unsaid = ({"device": "H100", "runs_on_device": count} for count in (8, 1, None))
    mine = ten("f", train_seconds=8.0, **eight)
    assert ratio(mine, ten(train_seconds=2.0, **alone)) is None
    assert ratio(mine, ten(train_seconds=2.0, **alone), ten(train_seconds=4.0, seed=1, **eight)) == pytest.approx(2)
    assert ratio(mine, ten(train_seconds=2.0, **unsaid)) == pytest.approx(4), "a record of before, as it was"
    assert ratio(ten("f", train_seconds=8.0, **unsaid), ten(train_seconds=2.0, **alone)) == pytest.approx(4)
    rows = one(ten("f", **alone)[:5] + ten("f", **eight)[5:] + ten("g")).timing
    assert {row["method"]: row["runs_on_device"] for row in rows} == {"f": "1, 8", "g": ""}


def test_files_hold_every_group_and_nulls_where_nothing_is(tmp_path: Path):
    found = tables(ten() + ten("f", 90.0)[:3] + ten(limit=5) + [record("f", "mine", 5.0)])
    paths = write_all(files.contents(found, tmp_path))
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
    assert {path: path.read_bytes() for path in write_all(files.contents(found, tmp_path))} == before


def test_groups_say_what_sets_them_apart_and_never_share_a_ranking():
    other = SETTINGS.replace("0.25", "0.5")
    found = tables(ten() + ten("f", 90.0) + ten("g", 99.0, settings=other, split="test") + ten("g", 98.0, limit=5))
    text = markdown(found, sheets.table1)
    reasons = [line for line in text.splitlines() if line.startswith("Not comparable")]
    first, *others = (sheets.heading(table) for table in found)
    assert len(reasons) == len(others) == 2 and text.index(first) < text.index(others[0])
    assert {sheets.differs(table, found[0]) for table in found[1:]} == {
        "splits cut to 5 images",
        "split test; width=0.5",
    }
    marked = {row[0]: marks[-2] for t in found for s in [sheets.table1(t)] for row, marks in zip(s.rows, s.marks)}
    assert marked == {"Finetune": "second", "F": "best", "G": ""}, "who is alone is not best"


def test_best_and_second_are_those_of_the_printed_numbers():
    assert ranks([1.0, 3.0, 2.0, None, 3.004], 2) == ["", "best", "second", "", "best"]
    assert ranks([1.0, 3.0, 2.0], 0, largest=False) == ["best", "", "second"]
    assert ranks([2.0, 2.001], 1) == ranks([None, 1.0], 1) == ["", ""] and ranks([], 1) == []
    sheet = sheets.table1(one(ten() + ten("f", 90.0) + ten("g", 85.0)))
    by_name = {row[0]: marks for row, marks in zip(sheet.rows, sheet.marks, strict=True)}
    assert by_name["F"] == ["", "", "", *["best"] * 11] and by_name["G"] == ["", "", "", *["second"] * 11]
    assert by_name["Finetune"] == [""] * 14, "imagenet12 is the backbone's own and has no best"
    text = markdown([one(ten() + ten("f", 90.0) + ten("g", 85.0))], sheets.table1)
    assert "| F | 2.00 | 90.00 | **90.00** |" in text and "| G | 2.00 | 85.00 | <u>85.00</u> |" in text


def test_times_of_two_devices_have_no_best():
    def marks(records: list[dict]) -> set[str]:
        return {mark for line in sheets.timing(one(records)).marks for mark in line}

    assert marks(ten() + ten("f", train_seconds=1.0)) == {"best", "second", ""}
    assert marks(ten() + ten("f", train_seconds=1.0, device="H100")) == {""}


def test_times_of_two_machines_have_no_best_and_a_method_of_both_names_both():
    mixed = ten() + ten("f")[:5] + [r | {"machine": "other"} for r in ten("f")[5:]]
    sheet, rows = sheets.timing(one(mixed)), {row["method"]: row for row in one(mixed).timing}
    assert {mark for line in sheet.marks for mark in line} == {""}
    assert (rows["f"]["machine"], rows["finetune"]["machine"]) == ("mine, other", "mine")


def test_what_has_no_time_is_last():
    assert [row["method"] for row in one(ten("f", train_seconds=None) + ten("g")).timing] == ["g", "f"]


def test_cost_is_what_a_domain_stores():
    (row,) = one([*ten("f", bits=64, bytes=4000.0), record("f", "mine", bits=64, bytes=4000.0)]).cost
    assert (row["floats"], row["bits"], row["head floats"], row["kB a domain"]) == (111, 64, 10, 4.0)
    assert (row["#par."], row["#par. with heads"]) == (2.0, 2.1) and (row["MMACs"], row["merged MMACs"]) == (2, 1)


def test_detail_has_the_seeds_the_interval_and_the_gap(tmp_path: Path):
    records = [r for s, v in {0: 90.0, 2: 80.0}.items() for r in ten("f", v, s)] + ten()
    rows = {(r["method"], r["domain"]): r for r in detail(one(records)).to_pylist()}
    row = rows["f", "dtd"]
    assert (row["top1"], row["gap"], row["seeds"]) == (85.0, 5.0, "0 2") and row["sd"] == pytest.approx(50**0.5)
    low, high = (100 * v for v in proportion_interval(85, 100))
    assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(high))
    assert row["records"].split(" f ")[-1].startswith("dtd 2") and row["seconds"] == 4.0
    source = rows["f", "imagenet12"]
    assert source["sd"] is None and source["seconds"] is None
    assert [d for m, d in rows if m == "f"] == list(DOMAINS)


def proportion_interval(hits: int, n: int) -> tuple[float, float]:
    """Wilson's, by its definition: the shares p whose distance to hits / n is 1.96 of their own deviations."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    z = norm.ppf(0.975)
    off = lambda p: abs(hits / n - p) - z * (p * (1 - p) / n) ** 0.5
    return brentq(off, 1e-9, hits / n), brentq(off, hits / n, 1 - 1e-9)


def test_latex_escapes_and_marks():
    text = latex([one(ten() + ten("f(x='a_b&c%')", 90.0))], sheets.table1)
    assert "F(x='a\\_b\\&c\\%')" in text and "\\textbf{90.00}" in text
    assert text.count("\\begin{table}") == text.count("\\end{table}") == 1
    body = [line for line in text.splitlines() if line.endswith("\\\\")]
    assert {line.replace("\\&", "").count("&") for line in body} == {13}
    assert "\\underline{80.00}" in text and "\\toprule" in text


def test_own_domain_cannot_take_a_column_that_is_there():
    assert {name for name, _ in files.ABOUT} | {"mean"} <= TAKEN
    assert {"data", "split", "method", "limit"} <= TAKEN and "mine" not in TAKEN


def test_no_records_make_no_tables(tmp_path: Path):
    assert of_frames(read_frame([tmp_path])) == []
    (tmp_path / "table1.md").write_text("of other rows")
    assert write_all(files.contents([], tmp_path)) == [] and list(tmp_path.iterdir()) == []


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


def test_two_methods_of_one_label_are_told_apart_and_a_label_is_one_line():
    table = one(ten() + ten("f", label="Same") + ten("g", label="Same\nx") + ten("h", label="Same\n\nx"))
    assert [row.label for row in table.rows if row.method != "finetune"] == ["Same", r"Same\n\nx", r"Same\nx"]


def test_one_perfect_seed_of_fine_tune_leaves_the_shipped_baseline():
    perfect = ten()[:9] + [record("finetune", list(DOMAINS)[9], 100.0)]
    table = one(perfect + ten("f", 90.0), ten(top1=80.0, hash="x"))
    assert rows(table)["f"].S.mean == pytest.approx(10 * 1000 * (30 / 40) ** 2)
    assert table.baseline.endswith("(records of another run)")
    alone = one(perfect + ten("f", 90.0))
    assert rows(alone)["f"].S is None and "has no error" in alone.why_no_score


def test_mean_and_score_say_over_which_seeds_they_are():
    table = one(ten() + ten(seed=1)[:9])
    (row,) = table.rows
    assert (row.seeds, row.complete) == (2, 1)
    assert "Mean and S are over the seeds that have all ten domains." in sheets.notes(table)
    assert not any("ten domains" in note for note in sheets.notes(one(ten() + ten(seed=1))))


def test_headings_and_rows_are_no_markup_and_no_option():
    found = tables(ten("f", label="[2cm] x") + ten("g", profile="*p*\n\n# H <b>"))
    text = markdown(found, sheets.table1)
    assert not any(line.startswith("# H") for line in text.splitlines()) and "# H \\<b\\>" in text
    lines = latex(found, sheets.table1).splitlines()
    assert any(line.startswith("{}[2cm] x") for line in lines) and not any(line.startswith("[") for line in lines)


def test_timing_and_cost_lead_back_to_their_records():
    table = one(ten() + ten(seed=1))
    for rows_of in (table.timing, table.cost):
        assert rows_of[0]["seeds"] == 2 and len(rows_of[0]["records"].split("finetune ")) == 21
    assert "records" not in sheets.timing(table).head
