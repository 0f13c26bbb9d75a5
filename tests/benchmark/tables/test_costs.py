"""Times and costs of a table: sums, ratios to fine-tune, and the conditions under which times are comparable."""

import pytest

from tests.benchmark.drawn_records import record, ten
from tests.benchmark.drawn_tables import table_of
from visual_decathlon.benchmark.report import sheets


def test_times_are_compared_with_the_baseline_of_the_same_machine_and_load():
    def times(records: list[dict]) -> dict:
        return {row["method"]: row for row in table_of(records).timing}

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
        return {row["method"]: row for row in table_of(records).timing}["f"]

    def shown(records: list[dict]) -> tuple[dict[str, str], list[str]]:
        sheet = sheets.timing(table_of(records))
        return {row[0]: row[sheet.head.index("seconds")] for row in sheet.rows}, sheet.notes

    quiet, base = {"train_seconds": 4.0, "cpu_seconds": 4.0}, ten(train_seconds=4.1, cpu_seconds=4.0)
    for seconds, mark in ((3.0, ""), (3.29, ""), (3.4, "*"), (8.0, "*")):
        disturbed = base + ten("f", train_seconds=seconds, cpu_seconds=3.0)
        assert line(disturbed)["T/T_FFT"] == pytest.approx(0.75), "independent of the wall clock"
        assert line(disturbed)["seconds"] == pytest.approx(9 * seconds)
        assert line(disturbed)["processor s"] == pytest.approx(27)
        texts, notes = shown(disturbed)
        assert texts == {"F": f"{9 * seconds:.1f}{mark}", "Finetune": "36.9"}
        assert (sheets.DISTURBED in notes) == bool(mark)
    assert line(base + ten("f", train_seconds=2.0, prepare_seconds=6.0, cpu_seconds=8.0))["T/T_FFT"] == 2
    # Older records have the wall clock only, and so have those of a GPU.
    assert line(ten() + ten("f", train_seconds=2.0, cpu_seconds=1.0))["T/T_FFT"] == pytest.approx(0.5)
    assert line(base + ten("f", train_seconds=8.2))["T/T_FFT"] == pytest.approx(2)
    gpu = {"device": "H100", "cpu_seconds": 1.0}
    assert line(ten(**gpu, train_seconds=4.0) + ten("f", **gpu, train_seconds=2.0))["T/T_FFT"] == pytest.approx(0.5)
    assert line(ten(**quiet)[:-1] + ten("f", **quiet))["T/T_FFT"] is None


def test_ratios_are_of_runs_that_shared_the_device_alike():
    def ratio(*records: list[dict]) -> float | None:
        return {row["method"]: row for row in table_of([r for some in records for r in some]).timing}["f"]["T/T_FFT"]

    eight, alone, unknown = ({"device": "H100", "runs_on_device": count} for count in (8, 1, None))
    mine = ten("f", train_seconds=8.0, **eight)
    assert ratio(mine, ten(train_seconds=2.0, **alone)) is None
    assert ratio(mine, ten(train_seconds=2.0, **alone), ten(train_seconds=4.0, seed=1, **eight)) == pytest.approx(2)
    assert ratio(mine, ten(train_seconds=2.0, **unknown)) == pytest.approx(4), "an older record serves for any load"
    assert ratio(ten("f", train_seconds=8.0, **unknown), ten(train_seconds=2.0, **alone)) == pytest.approx(4)
    rows = table_of(ten("f", **alone)[:5] + ten("f", **eight)[5:] + ten("g")).timing
    assert {row["method"]: row["runs_on_device"] for row in rows} == {"f": "1, 8", "g": ""}


def test_times_of_two_devices_have_no_best():
    def marks(records: list[dict]) -> set[str]:
        return {mark for line in sheets.timing(table_of(records)).marks for mark in line}

    assert marks(ten() + ten("f", train_seconds=1.0)) == {"best", "second", ""}
    assert marks(ten() + ten("f", train_seconds=1.0, device="H100")) == {""}


def test_times_of_two_machines_have_no_best_and_both_are_named():
    mixed = ten() + ten("f")[:5] + [r | {"machine": "other"} for r in ten("f")[5:]]
    sheet, rows = sheets.timing(table_of(mixed)), {row["method"]: row for row in table_of(mixed).timing}
    assert {mark for line in sheet.marks for mark in line} == {""}
    assert (rows["f"]["machine"], rows["finetune"]["machine"]) == ("mine, other", "mine")


def test_rows_without_a_time_come_last():
    assert [row["method"] for row in table_of(ten("f", train_seconds=None) + ten("g")).timing] == ["g", "f"]


def test_cost_is_the_storage_of_a_domain():
    (row,) = table_of([*ten("f", bits=64, bytes=4000.0), record("f", "mine", bits=64, bytes=4000.0)]).cost
    assert (row["floats"], row["bits"], row["head floats"], row["kB a domain"]) == (111, 64, 10, 4.0)
    assert (row["#par."], row["#par. with heads"]) == (2.0, 2.1) and (row["MMACs"], row["merged MMACs"]) == (2, 1)


def test_timing_and_cost_lead_back_to_their_records():
    table = table_of(ten() + ten(seed=1))
    for rows_of in (table.timing, table.cost):
        assert rows_of[0]["seeds"] == 2 and len(rows_of[0]["records"].split("finetune ")) == 21
    assert "records" not in sheets.timing(table).head
